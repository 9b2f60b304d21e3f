// Softmax, rung 0: the definition.
//
// Idea:       y = exp(x - max) / sum(exp(x - max)) row by row: one loop finds the maximum, one sums up, one divides.
// Changed:    nothing yet.
// Why faster: it is not. A call of the C library's exp for one number takes 10 to 20 cycles, and there are two of them
//             per element: the second loop throws away what the third will need again.
// Still hurts: one number at a time, where a register holds 16.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/kernels.h"

namespace glassgrad {

template <class T>
void softmax_naive(T* y, const T* x, i64 rows, i64 cols) {
    for (i64 i = 0; i < rows; ++i, x += cols, y += cols) {
        T max = -std::numeric_limits<T>::infinity(), sum = 0;
        for (i64 j = 0; j < cols; ++j) max = x[j] > max || x[j] != x[j] ? x[j] : max;  // NaN wins
        for (i64 j = 0; j < cols; ++j) sum += std::exp(x[j] - max);
        for (i64 j = 0; j < cols; ++j) y[j] = std::exp(x[j] - max) / sum;
    }
}

#define INSTANTIATE(T) template void softmax_naive<T>(T*, const T*, i64, i64);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
