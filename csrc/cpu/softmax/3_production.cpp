// Softmax, rung 3: any axis, any length, every core. This is what softmax calls; log_softmax and the derivatives of
// both, which are made of the same passes, stand below it.
//
// Idea:       the work must fit the shape: rows, rows shorter than a register, and columns are three loops.
// Changed:    a quotient is a product with 1 / sum. A row of up to one register is computed in it. Softmax of columns
//             takes strips of them, vectors wide, down all rows, copied side by side on the way. Threads share out
//             rows or strips.
// Why faster: 16 divisions become one. A short row is read and written once: nothing waits for a masked store. Columns
//             need no transpose: the lanes of a register are neighbours, each with its own maximum and sum, and a
//             strip is so narrow that its copy stays in L2 until the last pass.
// Still hurts: rows of 17 to 60 numbers pay for a masked end in each pass; few columns leave lanes idle.
#include <cmath>

#include "core/allocator.h"
#include "core/parallel.h"
#include "cpu/softmax/rows.h"

namespace glassgrad {

namespace {

/// A row of at most one register: half of networks' softmaxes have 10 classes.
template <class T>
void short_row(T* y, const T* x, int cols) {
    Vec<T> e = load_partial(x, cols, NONE<T>);
    e = math::exp<Vec<T>>(e - row_max<T>(e));
    store_partial(y, e * (T(1) / horizontal_sum<T>(e)), cols);
}
template <class T>
void long_row(T* y, const T* x, i64 cols) {
    const T max = row_max(x, cols);
    const T sum = sum_row<T>(cols, [=](i64 j, int lanes) {
        __builtin_prefetch(x + cols + j);  // the next row: memory would idle while this one is computed
        const Vec<T> e = math::exp<Vec<T>>(load_lanes(x + j, lanes, NONE<T>) - max);
        store_lanes(y + j, e, lanes);
        return e;
    });
    const T scale = T(1) / sum;
    map_row(y, cols, [=](i64 j, int lanes) { return load_lanes(y + j, lanes) * scale; });
}

// ---- columns --------------------------------------------------------------------------------------------------------

constexpr int STRIP = 8;              // vectors
constexpr i64 STRIP_BYTES = 1 << 20;  // of one packed operand: half of a large L2
constexpr i64 AHEAD = 8;              // rows: each is another page, which the hardware does not fetch by itself

/// Some columns of (cols, inner) matrices, to be copied side by side: rows that lie a power of two apart fall into the
/// same few sets of the cache and push each other out before the second pass.
template <class T>
struct Strip {
    i64 cols, inner, width;

    i64 vectors() const { return (width + W<T> - 1) / W<T>; }
    /// f(offset in a matrix, lanes, offset in a copy, number of the vector in its row), row by row.
    template <class F>
    void each(F&& f) const {
        for (i64 i = 0; i < cols; ++i)
            for (i64 v = 0; v < vectors(); ++v) {
                const int lanes = static_cast<int>(std::min<i64>(W<T>, width - v * W<T>));
                f(i * inner + v * W<T>, lanes, (i * vectors() + v) * W<T>, v);
            }
    }
    template <class... P>
    void fetch(i64 at, const P*... p) const {
        (__builtin_prefetch(p + at + AHEAD * inner), ...);
    }
};

/// by_row(offset) for each row where they lie side by side, else by_strip(offset, strip, room for the strip's copies).
template <class T, int COPIES, class ByRow, class ByStrip>
void along(i64 rows, i64 cols, i64 inner, ByRow&& by_row, ByStrip&& by_strip) {
    if (inner == 0) return;
    if (inner == 1) {
        parallel_for(rows, rows_per_chunk(cols), [&](i64 begin, i64 end) {
            for (i64 i = begin; i < end; ++i) by_row(i * cols);
        });
        return;
    }
    const i64 vectors = std::clamp<i64>(STRIP_BYTES / (COPIES * VECTOR_BYTES * std::max<i64>(1, cols)), 1, STRIP);
    const i64 width = std::min(inner, W<T> * vectors), strips = (inner - 1) / width + 1;
    parallel_for(rows * strips, rows_per_chunk(cols * width), [&](i64 begin, i64 end) {
        const Scratch<T> copies(checked_product(cols, COPIES * vectors * W<T>));
        for (i64 i = begin; i < end; ++i) {
            const i64 j = i % strips * width;
            by_strip(i / strips * cols * inner + j, Strip<T>{cols, inner, std::min(width, inner - j)}, copies.get());
        }
    });
}

/// copy = x, max = the largest of each column.
template <class T>
void copy_and_max(T* copy, Vec<T>* max, const T* x, const Strip<T>& strip) {
    std::fill(max, max + STRIP, broadcast(NONE<T>));
    strip.each([&](i64 from, int lanes, i64 to, i64 v) {
        strip.fetch(from, x);
        const Vec<T> value = load_lanes(x + from, lanes);
        store(copy + to, value);
        max[v] = larger<T>(value, max[v]);
    });
}

}  // namespace

template <class T>
void softmax(T* y, const T* x, i64 rows, i64 cols, i64 inner) {
    along<T, 1>(
        rows, cols, inner,
        [=](i64 at) {
            if (cols <= W<T>)
                short_row(y + at, x + at, static_cast<int>(cols));
            else
                long_row(y + at, x + at, cols);
        },
        [=](i64 start, const Strip<T>& strip, T* copy) {
            Vec<T> max[STRIP], sum[STRIP] = {};
            copy_and_max(copy, max, x + start, strip);
            strip.each([&](i64, int, i64 at, i64 v) {
                const Vec<T> e = math::exp<Vec<T>>(load(copy + at) - max[v]);
                store(copy + at, e);
                sum[v] += e;
            });
            for (Vec<T>& s : sum) s = T(1) / s;
            strip.each([&, y = y + start](i64 to, int lanes, i64 from, i64 v) {
                strip.fetch(to, y);
                store_lanes(y + to, load(copy + from) * sum[v], lanes);
            });
        });
}

template <class T>
void log_softmax(T* y, const T* x, i64 rows, i64 cols, i64 inner) {
    along<T, 1>(
        rows, cols, inner,
        [=](i64 start) {
            const T* xi = x + start;
            const T max = row_max(xi, cols), log_sum = std::log(sum_of_exp(xi, max, cols));
            // x - (max + log_sum) would lose log_sum's digits when max is large.
            map_row(y + start, cols, [=](i64 j, int lanes) { return load_lanes(xi + j, lanes) - max - log_sum; });
        },
        [=](i64 start, const Strip<T>& strip, T* copy) {
            Vec<T> max[STRIP], sum[STRIP] = {};
            copy_and_max(copy, max, x + start, strip);
            strip.each([&](i64, int, i64 at, i64 v) { sum[v] += math::exp<Vec<T>>(load(copy + at) - max[v]); });
            for (Vec<T>& s : sum) s = math::log(s);
            strip.each([&, y = y + start](i64 to, int lanes, i64 from, i64 v) {
                strip.fetch(to, y);
                store_lanes(y + to, load(copy + from) - max[v] - sum[v], lanes);
            });
        });
}

namespace {

/// total = the sum of term(dy, y) along the row, dx = slope(dy, y, total). Both are given vectors.
template <class T, class Term, class Slope>
void backward(T* dx, const T* dy, const T* y, i64 rows, i64 cols, i64 inner, Term&& term, Slope&& slope) {
    along<T, 2>(
        rows, cols, inner,
        [&](i64 start) {
            const T *dyi = dy + start, *yi = y + start;
            const T total = sum_row<T>(
                cols, [&](i64 j, int lanes) { return term(load_lanes(dyi + j, lanes), load_lanes(yi + j, lanes)); });
            map_row(dx + start, cols, [&](i64 j, int lanes) {
                return slope(load_lanes(dyi + j, lanes), load_lanes(yi + j, lanes), broadcast(total));
            });
        },
        [&](i64 start, const Strip<T>& strip, T* dy_copy) {
            T* const y_copy = dy_copy + cols * strip.vectors() * W<T>;
            Vec<T> sum[STRIP] = {};
            strip.each([&](i64 at, int lanes, i64 to, i64 v) {
                strip.fetch(at, dy + start, y + start);
                const Vec<T> g = load_lanes(dy + start + at, lanes), value = load_lanes(y + start + at, lanes);
                store(dy_copy + to, g);
                store(y_copy + to, value);
                sum[v] += term(g, value);
            });
            strip.each([&](i64 to, int lanes, i64 from, i64 v) {
                strip.fetch(to, dx + start);
                store_lanes(dx + start + to, slope(load(dy_copy + from), load(y_copy + from), sum[v]), lanes);
            });
        });
}

}  // namespace

template <class T>
void softmax_backward(T* dx, const T* dy, const T* y, i64 rows, i64 cols, i64 inner) {
    using V = Vec<T>;
    backward(
        dx, dy, y, rows, cols, inner, [](const V& g, const V& y) { return g * y; },
        [](const V& g, const V& y, const V& total) { return y * (g - total); });
}
template <class T>
void log_softmax_backward(T* dx, const T* dy, const T* y, i64 rows, i64 cols, i64 inner) {
    using V = Vec<T>;
    backward(
        dx, dy, y, rows, cols, inner, [](const V& g, const V&) { return g; },
        [](const V& g, const V& y, const V& total) { return g - math::exp(y) * total; });
}

#define INSTANTIATE(T)                                                        \
    template void softmax<T>(T*, const T*, i64, i64, i64);                    \
    template void softmax_backward<T>(T*, const T*, const T*, i64, i64, i64); \
    template void log_softmax<T>(T*, const T*, i64, i64, i64);                \
    template void log_softmax_backward<T>(T*, const T*, const T*, i64, i64, i64);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
