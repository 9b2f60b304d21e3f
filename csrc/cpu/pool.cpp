// Max and average pooling.
//
// One output row at a time, tap by tap: the bounds test is done once per tap and row, not once per tap and pixel, and
// the inner loop runs along contiguous outputs.
#include <algorithm>
#include <limits>

#include "core/kernels.h"
#include "core/parallel.h"

namespace glassgrad {

namespace {

constexpr i64 CHUNK_TAPS = 1 << 15;  // about 15 us

i64 rows_per_chunk(const Pool2dShape& s) { return std::max<i64>(1, CHUNK_TAPS / std::max<i64>(1, s.ow * s.kh * s.kw)); }
i64 planes_per_chunk(const Pool2dShape& s) {
    return std::max<i64>(1, CHUNK_TAPS / std::max<i64>(1, s.h * s.w + s.oh * s.ow * s.kh * s.kw));
}

/// f(iy, offset, begin, end) for every tap of output row oy: input column ox * stride_w + offset is inside for ox in
/// [begin, end).
template <class F>
inline void each_tap(const Pool2dShape& s, i64 oy, F&& f) {
    for (i64 r = 0; r < s.kh; ++r) {
        const i64 iy = oy * s.stride_h - s.pad_h + r * s.dil_h;
        if (iy < 0 || iy >= s.h) continue;
        for (i64 q = 0; q < s.kw; ++q) {
            const i64 offset = q * s.dil_w - s.pad_w;
            const i64 begin = offset >= 0 ? 0 : (-offset + s.stride_w - 1) / s.stride_w;
            const i64 end = offset >= s.w ? 0 : std::min(s.ow, (s.w - 1 - offset) / s.stride_w + 1);
            if (begin < end) f(iy, offset, begin, end);
        }
    }
}

/// Elements the mean divides by along one axis.
inline i64 extent(i64 o, i64 stride, i64 pad, i64 kernel, i64 size, bool count_include_pad) {
    const i64 begin = o * stride - pad, end = std::min(begin + kernel, size + pad);
    return count_include_pad ? end - begin : std::min(end, size) - std::max<i64>(begin, 0);
}

}  // namespace

template <class T>
void max_pool2d(T* y, i64* index, const T* x, const Pool2dShape& s) {
    parallel_for(s.planes * s.oh, rows_per_chunk(s), [=](i64 first, i64 last) {
        for (i64 i = first; i < last; ++i) {
            const T* plane = x + i / s.oh * s.h * s.w;
            T* best = y + i * s.ow;
            i64* at = index + i * s.ow;
            std::fill(best, best + s.ow, -std::numeric_limits<T>::infinity());
            std::fill(at, at + s.ow, i64{-1});
            each_tap(s, i % s.oh, [&](i64 iy, i64 offset, i64 begin, i64 end) {
                const T* row = plane + iy * s.w;
                for (i64 ox = begin; ox < end; ++ox) {
                    const i64 ix = ox * s.stride_w + offset;
                    const T v = row[ix];
                    // at < 0: a window of nothing but -inf still names an element. Nothing exceeds a NaN.
                    const bool take = (v > best[ox]) | (v != v) | (at[ox] < 0);
                    best[ox] = take ? v : best[ox];
                    at[ox] = take ? iy * s.w + ix : at[ox];
                }
            });
        }
    });
}

template <class T>
void max_pool2d_backward(T* dx, const T* dy, const i64* index, const Pool2dShape& s) {
    const i64 outputs = s.oh * s.ow, inputs = s.h * s.w;
    parallel_for(s.planes, planes_per_chunk(s), [=](i64 first, i64 last) {
        std::fill(dx + first * inputs, dx + last * inputs, T(0));
        for (i64 p = first; p < last; ++p)
            for (i64 o = p * outputs; o < (p + 1) * outputs; ++o)
                if (index[o] >= 0) dx[p * inputs + index[o]] += dy[o];
    });
}

template <class T>
void avg_pool2d(T* y, const T* x, const Pool2dShape& s, bool count_include_pad) {
    parallel_for(s.planes * s.oh, rows_per_chunk(s), [=](i64 first, i64 last) {
        for (i64 i = first; i < last; ++i) {
            const i64 oy = i % s.oh;
            const T* plane = x + i / s.oh * s.h * s.w;
            T* sum = y + i * s.ow;
            std::fill(sum, sum + s.ow, T(0));
            each_tap(s, oy, [&](i64 iy, i64 offset, i64 begin, i64 end) {
                const T* row = plane + iy * s.w + offset;
                for (i64 ox = begin; ox < end; ++ox) sum[ox] += row[ox * s.stride_w];
            });
            const i64 tall = extent(oy, s.stride_h, s.pad_h, s.kh, s.h, count_include_pad);
            for (i64 ox = 0; ox < s.ow; ++ox) {
                const i64 wide = extent(ox, s.stride_w, s.pad_w, s.kw, s.w, count_include_pad);
                if (tall > 0 && wide > 0) sum[ox] /= static_cast<T>(tall * wide);
            }
        }
    });
}

template <class T>
void avg_pool2d_backward(T* dx, const T* dy, const Pool2dShape& s, bool count_include_pad) {
    parallel_for(s.planes, planes_per_chunk(s), [=](i64 first, i64 last) {
        std::fill(dx + first * s.h * s.w, dx + last * s.h * s.w, T(0));
        for (i64 p = first; p < last; ++p)
            for (i64 oy = 0; oy < s.oh; ++oy) {
                const T* row = dy + (p * s.oh + oy) * s.ow;
                const i64 tall = extent(oy, s.stride_h, s.pad_h, s.kh, s.h, count_include_pad);
                if (tall <= 0) continue;
                // Output by output: the taps of one window overlap those of the next, its quotient is shared.
                for (i64 ox = 0; ox < s.ow; ++ox) {
                    const i64 wide = extent(ox, s.stride_w, s.pad_w, s.kw, s.w, count_include_pad);
                    if (wide <= 0) continue;
                    const T share = row[ox] / static_cast<T>(tall * wide);
                    const i64 y0 = oy * s.stride_h - s.pad_h, x0 = ox * s.stride_w - s.pad_w;
                    for (i64 iy = std::max<i64>(y0, 0); iy < std::min(y0 + s.kh, s.h); ++iy)
                        for (i64 ix = std::max<i64>(x0, 0); ix < std::min(x0 + s.kw, s.w); ++ix)
                            dx[(p * s.h + iy) * s.w + ix] += share;
                }
            }
    });
}

#define INSTANTIATE(T)                                                                  \
    template void max_pool2d<T>(T*, i64*, const T*, const Pool2dShape&);                \
    template void max_pool2d_backward<T>(T*, const T*, const i64*, const Pool2dShape&); \
    template void avg_pool2d<T>(T*, const T*, const Pool2dShape&, bool);                \
    template void avg_pool2d_backward<T>(T*, const T*, const Pool2dShape&, bool);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
