// cross_entropy: from logits to the loss, and back.
//
// Forward reads the logits from memory once (the maximum; the sum of exponentials reads them from cache) and writes two
// numbers per row. Backward reads them again and makes the probabilities anew: an exp is cheaper than having stored and
// fetched it, 8 bytes at the speed of memory.
#include <algorithm>
#include <cmath>

#include "core/allocator.h"
#include "core/parallel.h"
#include "cpu/softmax/rows.h"

namespace glassgrad {

namespace {

i64 rows_that_count(const i64* target, i64 rows, i64 ignore_index) {
    return rows - std::count(target, target + rows, ignore_index);
}

}  // namespace

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
    template void cross_entropy<T>(T*, T*, T*, const T*, const i64*, i64, i64, i64, Reduction);                    \
    template void cross_entropy_backward<T>(T*, const T*, const T*, const T*, const T*, const i64*, i64, i64, i64, \
                                            Reduction);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
