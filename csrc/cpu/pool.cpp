// Max and average pooling.
//
// Maxima: a register holds neighbouring windows, and another the places of their maxima so far; a tap is a load (two
// and a shuffle where windows are 2 apart), two comparisons and two selections, for 16 windows with AVX-512. Windows
// over the left or right edge are done one by one. Means: one output row at a time, tap by tap: the bounds test is done
// once per tap and row, not once per tap and pixel, and the inner loop runs along contiguous outputs.
#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "core/kernels.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace glassgrad {

namespace {

constexpr i64 CHUNK_TAPS = 1 << 15;  // about 15 us

i64 rows_per_chunk(const Pool2dShape& s) { return std::max<i64>(1, CHUNK_TAPS / std::max<i64>(1, s.ow * s.kh * s.kw)); }
i64 planes_per_chunk(const Pool2dShape& s) {
    return std::max<i64>(1, CHUNK_TAPS / std::max<i64>(1, s.h * s.w + s.oh * s.ow * s.kh * s.kw));
}

/// f(iy, offset, begin, end) for every tap of output row oy: input column ox * stride_w + offset is inside for ox in
/// [begin, end).
template <class F>
inline void each_tap(const Pool2dShape& s, i64 oy, F&& f) {
    for (i64 r = 0; r < s.kh; ++r) {
        const i64 iy = oy * s.stride_h - s.pad_h + r * s.dil_h;
        if (iy < 0 || iy >= s.h) continue;
        for (i64 q = 0; q < s.kw; ++q) {
            const i64 offset = q * s.dil_w - s.pad_w;
            const i64 begin = offset >= 0 ? 0 : (-offset + s.stride_w - 1) / s.stride_w;
            const i64 end = offset >= s.w ? 0 : std::min(s.ow, (s.w - 1 - offset) / s.stride_w + 1);
            if (begin < end) f(iy, offset, begin, end);
        }
    }
}

/// Elements the mean divides by along one axis.
inline i64 extent(i64 o, i64 stride, i64 pad, i64 kernel, i64 size, bool count_include_pad) {
    const i64 begin = o * stride - pad, end = std::min(begin + kernel, size + pad);
    return count_include_pad ? end - begin : std::min(end, size) - std::max<i64>(begin, 0);
}

/// Taps [begin, end) of the window that starts at `start` and lie inside an axis of `size`.
struct Taps {
    i64 begin, end;
};
inline Taps taps_inside(i64 start, i64 dilation, i64 kernel, i64 size) {
    const i64 begin = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
    const i64 end = start >= size ? 0 : std::min(kernel, (size - 1 - start) / dilation + 1);
    return {begin, std::max(begin, end)};
}

/// The maximum of one window and where it is.
template <class T>
void max_of_window(T* y, i64* index, const T* plane, const Pool2dShape& s, i64 y0, i64 x0) {
    const Taps rows = taps_inside(y0, s.dil_h, s.kh, s.h), columns = taps_inside(x0, s.dil_w, s.kw, s.w);
    T best = -std::numeric_limits<T>::infinity();
    i64 at = -1;
    for (i64 r = rows.begin; r < rows.end; ++r)
        for (i64 q = columns.begin; q < columns.end; ++q) {
            const i64 position = (y0 + r * s.dil_h) * s.w + x0 + q * s.dil_w;
            const T v = plane[position];
            // at < 0: a window of nothing but -inf still names an element. Nothing exceeds a NaN.
            if (v > best || v != v || at < 0) best = v, at = position;
        }
    *y = best, *index = at;
}

/// The n <= W<T> numbers p[0], p[stride], ...; the other lanes are 0. STRIDE is the stride, or 0 for any.
template <class T, int STRIDE>
inline Vec<T> load_every(const T* p, i64 stride, int n) {
    constexpr int LANES = W<T>;
    if constexpr (STRIDE == 0) {
        Vec<T> v{};
        for (int i = 0; i < n; ++i) v[i] = p[i * stride];
        return v;
    } else if constexpr (STRIDE == 1) {
        return load_lanes(p, n);
    } else {
        const int last = 2 * n - 1;  // the next one may not be there
        Vec<T> low, high;
        if (n == LANES)
            low = load(p), high = load_partial(p + LANES, LANES - 1);
        else if (last > LANES)
            low = load(p), high = load_partial(p + LANES, last - LANES);
        else
            low = load_partial(p, last), high = Vec<T>{};
        return [&]<int... I>(std::integer_sequence<int, I...>) {
            return __builtin_shufflevector(low, high, 2 * I...);
        }(std::make_integer_sequence<int, LANES>());
    }
}

/// The maxima of n <= W<T> neighbouring windows, none of which hangs over the left or right edge: x0 is the first one's
/// left column. At least one of `rows` is inside, and h * w fits the integers of a register.
template <class T, int STRIDE>
void max_of_windows(T* y, i64* index, const T* plane, const Pool2dShape& s, i64 y0, Taps rows, i64 x0, int n) {
    using Int = typename VectorTypes<T>::Int;
    typedef i64 Indices __attribute__((vector_size(W<T> * sizeof(i64))));
    Mask<T> lane;
    for (int i = 0; i < W<T>; ++i) lane[i] = static_cast<Int>(i * s.stride_w);
    Vec<T> best = broadcast(-std::numeric_limits<T>::infinity());
    // Where nothing exceeds -inf the first tap stays named.
    Mask<T> at = lane + static_cast<Int>((y0 + rows.begin * s.dil_h) * s.w + x0);
    for (i64 r = rows.begin; r < rows.end; ++r)
        for (i64 q = 0; q < s.kw; ++q) {
            const i64 position = (y0 + r * s.dil_h) * s.w + x0 + q * s.dil_w;
            const Vec<T> v = load_every<T, STRIDE>(plane + position, s.stride_w, n);
            const Mask<T> take = (v > best) | (v != v);
            best = select(take, v, best);
            at = take ? lane + static_cast<Int>(position) : at;
        }
    const Indices wide = __builtin_convertvector(at, Indices);
    store_lanes(y, best, n);
    std::memcpy(index, &wide, n == W<T> ? sizeof wide : static_cast<std::size_t>(n) * sizeof(i64));
}

}  // namespace

template <class T>
void max_pool2d(T* y, i64* index, const T* x, const Pool2dShape& s) {
    const auto windows = s.stride_w == 1   ? max_of_windows<T, 1>
                         : s.stride_w == 2 ? max_of_windows<T, 2>
                                           : max_of_windows<T, 0>;
    const bool in_vectors = s.h * s.w <= std::numeric_limits<std::int32_t>::max();
    // [inner, outer): the outputs whose windows lie inside from left to right.
    const i64 first_inside = std::min(s.ow, (s.pad_w + s.stride_w - 1) / s.stride_w);
    const i64 room = s.w + s.pad_w - (s.kw - 1) * s.dil_w - 1;  // the rightmost left column, counted from -pad_w
    const i64 inner = in_vectors ? first_inside : s.ow;
    const i64 outer = room < 0 ? inner : std::clamp(room / s.stride_w + 1, inner, s.ow);
    parallel_for(s.planes * s.oh, rows_per_chunk(s), [=](i64 first, i64 last) {
        for (i64 i = first; i < last; ++i) {
            const T* plane = x + i / s.oh * s.h * s.w;
            T* best = y + i * s.ow;
            i64* at = index + i * s.ow;
            const i64 y0 = i % s.oh * s.stride_h - s.pad_h;
            const Taps rows = taps_inside(y0, s.dil_h, s.kh, s.h);
            const i64 until = rows.begin < rows.end ? outer : inner;
            const auto one = [&](i64 ox) {
                max_of_window(best + ox, at + ox, plane, s, y0, ox * s.stride_w - s.pad_w);
            };
            for (i64 ox = 0; ox < inner; ++ox) one(ox);
            for (i64 ox = inner; ox < until; ox += W<T>)
                windows(best + ox, at + ox, plane, s, y0, rows, ox * s.stride_w - s.pad_w,
                        static_cast<int>(std::min<i64>(W<T>, until - ox)));
            for (i64 ox = until; ox < s.ow; ++ox) one(ox);
        }
    });
}

template <class T>
void max_pool2d_backward(T* dx, const T* dy, const i64* index, const Pool2dShape& s) {
    const i64 outputs = s.oh * s.ow, inputs = s.h * s.w;
    parallel_for(s.planes, planes_per_chunk(s), [=](i64 first, i64 last) {
        std::fill(dx + first * inputs, dx + last * inputs, T(0));
        for (i64 p = first; p < last; ++p)
            for (i64 o = p * outputs; o < (p + 1) * outputs; ++o)
                if (index[o] >= 0) dx[p * inputs + index[o]] += dy[o];
    });
}

template <class T>
void avg_pool2d(T* y, const T* x, const Pool2dShape& s, bool count_include_pad) {
    parallel_for(s.planes * s.oh, rows_per_chunk(s), [=](i64 first, i64 last) {
        for (i64 i = first; i < last; ++i) {
            const i64 oy = i % s.oh;
            const T* plane = x + i / s.oh * s.h * s.w;
            T* sum = y + i * s.ow;
            std::fill(sum, sum + s.ow, T(0));
            each_tap(s, oy, [&](i64 iy, i64 offset, i64 begin, i64 end) {
                const T* row = plane + iy * s.w + offset;
                for (i64 ox = begin; ox < end; ++ox) sum[ox] += row[ox * s.stride_w];
            });
            const i64 tall = extent(oy, s.stride_h, s.pad_h, s.kh, s.h, count_include_pad);
            for (i64 ox = 0; ox < s.ow; ++ox) {
                const i64 wide = extent(ox, s.stride_w, s.pad_w, s.kw, s.w, count_include_pad);
                if (tall > 0 && wide > 0) sum[ox] /= static_cast<T>(tall * wide);
            }
        }
    });
}

template <class T>
void avg_pool2d_backward(T* dx, const T* dy, const Pool2dShape& s, bool count_include_pad) {
    parallel_for(s.planes, planes_per_chunk(s), [=](i64 first, i64 last) {
        std::fill(dx + first * s.h * s.w, dx + last * s.h * s.w, T(0));
        for (i64 p = first; p < last; ++p)
            for (i64 oy = 0; oy < s.oh; ++oy) {
                const T* row = dy + (p * s.oh + oy) * s.ow;
                const i64 tall = extent(oy, s.stride_h, s.pad_h, s.kh, s.h, count_include_pad);
                if (tall <= 0) continue;
                // Output by output: the taps of one window overlap those of the next, its quotient is shared.
                for (i64 ox = 0; ox < s.ow; ++ox) {
                    const i64 wide = extent(ox, s.stride_w, s.pad_w, s.kw, s.w, count_include_pad);
                    if (wide <= 0) continue;
                    const T share = row[ox] / static_cast<T>(tall * wide);
                    const i64 y0 = oy * s.stride_h - s.pad_h, x0 = ox * s.stride_w - s.pad_w;
                    for (i64 iy = std::max<i64>(y0, 0); iy < std::min(y0 + s.kh, s.h); ++iy)
                        for (i64 ix = std::max<i64>(x0, 0); ix < std::min(x0 + s.kw, s.w); ++ix)
                            dx[(p * s.h + iy) * s.w + ix] += share;
                }
            }
    });
}

#define INSTANTIATE(T)                                                                  \
    template void max_pool2d<T>(T*, i64*, const T*, const Pool2dShape&);                \
    template void max_pool2d_backward<T>(T*, const T*, const i64*, const Pool2dShape&); \
    template void avg_pool2d<T>(T*, const T*, const Pool2dShape&, bool);                \
    template void avg_pool2d_backward<T>(T*, const T*, const Pool2dShape&, bool);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
