// Convolution, rung 2: implicit matrix product, threaded.
//
// Idea:       never write col. The matrix product packs its right-hand side in panels anyway, so let the packing read
//             the image: a tile of col, KC taps by TILE output pixels, lives in the second-level cache and is gone.
// Changed:    the product is made of MR x NR register tiles (14 x 32 floats with AVX-512, 6 x 16 with AVX2): MR * NR
//             sums stay in registers for KC steps. Threads share out (image, group, tile). A stride-1 input gradient
//             is a convolution of dy with the flipped kernel and takes the same road.
// Why faster: per step the tile does MR * NR multiply-adds with NR / W loads and MR broadcasts: 28 vector FMAs for 16
//             loads (AVX-512), so the two FMA ports, not the two load ports, are the limit; rung 1 needs 2 loads and
//             1 store for each FMA. Memory sees x about once instead of col kh * kw times.
// Still hurts: 3x3 stride 1 could do with 2.25 to 4 times fewer multiplications (Winograd); images of fewer pixels
//             than NR leave lanes idle; a strided input gradient still scatters.
#include <algorithm>

#include "core/allocator.h"
#include "core/parallel.h"
#include "cpu/conv/shape.h"
#include "cpu/matmul/micro_kernel.h"

namespace glassgrad {

namespace {

constexpr i64 KC = 256;
// KC * TILE floats = 192 KiB (AVX-512) or 128 KiB: with the panel of w they stay in a 256 KiB to 2 MiB L2.
template <class T>
constexpr i64 TILE = (VECTOR_BYTES == 64 ? 6 : 8) * NR<T>;
constexpr i64 WORK_PER_CHUNK = 1 << 20;  // multiply-adds; about 20 us, thirty times what handing a chunk over costs

constexpr i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

/// c: (m, n), rows ldc apart, (+)= a: panels of (kc, height), a_panel apart @ b: panels of (kc, NR). bias: of the rows.
template <class T>
void multiply_panels(T* c, i64 ldc, const T* a, i64 height, i64 a_panel, const T* b, i64 m, i64 n, i64 kc,
                     bool accumulate, const T* bias) {
    Tile<T> t;
    t.ldc = ldc;
    t.a_row = 1;
    t.a_step = height;
    t.b_step = NR<T>;
    t.k = kc;
    t.start = accumulate ? Start::ADD : bias ? Start::ROW_BIAS : Start::ZERO;
    for (i64 i = 0; i < m; i += height)  // the panel of a (14 KiB) stays in L1 while b's panels pass
        for (i64 j = 0; j < n; j += NR<T>) {
            t.c = c + i * ldc + j;
            t.a = a + i / height * a_panel;
            t.b = b + j * kc;
            t.n = std::min<i64>(NR<T>, n - j);
            t.bias = bias ? bias + i : nullptr;
            multiply_tile(t, std::min(height, m - i));
        }
}

/// Panels of `height` rows: out[panel][l][i] = a[(panel * height + i) * row + l * step], 0 beyond m.
template <class T>
void pack_left(T* out, const T* a, i64 row, i64 step, i64 height, i64 m, i64 k) {
    for (i64 i = 0; i < m; i += height, out += height * k)
        pack_panel(out, height, a + i * row, row, step, std::min(height, m - i), k);
}

/// Row l of the panels (kc, NR) of a tile: `row` has n numbers, the last panel is filled with zeros.
template <class T>
void spread_row(T* panels, const T* row, i64 l, i64 kc, i64 n) {
    i64 j = 0;
    for (; j + NR<T> <= n; j += NR<T>)
        for (int v = 0; v < NV; ++v) store(panels + j * kc + l * NR<T> + v * W<T>, load(row + j + v * W<T>));
    if (j < n) {
        T* last = panels + j * kc + l * NR<T>;
        for (i64 i = 0; i < NR<T>; ++i) last[i] = j + i < n ? row[j + i] : T(0);
    }
}

/// The taps [l0, l0 + kc) of a group at the pixels [p0, p0 + n), as panels.
template <class T>
void pack_patches(T* panels, const T* x, const Conv2dShape& s, i64 l0, i64 kc, i64 p0, i64 n) {
    T row[TILE<T>];
    const i64 window = s.kh * s.kw;
    for (i64 l = 0; l < kc; ++l) {
        const i64 tap = (l0 + l) % window;
        gather_tap(row, x + (l0 + l) / window * s.h * s.w, s, tap / s.kw, tap % s.kw, p0, n);
        spread_row(panels, row, l, kc, n);
    }
}

template <class T>
void implicit_forward(T* y, const T* x, const T* w, const T* bias, const Conv2dShape& s) {
    const i64 cg = s.c / s.groups, kg = s.k / s.groups, taps = cg * s.kh * s.kw, pixels = s.oh * s.ow;
    const i64 height = panel_height(kg), packed = ceil_div(kg, height) * height * taps;
    const i64 tiles = ceil_div(pixels, TILE<T>), tasks = s.n * s.groups * tiles;
    if (tasks == 0 || kg == 0) return;
    Scratch<T> left(s.groups * packed);
    parallel_for(s.groups, ceil_div(WORK_PER_CHUNK / 8, kg * taps + 1), [&](i64 begin, i64 end) {
        for (i64 g = begin; g < end; ++g)
            pack_left(left.get() + g * packed, w + g * kg * taps, taps, i64{1}, height, kg, taps);
    });
    const i64 work = kg * taps * std::min(pixels, TILE<T>) + 1;
    parallel_for(tasks, ceil_div(WORK_PER_CHUNK, work), [&](i64 begin, i64 end) {
        Scratch<T> right(TILE<T> * std::max<i64>(1, std::min(KC, taps)));
        for (i64 task = begin; task < end; ++task) {
            const i64 image_group = task / tiles, g = image_group % s.groups, p0 = task % tiles * TILE<T>;
            const i64 n = std::min(TILE<T>, pixels - p0);
            T* out = y + image_group * kg * pixels + p0;
            const T* group_bias = bias ? bias + g * kg : nullptr;
            i64 l0 = 0;
            do {  // at least once: without taps y is the bias
                const i64 kc = std::min(KC, taps - l0);
                pack_patches(right.get(), x + image_group * cg * s.h * s.w, s, l0, kc, p0, n);
                multiply_panels(out, pixels, left.get() + g * packed + l0 * height, height, height * taps, right.get(),
                                kg, n, kc, l0 > 0, group_bias);
                l0 += kc;
            } while (l0 < taps);
        }
    });
}

/// dx by dcol = w^T @ dy and a scatter. Channels are shared out, so no two threads add to one place.
template <class T>
void scattered_backward_input(T* dx, const T* dy, const T* w, const Conv2dShape& s) {
    const i64 cg = s.c / s.groups, kg = s.k / s.groups, window = s.kh * s.kw, taps = cg * window;
    const i64 pixels = s.oh * s.ow;
    // About 96 rows of dcol per block: then packing dy anew for each block is 1 % of the work.
    const i64 block = std::min(cg, ceil_div(96, window)), blocks = ceil_div(cg, block), rows = block * window;
    const i64 height = panel_height(rows), block_panels = ceil_div(rows, height) * height * kg;
    Scratch<T> left(s.groups * blocks * block_panels);
    parallel_for(s.groups * blocks, ceil_div(WORK_PER_CHUNK / 8, block_panels + 1), [&](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i) {
            const i64 g = i / blocks, first = i % blocks * rows;
            pack_left(left.get() + i * block_panels, w + g * kg * taps + first, i64{1}, taps, height,
                      std::min(rows, taps - first), kg);
        }
    });
    const i64 work = rows * kg * pixels + 1;
    parallel_for(s.n * s.groups * blocks, ceil_div(WORK_PER_CHUNK, work), [&](i64 begin, i64 end) {
        Scratch<T> right(TILE<T> * std::max<i64>(1, std::min(KC, kg))), dcol(rows * TILE<T>);
        for (i64 task = begin; task < end; ++task) {
            const i64 image_group = task / blocks, c0 = task % blocks * block, channels = std::min(block, cg - c0);
            const i64 m = channels * window;
            const T* a = left.get() + (image_group % s.groups * blocks + task % blocks) * block_panels;
            T* out = dx + (image_group * cg + c0) * s.h * s.w;
            std::fill(out, out + channels * s.h * s.w, T(0));
            for (i64 p0 = 0; p0 < pixels && kg > 0; p0 += TILE<T>) {
                const i64 n = std::min(TILE<T>, pixels - p0);
                for (i64 l0 = 0; l0 < kg; l0 += KC) {
                    const i64 kc = std::min(KC, kg - l0);
                    for (i64 l = 0; l < kc; ++l)
                        spread_row(right.get(), dy + (image_group * kg + l0 + l) * pixels + p0, l, kc, n);
                    multiply_panels(dcol.get(), TILE<T>, a + l0 * height, height, height * kg, right.get(), m, n, kc,
                                    l0 > 0, static_cast<const T*>(nullptr));
                }
                for (i64 row = 0; row < m; ++row)
                    scatter_tap(out + row / window * s.h * s.w, dcol.get() + row * TILE<T>, s, row % window / s.kw,
                                row % s.kw, p0, n);
            }
        }
    });
}

/// dw^T: (taps, kg) += col @ dy^T, tile by tile of pixels. col is the left side as it is gathered (rows of pixels, no
/// transposing); only dy, kh * kw times smaller, is transposed.
template <class T>
void implicit_backward_weight(T* dw, const T* dy, const T* x, const Conv2dShape& s) {
    constexpr i64 PIXELS = 256, ROWS = 96;
    const i64 cg = s.c / s.groups, kg = s.k / s.groups, window = s.kh * s.kw, taps = cg * window;
    const i64 pixels = s.oh * s.ow, tiles = ceil_div(pixels, PIXELS), total = s.n * tiles, size = kg * taps;
    if (size == 0 || s.groups == 0) return;
    // Partials: as many as 32 threads can use, fewer when they would not fit in 64 MiB. Of the shape alone.
    const i64 affordable = std::max<i64>(1, (i64{64} << 20) / (s.groups * size * static_cast<i64>(sizeof(T))));
    const i64 busy = std::max<i64>(1, total * std::min(pixels, PIXELS) * size / WORK_PER_CHUNK);
    const i64 wanted = std::max<i64>(1, std::min({total, i64{32}, affordable, busy}));
    const i64 per_chunk = std::max<i64>(1, ceil_div(total, wanted)),
              chunks = std::max<i64>(1, ceil_div(total, per_chunk));
    Scratch<T> partials(s.groups * chunks * size);
    parallel_for(
        s.groups * chunks, std::max<i64>(1, WORK_PER_CHUNK / (size * per_chunk * std::min(pixels, PIXELS) + 1)),
        [&](i64 begin, i64 end) {
            Scratch<T> col(ROWS * PIXELS), right(ceil_div(kg, NR<T>) * NR<T> * PIXELS);
            for (i64 task = begin; task < end; ++task) {
                const i64 g = task / chunks, chunk = task % chunks;
                T* out = partials.get() + task * size;
                std::fill(out, out + size, T(0));
                for (i64 t = chunk * per_chunk; t < std::min(total, (chunk + 1) * per_chunk); ++t) {
                    const i64 image_group = t / tiles * s.groups + g, p0 = t % tiles * PIXELS;
                    const i64 kc = std::min(PIXELS, pixels - p0);
                    const T* gradient = dy + image_group * kg * pixels + p0;
                    for (i64 j = 0; j < kg; j += NR<T>)
                        pack_panel(right.get() + j * kc, NR<T>, gradient + j * pixels, pixels, i64{1},
                                   std::min<i64>(NR<T>, kg - j), kc);
                    for (i64 r0 = 0; r0 < taps; r0 += ROWS) {
                        const i64 rows = std::min(ROWS, taps - r0), height = panel_height(rows);
                        for (i64 r = 0; r < rows; ++r) {
                            const i64 tap = (r0 + r) % window;
                            gather_tap(col.get() + r * PIXELS, x + (image_group * cg + (r0 + r) / window) * s.h * s.w,
                                       s, tap / s.kw, tap % s.kw, p0, kc);
                        }
                        Tile<T> tile;
                        tile.ldc = kg;
                        tile.a_row = PIXELS;
                        tile.a_step = 1;
                        tile.b_step = NR<T>;
                        tile.k = kc;
                        tile.start = Start::ADD;
                        for (i64 j = 0; j < kg; j += NR<T>)
                            for (i64 i = 0; i < rows; i += height) {
                                tile.c = out + (r0 + i) * kg + j;
                                tile.a = col.get() + i * PIXELS;
                                tile.b = right.get() + j * kc;
                                tile.n = std::min<i64>(NR<T>, kg - j);
                                multiply_tile(tile, std::min(height, rows - i));
                            }
                    }
                }
            }
        });
    parallel_for(s.k, ceil_div(1 << 15, taps * chunks), [&](i64 begin, i64 end) {
        for (i64 k = begin; k < end; ++k) {
            const T* from = partials.get() + k / kg * chunks * size + k % kg;
            for (i64 tap = 0; tap < taps; ++tap) {
                T sum = from[tap * kg];
                for (i64 chunk = 1; chunk < chunks; ++chunk) sum += from[chunk * size + tap * kg];
                dw[k * taps + tap] = sum;
            }
        }
    });
}

}  // namespace

template <class T>
void conv2d_implicit(T* y, const T* x, const T* w, const T* bias, const Conv2dShape& s) {
    implicit_forward(y, x, w, bias, s);
}

template <class T>
void conv2d_backward_input_implicit(T* dx, const T* dy, const T* w, const Conv2dShape& s) {
    if (s.n * s.c * s.h * s.w == 0) return;
    if (s.stride_h != 1 || s.stride_w != 1) return scattered_backward_input(dx, dy, w, s);
    const i64 cg = s.c / s.groups, kg = s.k / s.groups, window = s.kh * s.kw;
    Scratch<T> flipped(s.k * cg * window);  // (groups cg, kg, kh, kw): w with channels exchanged, turned by 180 degrees
    for (i64 g = 0; g < s.groups; ++g)
        for (i64 c = 0; c < cg; ++c)
            for (i64 k = 0; k < kg; ++k)
                for (i64 tap = 0; tap < window; ++tap)
                    flipped[((g * cg + c) * kg + k) * window + tap] =
                        w[((g * kg + k) * cg + c) * window + window - 1 - tap];
    const Conv2dShape t{s.n,
                        s.k,
                        s.oh,
                        s.ow,
                        s.c,
                        s.kh,
                        s.kw,
                        1,
                        1,
                        s.dil_h * (s.kh - 1) - s.pad_h,
                        s.dil_w * (s.kw - 1) - s.pad_w,
                        s.dil_h,
                        s.dil_w,
                        s.groups,
                        s.h,
                        s.w};
    implicit_forward(dx, dy, flipped.get(), static_cast<const T*>(nullptr), t);
}

template <class T>
void conv2d_backward_weight_implicit(T* dw, const T* dy, const T* x, const Conv2dShape& s) {
    implicit_backward_weight(dw, dy, x, s);
}

#define INSTANTIATE(T)                                                                           \
    template void conv2d_implicit<T>(T*, const T*, const T*, const T*, const Conv2dShape&);      \
    template void conv2d_backward_input_implicit<T>(T*, const T*, const T*, const Conv2dShape&); \
    template void conv2d_backward_weight_implicit<T>(T*, const T*, const T*, const Conv2dShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
