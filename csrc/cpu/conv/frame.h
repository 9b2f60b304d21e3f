// The frame: an image with its zeros round it, thinned to one phase of the stride, in which every tap sees whole rows.
//
// Along an axis, output o meets tap r at pixel o * stride + r * dil - pad. Write r * dil = shift * stride + phase: of
// the image that keeps every stride-th pixel from `phase - pad` on, the tap meets element o + shift. So a convolution
// of any stride and dilation is one of stride 1 over the kept images, and all that a tap sees at the outputs
// o, o + 1, ... are neighbours in memory, `shift` further on.
//
// Outputs are counted along the rows of the frame, which are `halo` longer than those of y: a run of neighbours may
// then go on from row to row, and what is computed between the rows of y is left out when y is written.
#pragma once

#include <algorithm>
#include <numeric>

#include "cpu/conv/shape.h"

namespace glassgrad {

/// One axis of a convolution.
struct Axis {
    i64 in, out, kernel, stride, pad, dil;

    i64 halo() const { return dil * (kernel - 1) / stride; }
    i64 shift(i64 r) const { return r * dil / stride; }
    i64 phase(i64 r) const { return r * dil % stride; }
    /// Taps r and r + period() have one phase; so the phases that occur are those of the first kept() taps.
    i64 period() const { return stride / std::gcd(stride, dil); }
    i64 kept() const { return std::min(kernel, period()); }
};
inline Axis rows_axis(const Conv2dShape& s) { return {s.h, s.oh, s.kh, s.stride_h, s.pad_h, s.dil_h}; }
inline Axis cols_axis(const Conv2dShape& s) { return {s.w, s.ow, s.kw, s.stride_w, s.pad_w, s.dil_w}; }

/// Every `step`-th position from `first` on.
struct Walk {
    i64 first, step;
};

/// out: (rows, cols): out[u][v] = plane[row.first + u * row.step][col.first + v * col.step], 0 outside the plane (h,
/// w).
template <class T>
inline void cut_frame(T* out, i64 rows, i64 cols, const T* plane, i64 h, i64 w, Walk row, Walk col) {
    const ValidRange valid = valid_range(cols, col.step, col.first, w);
    for (i64 u = 0; u < rows; ++u, out += cols) {
        const i64 y = row.first + u * row.step;
        if (y < 0 || y >= h || valid.begin >= valid.end) {
            std::fill(out, out + cols, T(0));
            continue;
        }
        const T* from = plane + y * w + col.first;
        std::fill(out, out + valid.begin, T(0));
        if (col.step == 1)
            std::copy(from + valid.begin, from + valid.end, out + valid.begin);
        else if (col.step == 2)
            for (i64 v = valid.begin; v < valid.end; ++v) out[v] = from[v * 2];
        else
            for (i64 v = valid.begin; v < valid.end; ++v) out[v] = from[v * col.step];
        std::fill(out + valid.end, out + cols, T(0));
    }
}

}  // namespace glassgrad
