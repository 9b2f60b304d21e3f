// Convolution with one input channel per group: no number of x meets more than kh * kw numbers of w, so panels have
// nothing to reuse, and each output row is summed tap by tap.
#include "cpu/conv/depthwise.h"

#include "core/parallel.h"
#include "core/simd.h"
#include "cpu/conv/shape.h"

namespace glassgrad {

namespace {
constexpr i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }
}  // namespace

template <class T>
void depthwise_forward(T* y, const T* x, const T* w, const T* bias, const Conv2dShape& s) {
    const i64 kg = s.k / s.groups, window = s.kh * s.kw, pixels = s.oh * s.ow;
    parallel_for(s.n * s.k, ceil_div(1 << 15, pixels * window + 1), [&](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i) {
            const i64 k = i % s.k;
            const T* plane = x + (i / s.k * s.c + k / kg) * s.h * s.w;
            for (i64 oy = 0; oy < s.oh; ++oy) {
                T* row = y + i * pixels + oy * s.ow;
                std::fill(row, row + s.ow, bias ? bias[k] : T(0));
                for (i64 r = 0; r < s.kh; ++r) {
                    const i64 iy = oy * s.stride_h - s.pad_h + r * s.dil_h;
                    if (iy < 0 || iy >= s.h) continue;
                    for (i64 q = 0; q < s.kw; ++q) {
                        const i64 offset = q * s.dil_w - s.pad_w;
                        const ValidRange valid = valid_range(s.ow, s.stride_w, offset, s.w);
                        const T factor = w[k * window + r * s.kw + q];
                        const T* from = plane + iy * s.w;
                        if (s.stride_w == 1)
                            for (i64 ox = valid.begin; ox < valid.end; ++ox) row[ox] += factor * from[ox + offset];
                        else
                            for (i64 ox = valid.begin; ox < valid.end; ++ox)
                                row[ox] += factor * from[ox * s.stride_w + offset];
                    }
                }
            }
        }
    });
}

template <class T>
void depthwise_backward_input(T* dx, const T* dy, const T* w, const Conv2dShape& s) {
    const i64 kg = s.k / s.groups, window = s.kh * s.kw, pixels = s.oh * s.ow;
    parallel_for(s.n * s.c, ceil_div(1 << 15, pixels * window * kg + 1), [&](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i) {
            T* plane = dx + i * s.h * s.w;
            std::fill(plane, plane + s.h * s.w, T(0));
            for (i64 k = i % s.c * kg; k < (i % s.c + 1) * kg; ++k)
                for (i64 oy = 0; oy < s.oh; ++oy)
                    for (i64 r = 0; r < s.kh; ++r) {
                        const i64 iy = oy * s.stride_h - s.pad_h + r * s.dil_h;
                        if (iy < 0 || iy >= s.h) continue;
                        const T* row = dy + (i / s.c * s.k + k) * pixels + oy * s.ow;
                        for (i64 q = 0; q < s.kw; ++q) {
                            const i64 offset = q * s.dil_w - s.pad_w;
                            const ValidRange valid = valid_range(s.ow, s.stride_w, offset, s.w);
                            const T factor = w[k * window + r * s.kw + q];
                            T* to = plane + iy * s.w;
                            if (s.stride_w == 1)
                                for (i64 ox = valid.begin; ox < valid.end; ++ox) to[ox + offset] += factor * row[ox];
                            else
                                for (i64 ox = valid.begin; ox < valid.end; ++ox)
                                    to[ox * s.stride_w + offset] += factor * row[ox];
                        }
                    }
        }
    });
}

namespace {
template <class T>
T dot(const T* a, const T* b, i64 b_stride, i64 n) {
    T sum = 0;
    i64 i = 0;
    if (b_stride == 1) {
        Vec<T> partial{};
        for (; i + W<T> <= n; i += W<T>) partial += load(a + i) * load(b + i);
        sum = horizontal_sum<T>(partial);
    }
    for (; i < n; ++i) sum += a[i] * b[i * b_stride];
    return sum;
}
}  // namespace

template <class T>
void depthwise_backward_weight(T* dw, const T* dy, const T* x, const Conv2dShape& s) {
    const i64 kg = s.k / s.groups, window = s.kh * s.kw, pixels = s.oh * s.ow;
    parallel_for(s.k, ceil_div(1 << 15, s.n * pixels * window + 1), [&](i64 begin, i64 end) {
        for (i64 k = begin; k < end; ++k) {
            T* out = dw + k * window;
            std::fill(out, out + window, T(0));
            for (i64 n = 0; n < s.n; ++n)
                for (i64 oy = 0; oy < s.oh; ++oy) {
                    const T* row = dy + (n * s.k + k) * pixels + oy * s.ow;
                    for (i64 r = 0; r < s.kh; ++r) {
                        const i64 iy = oy * s.stride_h - s.pad_h + r * s.dil_h;
                        if (iy < 0 || iy >= s.h) continue;
                        const T* from = x + ((n * s.c + k / kg) * s.h + iy) * s.w;
                        for (i64 q = 0; q < s.kw; ++q) {
                            const i64 offset = q * s.dil_w - s.pad_w;
                            const ValidRange valid = valid_range(s.ow, s.stride_w, offset, s.w);
                            if (valid.begin < valid.end)
                                out[r * s.kw + q] += dot(row + valid.begin, from + valid.begin * s.stride_w + offset,
                                                         s.stride_w, valid.end - valid.begin);
                        }
                    }
                }
        }
    });
}

#define INSTANTIATE(T)                                                                        \
    template void depthwise_forward<T>(T*, const T*, const T*, const T*, const Conv2dShape&); \
    template void depthwise_backward_input<T>(T*, const T*, const T*, const Conv2dShape&);    \
    template void depthwise_backward_weight<T>(T*, const T*, const T*, const Conv2dShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
