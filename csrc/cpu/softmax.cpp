// softmax, log_softmax and cross-entropy, row by row.
//
// A row is read three times (maximum, sum, result), from cache after the first: an online softmax would save one of the
// cached reads for one more exp per element, and exp is the cost here. Per element of a large float array: 4 bytes
// read, 4 written, one exp.
#include <algorithm>
#include <cmath>

#include "core/allocator.h"
#include "core/kernels.h"
#include "core/math.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace glassgrad {

namespace {

constexpr i64 CHUNK_ELEMENTS = 1 << 14;  // about 10 us of exp, ten times what handing a chunk to a thread costs
i64 rows_per_chunk(i64 cols) { return std::max<i64>(1, CHUNK_ELEMENTS / std::max<i64>(1, cols)); }

/// f(element offset, lanes) for a row of cols: whole vectors, then what is left.
template <class T, class Whole, class Rest>
inline void each_vector(i64 cols, Whole&& whole, Rest&& rest) {
    i64 j = 0;
    for (; j + W<T> <= cols; j += W<T>) whole(j);
    if (j < cols) rest(j, static_cast<int>(cols - j));
}

template <class T>
T row_max(const T* x, i64 cols) {
    Vec<T> best = broadcast(-std::numeric_limits<T>::infinity());
    each_vector<T>(
        cols, [&](i64 j) { best = maximum(load(x + j), best); },
        [&](i64 j, int n) { best = maximum(load_partial(x + j, n, -std::numeric_limits<T>::infinity()), best); });
    return horizontal_max<T>(best);
}

/// sum(exp(x - shift)); the missing lanes are -inf and add exp(-inf) = 0.
template <class T>
T sum_of_exp(const T* x, T shift, i64 cols) {
    Vec<T> sum{};
    each_vector<T>(
        cols, [&](i64 j) { sum += math::exp<Vec<T>>(load(x + j) - shift); },
        [&](i64 j, int n) {
            sum += math::exp<Vec<T>>(load_partial(x + j, n, -std::numeric_limits<T>::infinity()) - shift);
        });
    return horizontal_sum<T>(sum);
}

template <class T, class F>
void map_row(T* y, i64 cols, F&& f) {  // f(j, lanes) -> Vec
    each_vector<T>(
        cols, [&](i64 j) { store(y + j, f(j, W<T>)); }, [&](i64 j, int n) { store_partial(y + j, f(j, n), n); });
}
template <class T>
Vec<T> load_lanes(const T* p, int n) {
    return n == W<T> ? load(p) : load_partial(p, n);
}

i64 rows_that_count(const i64* target, i64 rows, i64 ignore_index) {
    return rows - std::count(target, target + rows, ignore_index);
}

}  // namespace

template <class T>
void softmax(T* y, const T* x, i64 rows, i64 cols) {
    parallel_for(rows, rows_per_chunk(cols), [=](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i) {
            const T* xi = x + i * cols;
            T* yi = y + i * cols;
            const T m = row_max(xi, cols);
            Vec<T> sum{};
            each_vector<T>(
                cols,
                [&](i64 j) {
                    const Vec<T> e = math::exp<Vec<T>>(load(xi + j) - m);
                    store(yi + j, e);
                    sum += e;
                },
                [&](i64 j, int n) {
                    const Vec<T> e =
                        math::exp<Vec<T>>(load_partial(xi + j, n, -std::numeric_limits<T>::infinity()) - m);
                    store_partial(yi + j, e, n);
                    sum += e;
                });
            // The lanes beyond the row are NaN only where the row's maximum is -inf or NaN: so is every y.
            const T total = horizontal_sum<T>(sum);
            map_row(yi, cols, [&](i64 j, int n) { return load_lanes(yi + j, n) / total; });
        }
    });
}

template <class T>
void softmax_backward(T* dx, const T* dy, const T* y, i64 rows, i64 cols) {
    parallel_for(rows, rows_per_chunk(cols), [=](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i) {
            const T *dyi = dy + i * cols, *yi = y + i * cols;
            Vec<T> sum{};
            each_vector<T>(
                cols, [&](i64 j) { sum += load(dyi + j) * load(yi + j); },
                [&](i64 j, int n) { sum += load_partial(dyi + j, n) * load_partial(yi + j, n); });
            const T total = horizontal_sum<T>(sum);
            map_row(dx + i * cols, cols,
                    [&](i64 j, int n) { return load_lanes(yi + j, n) * (load_lanes(dyi + j, n) - total); });
        }
    });
}

template <class T>
void log_softmax(T* y, const T* x, i64 rows, i64 cols) {
    parallel_for(rows, rows_per_chunk(cols), [=](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i) {
            const T* xi = x + i * cols;
            const T m = row_max(xi, cols), log_sum = std::log(sum_of_exp(xi, m, cols));
            // x - (m + log_sum) would lose log_sum's digits when m is large.
            map_row(y + i * cols, cols, [&](i64 j, int n) { return load_lanes(xi + j, n) - m - log_sum; });
        }
    });
}

template <class T>
void log_softmax_backward(T* dx, const T* dy, const T* y, i64 rows, i64 cols) {
    parallel_for(rows, rows_per_chunk(cols), [=](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i) {
            const T *dyi = dy + i * cols, *yi = y + i * cols;
            Vec<T> sum{};
            each_vector<T>(
                cols, [&](i64 j) { sum += load(dyi + j); }, [&](i64 j, int n) { sum += load_partial(dyi + j, n); });
            const T total = horizontal_sum<T>(sum);
            map_row(dx + i * cols, cols, [&](i64 j, int n) {
                return load_lanes(dyi + j, n) - math::exp<Vec<T>>(load_lanes(yi + j, n)) * total;
            });
        }
    });
}

template <class T>
void cross_entropy(T* loss, T* max, T* log_sum, const T* logits, const i64* target, i64 rows, i64 cols,
                   i64 ignore_index, Reduction reduction) {
    const bool reduced = reduction != Reduction::NONE;
    const Scratch<T> scratch(reduced ? rows : 0);
    T* const losses = reduced ? scratch.get() : loss;
    parallel_for(rows, rows_per_chunk(cols), [=](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i) {
            const T* xi = logits + i * cols;
            max[i] = row_max(xi, cols);
            log_sum[i] = std::log(sum_of_exp(xi, max[i], cols));
            losses[i] = target[i] == ignore_index ? T(0) : (max[i] - xi[target[i]]) + log_sum[i];
        }
    });
    if (!reduced) return;
    double total = 0;
    for (i64 i = 0; i < rows; ++i) total += losses[i];
    if (reduction == Reduction::MEAN) total /= static_cast<double>(rows_that_count(target, rows, ignore_index));
    *loss = static_cast<T>(total);
}

template <class T>
void cross_entropy_backward(T* dx, const T* dloss, const T* logits, const T* max, const T* log_sum, const i64* target,
                            i64 rows, i64 cols, i64 ignore_index, Reduction reduction) {
    const bool mean = reduction == Reduction::MEAN;
    const T divisor = mean ? static_cast<T>(rows_that_count(target, rows, ignore_index)) : T(1);
    parallel_for(rows, rows_per_chunk(cols), [=](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i) {
            T* dxi = dx + i * cols;
            if (target[i] == ignore_index) {
                std::fill(dxi, dxi + cols, T(0));
                continue;
            }
            const T* xi = logits + i * cols;
            // max + log_sum as one number would lose log_sum's digits when max is large.
            const T m = max[i], l = log_sum[i], scale = dloss[reduction == Reduction::NONE ? i : 0] / divisor;
            map_row(dxi, cols, [&](i64 j, int n) { return math::exp<Vec<T>>(load_lanes(xi + j, n) - m - l) * scale; });
            // exp(..) * scale - scale, but with the difference taken first: near a confident right answer it is tiny.
            dxi[target[i]] = std::expm1(xi[target[i]] - m - l) * scale;
        }
    });
}

#define INSTANTIATE(T)                                                                                             \
    template void softmax<T>(T*, const T*, i64, i64);                                                              \
    template void softmax_backward<T>(T*, const T*, const T*, i64, i64);                                           \
    template void log_softmax<T>(T*, const T*, i64, i64);                                                          \
    template void log_softmax_backward<T>(T*, const T*, const T*, i64, i64);                                       \
    template void cross_entropy<T>(T*, T*, T*, const T*, const i64*, i64, i64, i64, Reduction);                    \
    template void cross_entropy_backward<T>(T*, const T*, const T*, const T*, const T*, const i64*, i64, i64, i64, \
                                            Reduction);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
