// Reading and adding what an index names: rows (embedding, index_select, index_add) and elements (gather, scatter_add).
//
// Idea:       nothing here computes, so all that counts is which bytes move. A row of x is copied whole; an element of a
//             gather costs its own 4 bytes, 8 of the index and 4 of the result.
// Why faster: the two that add write y once, slice by slice: a range of about 1 MiB of y is filled and added to while it
//             lies in L2, which saves a pass over y. Each range walks all the indices and takes its own. Any number of
//             threads gives the same bits without atomics: a task owns what it writes and walks the indices in order,
//             so an element of y adds its terms in the order of the index, however y is cut.
// Still hurts: a scatter_add along the first axis is one task, and so is an index_add of single numbers.
#include <algorithm>
#include <cstring>

#include "core/kernels.h"
#include "core/parallel.h"

namespace glassgrad {

namespace {

constexpr i64 CHUNK_ELEMENTS = 1 << 15;  // about 10 us at the speed of memory
constexpr i64 RANGE_BYTES = 1 << 20;     // half of a common L2 cache
constexpr i64 MOST_RANGES = 16;          // each walks all indices, which costs about 1 ns an index

/// y = x, or 0 where x is null, for n elements.
template <class T>
void start(T* y, const T* x, i64 n) {
    x ? static_cast<void>(std::copy(x, x + n, y)) : std::fill(y, y + n, T(0));
}

/// Error unless all are in [0, n). A pass of its own over what the pass behind it finds in cache: it vectorises, since
/// a sign bit tells of either side.
void expect_in_range(const i64* index, i64 count, i64 n) {
    std::uint64_t outside = 0;
    for (i64 k = 0; k < count; ++k) {
        const auto i = static_cast<std::uint64_t>(index[k]);
        outside |= i | (static_cast<std::uint64_t>(n) - 1 - i);
    }
    check(!(outside >> 63), "index out of range");
}

}  // namespace

template <class T>
void index_select(T* y, const T* x, const i64* index, i64 outer, i64 n, i64 inner, i64 m) {
    if (!inner) return expect_in_range(index, m, n);
    parallel_for(outer * m, ceil_div(CHUNK_ELEMENTS, inner + 1), [=](i64 begin, i64 end) {
        for (i64 i = begin; i < end;) {
            const i64 o = i / m, first = i % m, last = std::min(m, first + end - i);
            const T* from = x + o * n * inner;
            T* to = y + i * inner;
            i += last - first;
            expect_in_range(index + first, last - first, n);
            if (inner == 1) {
                for (i64 k = first; k < last; ++k) *to++ = from[index[k]];
                continue;
            }
            for (i64 k = first; k < last; ++k, to += inner)
                std::memcpy(to, from + index[k] * inner, static_cast<std::size_t>(inner) * sizeof(T));
        }
    });
}

template <class T>
void index_add(T* y, const T* x, const T* source, const i64* index, i64 outer, i64 n, i64 inner, i64 m) {
    expect_in_range(index, m, n);
    const i64 most = std::min(MOST_RANGES, inner);  // a walk must stay cheap beside the additions
    const i64 bytes = n * inner * static_cast<i64>(sizeof(T));
    const i64 rows = std::max<i64>(1, ceil_div(n, std::clamp<i64>(bytes / RANGE_BYTES, 1, std::max<i64>(1, most))));
    const i64 ranges = ceil_div(n, rows);
    parallel_for(outer * ranges, ceil_div(CHUNK_ELEMENTS, (rows + m / std::max<i64>(1, ranges)) * inner + 1),
                 [=](i64 begin, i64 end) {
                     for (i64 task = begin; task < end; ++task) {
                         const i64 o = task / ranges, low = task % ranges * rows, high = std::min(n, low + rows);
                         const i64 at = (o * n + low) * inner;
                         start(y + at, x ? x + at : nullptr, (high - low) * inner);
                         const T* from = source + o * m * inner;
                         for (i64 k = 0; k < m; ++k, from += inner) {
                             if (index[k] < low || index[k] >= high) continue;
                             T* to = y + (o * n + index[k]) * inner;
                             for (i64 j = 0; j < inner; ++j) to[j] += from[j];
                         }
                     }
                 });
}

template <class T>
void gather(T* y, const T* x, const i64* index, const GatherShape& s) {
    parallel_for(s.index_outer * s.m, ceil_div(CHUNK_ELEMENTS, s.index_inner + 1), [=](i64 begin, i64 end) {
        for (i64 i = begin; i < end;) {
            const i64 o = i / s.m, rows = std::min(s.m - i % s.m, end - i);
            const T* from = x + o * s.n * s.inner;
            const i64* where = index + i * s.index_inner;
            T* to = y + i * s.index_inner;
            i += rows;
            expect_in_range(where, rows * s.index_inner, s.n);
            if (s.inner == 1 && s.index_inner == 1) {
                for (i64 k = 0; k < rows; ++k) to[k] = from[where[k]];
                continue;
            }
            for (i64 k = 0; k < rows; ++k, where += s.index_inner, to += s.index_inner)
                for (i64 j = 0; j < s.index_inner; ++j) to[j] = from[where[j] * s.inner + j];
        }
    });
}

template <class T>
void scatter_add(T* y, const T* x, const T* source, const i64* index, const GatherShape& s) {
    parallel_for(s.outer, ceil_div(CHUNK_ELEMENTS, s.n * s.inner + s.m * s.index_inner + 1), [=](i64 begin, i64 end) {
        for (i64 o = begin; o < end; ++o) {
            const i64 at = o * s.n * s.inner;
            T* to = y + at;
            start(to, x ? x + at : nullptr, s.n * s.inner);
            if (o >= s.index_outer) continue;
            const T* from = source + o * s.m * s.index_inner;
            const i64* where = index + o * s.m * s.index_inner;
            expect_in_range(where, s.m * s.index_inner, s.n);
            for (i64 k = 0; k < s.m; ++k, where += s.index_inner, from += s.index_inner)
                for (i64 j = 0; j < s.index_inner; ++j) to[where[j] * s.inner + j] += from[j];
        }
    });
}

#define INSTANTIATE(T)                                                                  \
    template void index_select<T>(T*, const T*, const i64*, i64, i64, i64, i64);        \
    template void index_add<T>(T*, const T*, const T*, const i64*, i64, i64, i64, i64); \
    template void gather<T>(T*, const T*, const i64*, const GatherShape&);              \
    template void scatter_add<T>(T*, const T*, const T*, const i64*, const GatherShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE
template void index_select<i64>(i64*, const i64*, const i64*, i64, i64, i64, i64);
template void gather<i64>(i64*, const i64*, const i64*, const GatherShape&);

}  // namespace glassgrad
