// What every rung needs to know about a product's shape.
#pragma once

#include "core/kernels.h"

namespace glassgrad {

inline i64 batch_size(const MatmulShape& s) {
    i64 n = 1;
    for (int d = 0; d < s.batch_axes; ++d) n *= s.batch[d].size;
    return n;
}

/// Where the matrices of one member of the batch begin.
struct BatchOffset {
    i64 a, b;
};
inline BatchOffset batch_offset(const MatmulShape& s, i64 index) {
    BatchOffset at{0, 0};
    for (int d = s.batch_axes - 1; d >= 0; --d) {
        const i64 i = index % s.batch[d].size;
        index /= s.batch[d].size;
        at.a += i * s.batch[d].a_stride;
        at.b += i * s.batch[d].b_stride;
    }
    return at;
}

/// f(c, a, b) for every matrix of the batch, one after the other.
template <class T, class F>
void for_each_matrix(T* c, const T* a, const T* b, const MatmulShape& s, F&& f) {
    const i64 batch = batch_size(s);
    for (i64 i = 0; i < batch; ++i) {
        const BatchOffset at = batch_offset(s, i);
        f(c + i * s.m * s.n, a + at.a, b + at.b);
    }
}

/// c[j] += factor * b[j * step] for j < n: contiguous rows are multiplied in vectors.
template <class T>
void add_multiple(T* c, T factor, const T* b, i64 step, i64 n) {
    if (step == 1)
        for (i64 j = 0; j < n; ++j) c[j] += factor * b[j];
    else
        for (i64 j = 0; j < n; ++j) c[j] += factor * b[j * step];
}

/// Every row of c: (rows, n) becomes the bias, or 0.
template <class T>
void fill_with_bias(T* c, const T* bias, i64 rows, i64 n) {
    for (i64 i = 0; i < rows; ++i)
        for (i64 j = 0; j < n; ++j) c[i * n + j] = bias ? bias[j] : T(0);
}

}  // namespace glassgrad
