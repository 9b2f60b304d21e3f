// Convolution, rung 1: as one matrix product per image and group.
//
// Idea:       write every patch as a column of a matrix, col: (c kh kw, oh ow); then y = w @ col, dw = dy @ col^T, and
//             dcol = w^T @ dy is added back to the places the patches came from.
// Changed:    the inner loop runs along oh * ow contiguous numbers, without a bounds test.
// Why faster: a row of col is loaded once per output channel and multiplied W lanes at a time: 8 (AVX2 float) or 16
//             multiply-adds per instruction where rung 0 has one.
// Still hurts: col is kh * kw times as large as x (9 MiB for a 3x3 kernel on 1 MiB), written and read through memory,
//             and each multiply-add of this plain product still loads and stores y: the load ports, not the
//             multipliers, are the limit. One thread.
#include <cmath>

#include "core/allocator.h"
#include "cpu/conv/shape.h"

namespace glassgrad {

namespace {

template <class T>
void im2col(T* col, const T* x, const Conv2dShape& s) {  // x: the channels of one group
    const i64 pixels = s.oh * s.ow;
    for (i64 c = 0; c < s.c / s.groups; ++c)
        for (i64 r = 0; r < s.kh; ++r)
            for (i64 q = 0; q < s.kw; ++q, col += pixels) gather_tap(col, x + c * s.h * s.w, s, r, q, 0, pixels);
}

template <class T>
void col2im(T* dx, const T* col, const Conv2dShape& s) {
    const i64 pixels = s.oh * s.ow;
    for (i64 c = 0; c < s.c / s.groups; ++c)
        for (i64 r = 0; r < s.kh; ++r)
            for (i64 q = 0; q < s.kw; ++q, col += pixels) scatter_tap(dx + c * s.h * s.w, col, s, r, q, 0, pixels);
}

// y: (m, n) += a: (m, k) with any strides @ b: (k, n).
template <class T>
void accumulate_product(T* y, const T* a, i64 a_row, i64 a_col, const T* b, i64 m, i64 n, i64 k) {
    for (i64 i = 0; i < m; ++i)
        for (i64 l = 0; l < k; ++l) {
            const T factor = a[i * a_row + l * a_col];
            for (i64 j = 0; j < n; ++j) y[i * n + j] += factor * b[l * n + j];
        }
}

// y: (m, n) += a: (m, k) @ b^T, b: (n, k). Eight partial sums, or the addition's latency would be the speed.
template <class T>
void accumulate_product_transposed(T* y, const T* a, const T* b, i64 m, i64 n, i64 k) {
    for (i64 i = 0; i < m; ++i)
        for (i64 j = 0; j < n; ++j) {
            T partial[8] = {};
            i64 l = 0;
            for (; l + 8 <= k; l += 8)
                for (int u = 0; u < 8; ++u) partial[u] += a[i * k + l + u] * b[j * k + l + u];
            for (; l < k; ++l) partial[0] += a[i * k + l] * b[j * k + l];
            for (int half = 4; half > 0; half /= 2)
                for (int u = 0; u < half; ++u) partial[u] += partial[u + half];
            y[i * n + j] += partial[0];
        }
}

}  // namespace

template <class T>
void conv2d_im2col(T* y, const T* x, const T* w, const T* bias, const Conv2dShape& s) {
    const i64 cg = s.c / s.groups, kg = s.k / s.groups, taps = cg * s.kh * s.kw, pixels = s.oh * s.ow;
    Scratch<T> col(taps * pixels);
    for (i64 i = 0; i < s.n * s.k; ++i) std::fill(y + i * pixels, y + (i + 1) * pixels, bias ? bias[i % s.k] : T(0));
    for (i64 i = 0; i < s.n * s.groups; ++i) {
        im2col(col.get(), x + i * cg * s.h * s.w, s);
        accumulate_product(y + i * kg * pixels, w + i % s.groups * kg * taps, taps, i64{1}, col.get(), kg, pixels,
                           taps);
    }
}

template <class T>
void conv2d_backward_input_im2col(T* dx, const T* dy, const T* w, const Conv2dShape& s) {
    const i64 cg = s.c / s.groups, kg = s.k / s.groups, taps = cg * s.kh * s.kw, pixels = s.oh * s.ow;
    Scratch<T> col(taps * pixels);
    std::fill(dx, dx + s.n * s.c * s.h * s.w, T(0));
    for (i64 i = 0; i < s.n * s.groups; ++i) {
        std::fill(col.get(), col.get() + taps * pixels, T(0));
        accumulate_product(col.get(), w + i % s.groups * kg * taps, i64{1}, taps, dy + i * kg * pixels, taps, pixels,
                           kg);
        col2im(dx + i * cg * s.h * s.w, col.get(), s);
    }
}

template <class T>
void conv2d_backward_weight_im2col(T* dw, const T* dy, const T* x, const Conv2dShape& s) {
    const i64 cg = s.c / s.groups, kg = s.k / s.groups, taps = cg * s.kh * s.kw, pixels = s.oh * s.ow;
    Scratch<T> col(taps * pixels);
    std::fill(dw, dw + s.k * taps, T(0));
    for (i64 i = 0; i < s.n * s.groups; ++i) {
        im2col(col.get(), x + i * cg * s.h * s.w, s);
        accumulate_product_transposed(dw + i % s.groups * kg * taps, dy + i * kg * pixels, col.get(), kg, taps, pixels);
    }
}

#define INSTANTIATE(T)                                                                         \
    template void conv2d_im2col<T>(T*, const T*, const T*, const T*, const Conv2dShape&);      \
    template void conv2d_backward_input_im2col<T>(T*, const T*, const T*, const Conv2dShape&); \
    template void conv2d_backward_weight_im2col<T>(T*, const T*, const T*, const Conv2dShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
