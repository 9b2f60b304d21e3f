// Convolution, rung 0: the definition.
//
// Idea:       seven loops (image, output channel, row, column; input channel, kernel row, kernel column) and one
//             multiply-add. Every backward pass is the same seven loops with another array on the left.
// Changed:    nothing yet.
// Why faster: it is not. One scalar multiply-add per step, each waiting 4 cycles for the one before it: of the 64
//             (AVX2: 32) floating-point operations a core can do per cycle this does half of one.
// Still hurts: the bounds test of every tap, no vectors, no threads, x read k times from wherever it is.
#include "cpu/conv/shape.h"

namespace glassgrad {

namespace {
// f(index into y, into x, into w) for every product of the convolution.
template <class F>
void for_each_product(const Conv2dShape& s, F&& f) {
    const i64 cg = s.c / s.groups, kg = s.k / s.groups;
    for (i64 n = 0; n < s.n; ++n)
        for (i64 k = 0; k < s.k; ++k)
            for (i64 oy = 0; oy < s.oh; ++oy)
                for (i64 ox = 0; ox < s.ow; ++ox)
                    for (i64 c = 0; c < cg; ++c)
                        for (i64 r = 0; r < s.kh; ++r)
                            for (i64 q = 0; q < s.kw; ++q) {
                                const i64 iy = oy * s.stride_h - s.pad_h + r * s.dil_h;
                                const i64 ix = ox * s.stride_w - s.pad_w + q * s.dil_w;
                                if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
                                const i64 channel = k / kg * cg + c;
                                f(((n * s.k + k) * s.oh + oy) * s.ow + ox, ((n * s.c + channel) * s.h + iy) * s.w + ix,
                                  ((k * cg + c) * s.kh + r) * s.kw + q);
                            }
}
}  // namespace

template <class T>
void conv2d_naive(T* y, const T* x, const T* w, const T* bias, const Conv2dShape& s) {
    const i64 pixels = s.oh * s.ow;
    for (i64 i = 0; i < s.n * s.k * pixels; ++i) y[i] = bias ? bias[i / pixels % s.k] : T(0);
    for_each_product(s, [=](i64 iy, i64 ix, i64 iw) { y[iy] += x[ix] * w[iw]; });
}

template <class T>
void conv2d_backward_input_naive(T* dx, const T* dy, const T* w, const Conv2dShape& s) {
    std::fill(dx, dx + s.n * s.c * s.h * s.w, T(0));
    for_each_product(s, [=](i64 iy, i64 ix, i64 iw) { dx[ix] += dy[iy] * w[iw]; });
}

template <class T>
void conv2d_backward_weight_naive(T* dw, const T* dy, const T* x, const Conv2dShape& s) {
    std::fill(dw, dw + s.k * (s.c / s.groups) * s.kh * s.kw, T(0));
    for_each_product(s, [=](i64 iy, i64 ix, i64 iw) { dw[iw] += dy[iy] * x[ix]; });
}

#define INSTANTIATE(T)                                                                        \
    template void conv2d_naive<T>(T*, const T*, const T*, const T*, const Conv2dShape&);      \
    template void conv2d_backward_input_naive<T>(T*, const T*, const T*, const Conv2dShape&); \
    template void conv2d_backward_weight_naive<T>(T*, const T*, const T*, const Conv2dShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
