// With one input channel per group, a weight gradient is kh * kw dot products of two planes: a matrix product of one
// row and one column, for which transposing dy, as the matrix product does, would cost far more than the sums. So
// both planes are read along their rows: 9 taps at a time, one load of dy and 9 of x for 9 vector multiply-adds.
#include "cpu/conv/depthwise.h"

#include <vector>

#include "core/allocator.h"
#include "core/parallel.h"
#include "core/simd.h"
#include "cpu/conv/frame.h"

namespace glassgrad {

namespace {

constexpr i64 BAND_BYTES = 16 << 10;     // of a frame, and as much of dy: both stay in L1
constexpr i64 WORK_PER_CHUNK = 1 << 17;  // multiply-adds; about 10 us

/// sum[tap] += dy . frame[offset[tap] ...] for TAPS taps, over `n` numbers, whole vectors.
template <class T, int TAPS>
void add_dots(Vec<T>* sum, const T* dy, const T* frame, const i64* offset, i64 n) {
    Vec<T> partial[TAPS];
    const T* from[TAPS];
#pragma GCC unroll 9
    for (int i = 0; i < TAPS; ++i) partial[i] = Vec<T>{}, from[i] = frame + offset[i];
    for (i64 p = 0; p < n; p += W<T>) {
        const Vec<T> left = load(dy + p);
#pragma GCC unroll 9
        for (int i = 0; i < TAPS; ++i) partial[i] += left * load(from[i] + p);
    }
#pragma GCC unroll 9
    for (int i = 0; i < TAPS; ++i) sum[i] += partial[i];
}

}  // namespace

template <class T>
void depthwise_backward_weight(T* dw, const T* dy, const T* x, const Conv2dShape& s) {
    const Axis v = rows_axis(s), h = cols_axis(s);
    const i64 cg = s.c / s.groups, kg = s.k / s.groups, window = s.kh * s.kw, taps = cg * window;
    const i64 kept = v.kept() * h.kept(), width = input_width(s);
    if (s.k * taps == 0) return;
    const i64 fit = BAND_BYTES / static_cast<i64>(sizeof(T)) / (kept * cg * width) - v.halo();
    const i64 rows = std::clamp<i64>(fit, 1, std::max<i64>(1, s.oh));
    const FrameShape f = frame_shape<T>(rows + v.halo(), width);
    const i64 frame_size = kept * cg * f.plane, most = round_up(rows * width, W<T>);
    std::vector<i64> offset;
    for (i64 c = 0; c < cg; ++c)
        for (i64 tap = 0; tap < window; ++tap) offset.push_back(input_offset(c, tap / s.kw, tap % s.kw, f, cg, s));
    const i64 work = s.n * s.oh * s.ow * taps;
    parallel_for(s.k, ceil_div(WORK_PER_CHUNK, work + 1), [&](i64 begin, i64 end) {
        const i64 slack = h.halo() + width + W<T>;
        Scratch<T> frame(frame_size + slack), gradient(most), sums(taps * W<T>);
        std::fill(frame + frame_size, frame + frame_size + slack, T(0));
        for (i64 k = begin; k < end; ++k) {
            Vec<T>* sum = reinterpret_cast<Vec<T>*>(sums.get());
            std::fill(sum, sum + taps, Vec<T>{});
            for (i64 band = 0; band < s.n * ceil_div(s.oh, rows); ++band) {
                const i64 n = band / ceil_div(s.oh, rows), o0 = band % ceil_div(s.oh, rows) * rows;
                const i64 here = std::min(rows, s.oh - o0), count = round_up(here * width, W<T>);
                cut_input(frame.get(), f, x + (n * s.c + k / kg * cg) * s.h * s.w, cg, o0, s);
                const T* from = dy + ((n * s.k + k) * s.oh + o0) * s.ow;
                for (i64 o = 0; o < here; ++o) {  // rows as long as the frame's
                    copy_row(gradient + o * width, from + o * s.ow, s.ow);
                    std::fill(gradient + o * width + s.ow, gradient + (o + 1) * width, T(0));
                }
                std::fill(gradient + here * width, gradient + count, T(0));
                i64 tap = 0;
                for (; tap + 9 <= taps; tap += 9)
                    add_dots<T, 9>(sum + tap, gradient, frame, offset.data() + tap, count);
                for (; tap + 3 <= taps; tap += 3)
                    add_dots<T, 3>(sum + tap, gradient, frame, offset.data() + tap, count);
                for (; tap < taps; ++tap) add_dots<T, 1>(sum + tap, gradient, frame, offset.data() + tap, count);
            }
            for (i64 tap = 0; tap < taps; ++tap) dw[k * taps + tap] = horizontal_sum<T>(sum[tap]);
        }
    });
}

#define INSTANTIATE(T) template void depthwise_backward_weight<T>(T*, const T*, const T*, const Conv2dShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
