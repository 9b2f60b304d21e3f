// The words in which the vectorised rungs, log_softmax and cross_entropy say what they do to a row.
#pragma once

#include <algorithm>
#include <limits>

#include "core/kernels.h"
#include "core/math.h"
#include "core/simd.h"

namespace glassgrad {

/// Elements of a job: about 10 us of exp, ten times what handing it to a thread costs.
inline constexpr i64 CHUNK_ELEMENTS = 1 << 14;
inline i64 rows_per_chunk(i64 cols) { return std::max<i64>(1, CHUNK_ELEMENTS / std::max<i64>(1, cols)); }

template <class T>
inline constexpr T NONE = -std::numeric_limits<T>::infinity();  // what a missing lane holds: exp of it adds 0

/// y[j] = f(j, lanes), a vector at a time.
template <class T, class F>
inline void map_row(T* y, i64 cols, F&& f) {
    each_vector<T>(cols, [&](i64 j, int lanes) { store_lanes(y + j, f(j, lanes), lanes); });
}
/// The sum of f(j, lanes), which gives 0 in lanes beyond the row.
template <class T, class F>
inline T sum_row(i64 cols, F&& f) {
    Vec<T> sum{};
    each_vector<T>(cols, [&](i64 j, int lanes) { sum += f(j, lanes); });
    return horizontal_sum<T>(sum);
}

/// NaN loses, in half the time of a maximum that it wins: it still makes the sum of exp(x - max) NaN.
template <class T>
inline Vec<T> larger(const Vec<T>& a, const Vec<T>& b) {
    return select(a > b, a, b);
}
template <class T>
inline T row_max(const Vec<T>& x) {
    return fold_lanes<T>(x, larger<T>);
}
template <class T>
inline T row_max(const T* x, i64 cols) {
    Vec<T> a = broadcast(NONE<T>), b = a, c = a, d = a;  // four chains: each step of one waits 4 cycles
    i64 j = 0;
    for (; j + 4 * W<T> <= cols; j += 4 * W<T>) {
        a = larger<T>(load(x + j), a);
        b = larger<T>(load(x + j + W<T>), b);
        c = larger<T>(load(x + j + 2 * W<T>), c);
        d = larger<T>(load(x + j + 3 * W<T>), d);
    }
    each_vector<T>(cols - j, [&](i64 k, int lanes) { a = larger<T>(load_lanes(x + j + k, lanes, NONE<T>), a); });
    return row_max<T>(larger<T>(larger<T>(a, b), larger<T>(c, d)));
}
/// sum(exp(x - shift)).
template <class T>
inline T sum_of_exp(const T* x, T shift, i64 cols) {
    return sum_row<T>(cols, [=](i64 j, int lanes) {
        __builtin_prefetch(x + cols + j);  // the next row: memory would idle while this one is computed
        return math::exp<Vec<T>>(load_lanes(x + j, lanes, NONE<T>) - shift);
    });
}

}  // namespace glassgrad
