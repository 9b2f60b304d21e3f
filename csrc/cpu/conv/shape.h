// What every rung needs to know about a convolution's geometry.
#pragma once

#include <algorithm>

#include "core/kernels.h"
#include "cpu/matmul/shape.h"

namespace glassgrad {

constexpr i64 round_up(i64 a, i64 b) { return (a + b - 1) / b * b; }

/// Output positions [begin, end) whose tap stays inside the input: 0 <= o * stride + offset < input.
struct ValidRange {
    i64 begin, end;
};
inline ValidRange valid_range(i64 outputs, i64 stride, i64 offset, i64 input) {
    const i64 begin = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
    const i64 end = offset >= input ? 0 : std::min(outputs, (input - 1 - offset) / stride + 1);
    return {std::min(begin, std::max<i64>(end, 0)), std::max<i64>(end, 0)};
}

/// col[i] for the output pixels [p0, p0 + count) of one (channel, tap): what that tap sees, zero in the padding.
template <class T>
inline void gather_tap(T* col, const T* plane, const Conv2dShape& s, i64 r, i64 q, i64 p0, i64 count) {
    const i64 offset = q * s.dil_w - s.pad_w;
    const ValidRange valid = valid_range(s.ow, s.stride_w, offset, s.w);
    i64 oy = p0 / s.ow, ox = p0 % s.ow;
    while (count > 0) {
        const i64 run = std::min(count, s.ow - ox);
        const i64 iy = oy * s.stride_h - s.pad_h + r * s.dil_h;
        i64 begin = ox, end = ox;
        if (iy >= 0 && iy < s.h) {
            begin = std::clamp(valid.begin, ox, ox + run);
            end = std::clamp(valid.end, begin, ox + run);
        }
        for (i64 i = ox; i < begin; ++i) col[i - ox] = T(0);
        if (begin < end) {
            const T* row = plane + iy * s.w + offset;
            if (s.stride_w == 1)
                for (i64 i = begin; i < end; ++i) col[i - ox] = row[i];
            else
                for (i64 i = begin; i < end; ++i) col[i - ox] = row[i * s.stride_w];
        }
        for (i64 i = end; i < ox + run; ++i) col[i - ox] = T(0);
        col += run;
        count -= run;
        ox = 0;
        ++oy;
    }
}

/// The transpose of gather_tap: adds col back to the places it was read from.
template <class T>
inline void scatter_tap(T* plane, const T* col, const Conv2dShape& s, i64 r, i64 q, i64 p0, i64 count) {
    const i64 offset = q * s.dil_w - s.pad_w;
    const ValidRange valid = valid_range(s.ow, s.stride_w, offset, s.w);
    i64 oy = p0 / s.ow, ox = p0 % s.ow;
    while (count > 0) {
        const i64 run = std::min(count, s.ow - ox);
        const i64 iy = oy * s.stride_h - s.pad_h + r * s.dil_h;
        if (iy >= 0 && iy < s.h) {
            const i64 begin = std::clamp(valid.begin, ox, ox + run);
            const i64 end = std::clamp(valid.end, begin, ox + run);
            if (begin < end) {
                T* row = plane + iy * s.w + offset;
                if (s.stride_w == 1)
                    for (i64 i = begin; i < end; ++i) row[i] += col[i - ox];
                else
                    for (i64 i = begin; i < end; ++i) row[i * s.stride_w] += col[i - ox];
            }
        }
        col += run;
        count -= run;
        ox = 0;
        ++oy;
    }
}

}  // namespace glassgrad
