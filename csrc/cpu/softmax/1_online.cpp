// Softmax, rung 1: maximum and sum in one pass (Milakov and Gimelshein 2018).
//
// Idea:       with the maximum so far comes the sum so far, of exp(x - maximum so far). A new maximum m' makes the old
//             sum too large by exp(m' - m), and one multiplication puts it right.
// Changed:    two passes over the row instead of three.
// Why faster: a row that does not fit in the cache is fetched twice instead of three times: 12 bytes per float move
//             instead of 16. On a CPU, whose cache holds rows of 100,000 numbers and whose exp takes 15 cycles, this is
//             little; on a GPU, and in attention, where the row never exists as a whole, it is everything.
// Still hurts: the two calls of exp per element, and each step of the sum waits for the one before.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/kernels.h"

namespace glassgrad {

template <class T>
void softmax_online(T* y, const T* x, i64 rows, i64 cols) {
    for (i64 i = 0; i < rows; ++i, x += cols, y += cols) {
        T max = -std::numeric_limits<T>::infinity(), sum = 0;
        for (i64 j = 0; j < cols; ++j) {
            if (x[j] > max || x[j] != x[j]) {
                // The first number finds nothing to put right: -inf - -inf would be NaN. exp(x - x) is 1, or NaN of
                // inf.
                sum = (sum == 0 ? 0 : sum * std::exp(max - x[j])) + std::exp(x[j] - x[j]);
                max = x[j];
            } else if (x[j] != -std::numeric_limits<T>::infinity()) {
                sum += std::exp(x[j] - max);
            }
        }
        for (i64 j = 0; j < cols; ++j) y[j] = std::exp(x[j] - max) / sum;
    }
}

#define INSTANTIATE(T) template void softmax_online<T>(T*, const T*, i64, i64);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
