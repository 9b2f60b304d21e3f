// The frame: an image with its zeros round it, thinned to one phase of the stride, in which every tap sees whole rows.
//
// Along an axis, output o meets tap r at pixel o * stride + r * dil - pad. Write r * dil = shift * stride + phase: of
// the image that keeps every stride-th pixel from `phase - pad` on, the tap meets element o + shift. So a convolution
// of any stride and dilation is one of stride 1 over the kept images, and all that a tap sees at the outputs
// o, o + 1, ... are neighbours in memory, `shift` further on.
//
// Outputs are counted along the rows of the frame, which are longer than those of y: a run of neighbours may then go on
// from row to row, and what is computed between the rows of y is left out when y is written. The zeros on the right of
// one row are those on the left of the next, so a 3 x 3 kernel with padding 1 makes the rows 1 longer, not 2.
#pragma once

#include <algorithm>
#include <numeric>

#include "core/simd.h"
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

/// to[0 .. n) = from[0 .. n). Rows are short: a call of memmove would cost as much as copying 28 floats.
template <class T>
inline void copy_row(T* to, const T* from, i64 n) {
    each_vector<T>(n, [=](i64 i, int lanes) { store_lanes(to + i, load_lanes(from + i, lanes), lanes); });
}

/// Zeros that every row of a frame of `cols` numbers has at both of its ends: two rows can share them.
inline i64 shared_zeros(i64 cols, i64 w, Walk col) {
    const ValidRange valid = valid_range(cols, col.step, col.first, w);
    return std::clamp<i64>(valid.begin, 0, cols - valid.end);
}

/// Rows of a frame, their length, and what lies between two channels: `plane` numbers.
struct FrameShape {
    i64 rows, width, plane;
};
/// Planes are never a multiple of 512 bytes apart: those of 128 channels would share a few sets of the cache.
template <class T>
inline FrameShape frame_shape(i64 rows, i64 width) {
    const i64 plane = rows * width, bytes = plane * static_cast<i64>(sizeof(T));
    return {rows, width, bytes % 512 ? plane : plane + W<T>};
}

/// out: a plane of f: out[u][v] = x[row.first + u * row.step][col.first + v * col.step], 0 outside of x: (h, w).
template <class T>
inline void cut_frame(T* out, const FrameShape& f, const T* x, i64 h, i64 w, Walk row, Walk col) {
    const ValidRange valid = valid_range(f.width, col.step, col.first, w);
    T* const stop = out + f.plane;
    for (i64 u = 0; u < f.rows; ++u, out += f.width) {
        const i64 y = row.first + u * row.step;
        if (y < 0 || y >= h || valid.begin >= valid.end) {
            std::fill(out, out + f.width, T(0));
            continue;
        }
        const T* from = x + y * w + col.first;
        for (i64 v = 0; v < valid.begin; ++v) out[v] = T(0);
        if (col.step == 1)
            copy_row(out + valid.begin, from + valid.begin, valid.end - valid.begin);
        else if (col.step == 2)
            for (i64 v = valid.begin; v < valid.end; ++v) out[v] = from[v * 2];
        else
            for (i64 v = valid.begin; v < valid.end; ++v) out[v] = from[v * col.step];
        for (i64 v = valid.end; v < f.width; ++v) out[v] = T(0);
    }
    std::fill(out, stop, T(0));
}

/// Length of the rows of an input frame, so that a tap that runs over the end of a row meets the zeros of the next.
inline i64 input_width(const Conv2dShape& s) {
    const Axis h = cols_axis(s);
    const i64 cols = h.out + h.halo();
    i64 shared = cols;
    for (i64 q = 0; q < h.kept(); ++q)
        shared = std::min(shared, shared_zeros(cols, s.w, {h.phase(q) - h.pad, h.stride}));
    return cols - std::min(shared, h.halo());
}

/// Whether x, as it lies, is its own frame.
inline bool is_framed(const Conv2dShape& s) {
    return s.kh == 1 && s.kw == 1 && s.stride_h == 1 && s.stride_w == 1 && s.pad_h == 0 && s.pad_w == 0;
}

/// The frames of `channels` planes for the output rows from o0 on: (kept rows, kept columns, channels, f.plane).
template <class T>
inline void cut_input(T* out, const FrameShape& f, const T* x, i64 channels, i64 o0, const Conv2dShape& s) {
    const Axis v = rows_axis(s), h = cols_axis(s);
    for (i64 r = 0; r < v.kept(); ++r)
        for (i64 q = 0; q < h.kept(); ++q)
            for (i64 c = 0; c < channels; ++c, out += f.plane)
                cut_frame(out, f, x + c * s.h * s.w, s.h, s.w, {o0 * v.stride + v.phase(r) - v.pad, v.stride},
                          {h.phase(q) - h.pad, h.stride});
}

/// Where tap (r, q) of channel c begins in the frames that cut_input made.
inline i64 input_offset(i64 c, i64 r, i64 q, const FrameShape& f, i64 channels, const Conv2dShape& s) {
    const Axis v = rows_axis(s), h = cols_axis(s);
    const i64 plane = (r % v.period() * h.kept() + q % h.period()) * channels + c;
    return plane * f.plane + v.shift(r) * f.width + h.shift(q);
}

}  // namespace glassgrad
