// Convolution, rung 2: implicit matrix product, threaded.
//
// Idea:       never write col. A row of col is what one tap sees at all the outputs, and that is the image itself,
//             moved: with zeros round the image (frame.h), what a tap sees at 32 neighbouring outputs are 32
//             neighbours in memory. The tile (tap_tile.h) reads them there, one offset for each step of the product.
// Changed:    the product is made of register tiles (14 x 32 floats with AVX-512, 6 x 16 with AVX2), whose sums stay in
//             registers for KC steps. Threads share out bands of rows of the images. The input gradient is a
//             convolution of dy of stride 1 for each phase of the stride: nothing is scattered, nothing multiplied with
//             the zeros between strides. The weight gradient transposes dy alone and reads the image in place.
// Why faster: per step the tile does 28 vector multiply-adds for 19 loads (AVX-512), so the two multipliers, not the
//             two load ports, are the limit; rung 1 needs 2 loads and 1 store for each. Memory sees x once, not col kh
//             * kw times: a 3x3 kernel on 64 channels of 56 x 56 moves 0.8 MB where col is 7.2 MB.
// Still hurts: 3x3 stride 1 could do with 2.25 to 4 times fewer multiplications (Winograd). Between the rows of y
//             kw - 1 pixels are computed for nothing: 2 in 58, but 2 in 9 for images of 7 x 7.
#include <algorithm>
#include <vector>

#include "core/allocator.h"
#include "core/parallel.h"
#include "cpu/conv/frame.h"
#include "cpu/conv/tap_tile.h"
#include "cpu/matmul/micro_kernel.h"

namespace glassgrad {

namespace {

// Steps at a time: the rows that a tile sees of 28 channels, 3 x 3 taps (16 KiB), and a panel of w (14 KiB) stay in L1.
constexpr i64 KC = 256;
// A band's frame and its sums, each: together with KC steps of w they stay in L2 (256 KiB to 2 MiB; 1 MiB and more
// where there is AVX-512).
constexpr i64 BAND_BYTES = VECTOR_BYTES == 64 ? 384 << 10 : 96 << 10;
constexpr i64 WORK_PER_CHUNK = 1 << 20;  // multiply-adds; about 20 us, thirty times what handing a chunk over costs
constexpr i64 FEW_TAPS = 48;             // see implicit_forward
constexpr i64 TASKS = 16;                // wanted; fewer when they would be narrower than FEWEST_PIXELS
constexpr i64 FEWEST_PIXELS = 192;

// ---- the product ----------------------------------------------------------------------------------------------------

/// The left side of a product, rows in panels: element (i, l) lies at panel i / height, [l][i % height].
template <class T>
struct Panels {
    const T* data;
    i64 rows, steps;
    i64 height() const { return panel_height(rows); }
    i64 size() const { return ceil_div(rows, height()) * height() * steps; }
};

/// From one row of sums to the next: whole vectors, and never a power of two of them.
template <class T>
i64 row_pitch(i64 pixels) {
    return (ceil_div(pixels, W<T>) | 1) * W<T>;
}

/// Neighbouring outputs: `count` runs of so many pixels, and how far apart the runs are in c and in the frame.
struct Runs {
    i64 count, pixels, in_c, in_frame;
};
/// Where c goes: rows and images so far apart.
struct Target {
    i64 row, image;
};

/// c[image, row, run, p] = bias[row] + sum over l of a[row, l] * frame[offset[l] + p] for `count` frames, frame_size
/// apart.
template <class T>
void multiply_frames(T* c, Target to, const Panels<T>& a, const T* frame, i64 frame_size, i64 count, const i64* offset,
                     Runs runs, const T* bias) {
    const i64 height = a.height(), columns = tap_tile_vectors(static_cast<int>(height)) * W<T>;
    TapTile<T> t;
    t.ldc = to.row;
    t.a_step = height;
    i64 l = 0;
    do {  // at least once: without steps c is the bias
        t.steps = std::min(KC, a.steps - l);
        t.offset = offset + l;
        t.accumulate = l > 0;
        for (i64 run = 0; run < count * runs.count; ++run) {
            const i64 image = run / runs.count, r = run % runs.count;
            for (i64 p = 0; p < runs.pixels; p += columns) {
                t.n = std::min(columns, runs.pixels - p);
                t.image = frame + image * frame_size + r * runs.in_frame + p;
                for (i64 i = 0; i < a.rows; i += height) {
                    t.c = c + image * to.image + i * to.row + r * runs.in_c + p;
                    t.a = a.data + i * a.steps + l * height;
                    t.bias = bias ? bias + i : nullptr;
                    multiply_tap_tile(t, std::min(height, a.rows - i));
                }
            }
        }
        l += KC;
    } while (l < a.steps);
}

/// How images are cut into tasks: bands of rows of one image, or, where images are small, several whole ones, so that
/// what is read of w from L2 or L3 serves many pixels.
struct Bands {
    i64 rows, bands, images, tasks;  // of a band; of an image; in a task; in all
};
/// sizes: numbers per row of a frame (all channels) and of the sums; halo: rows of a frame beyond those of its band.
template <class T>
Bands cut_bands(i64 n, i64 groups, i64 out_rows, i64 frame_row, i64 sum_row, i64 halo, i64 width) {
    constexpr i64 budget = BAND_BYTES / static_cast<i64>(sizeof(T));
    i64 rows = std::min(budget / (frame_row + 1) - halo, budget / (sum_row + 1));
    rows = std::min(rows, ceil_div(out_rows, ceil_div(TASKS, n * groups)));
    rows = std::clamp<i64>(rows, std::min(out_rows, ceil_div(FEWEST_PIXELS, width)), out_rows);
    Bands b;
    b.bands = ceil_div(out_rows, rows);
    b.rows = ceil_div(out_rows, b.bands);
    b.bands = ceil_div(out_rows, b.rows);
    b.images =
        b.bands > 1 ? 1 : std::clamp<i64>(FEWEST_PIXELS / (rows * width), 1, std::max<i64>(1, n * groups / TASKS));
    b.tasks = ceil_div(n, b.images) * groups * b.bands;
    return b;
}

// ---- forward --------------------------------------------------------------------------------------------------------

template <class T>
void implicit_forward(T* y, const T* x, const T* w, const T* bias, const Conv2dShape& s) {
    const Axis v = rows_axis(s), h = cols_axis(s);
    const i64 cg = s.c / s.groups, kg = s.k / s.groups, taps = cg * s.kh * s.kw, width = input_width(s);
    if (s.n * s.k * s.oh * s.ow == 0) return;

    const Panels<T> shape{nullptr, kg, taps};
    Scratch<T> packed(s.groups * shape.size());
    const i64 height = shape.height(), panels = ceil_div(kg, height);
    parallel_for(s.groups * panels, ceil_div(WORK_PER_CHUNK / 8, height * taps + 1), [&](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i)
            pack_panel(packed + i * height * taps, height, w + (i / panels * kg + i % panels * height) * taps, taps,
                       i64{1}, std::min(height, kg - i % panels * height), taps);
    });

    const i64 planes = v.kept() * h.kept() * cg;
    const Bands b = cut_bands<T>(s.n, s.groups, s.oh, planes * width, kg * width, v.halo(), width);
    const FrameShape f = frame_shape<T>(b.rows + v.halo(), width);
    std::vector<i64> offset;
    for (i64 c = 0; c < cg; ++c)
        for (i64 r = 0; r < s.kh; ++r)
            for (i64 q = 0; q < s.kw; ++q) offset.push_back(input_offset(c, r, q, f, cg, s));
    const i64 most_pixels = (b.rows - 1) * width + s.ow, frame_size = planes * f.plane;
    // Sums go to y at once where its rows are as long as the frame's, or the taps so few that a copy would cost more
    // than lanes that idle at the end of each row; else by way of L2.
    const bool at_once = width == s.ow || taps <= FEW_TAPS;
    const i64 work = kg * taps * b.images * most_pixels;
    parallel_for(b.tasks, ceil_div(WORK_PER_CHUNK, work + 1), [&](i64 begin, i64 end) {
        const i64 slack = h.halo() + tap_tile_vectors(static_cast<int>(height)) * W<T>;  // tiles read on to their end
        Scratch<T> frame(b.images * frame_size + slack);
        Scratch<T> sums(at_once ? 0 : b.images * kg * row_pitch<T>(most_pixels));
        for (i64 task = begin; task < end; ++task) {
            const i64 band = task % b.bands, g = task / b.bands % s.groups, i0 = task / b.bands / s.groups * b.images;
            const i64 o0 = band * b.rows, rows = std::min(b.rows, s.oh - o0), images = std::min(b.images, s.n - i0);
            for (i64 i = 0; i < images; ++i)
                cut_input(frame + i * frame_size, f, x + ((i0 + i) * s.c + g * cg) * s.h * s.w, cg, o0, s);
            std::fill(frame + images * frame_size, frame + images * frame_size + slack, T(0));
            const Panels<T> a{packed + g * shape.size(), kg, taps};
            const T* group_bias = bias ? bias + g * kg : nullptr;
            T* out = y + ((i0 * s.k + g * kg) * s.oh + o0) * s.ow;
            if (at_once) {
                const Runs runs = width == s.ow ? Runs{1, rows * s.ow, 0, 0} : Runs{rows, s.ow, s.ow, width};
                multiply_frames<T>(out, {s.oh * s.ow, s.k * s.oh * s.ow}, a, frame, frame_size, images, offset.data(),
                                   runs, group_bias);
                continue;
            }
            const i64 pixels = (rows - 1) * width + s.ow, pitch = row_pitch<T>(pixels);
            multiply_frames<T>(sums.get(), {pitch, kg * pitch}, a, frame, frame_size, images, offset.data(),
                               {1, pixels, 0, 0}, group_bias);
            for (i64 i = 0; i < images * kg; ++i)
                for (i64 o = 0; o < rows; ++o)
                    copy_row(out + ((i / kg * s.k + i % kg) * s.oh + o) * s.ow, sums + i * pitch + o * width, s.ow);
        }
    });
}

// ---- input gradient -------------------------------------------------------------------------------------------------

/// One axis of an input gradient. Pixel i of dx is element u of phase a, i = u * stride + a - pad, and what it gets
/// from tap r is dy[u - (r * dil - a) / stride], of those taps where that divides. The frame of dy begins at u0 - halo.
struct Phases {
    Axis axis;
    i64 first() const { return axis.pad / axis.stride; }
    i64 count() const { return (axis.in - 1 + axis.pad) / axis.stride - first() + 1; }
    bool has(i64 a, i64 r) const { return (r * axis.dil - a) % axis.stride == 0; }
    i64 place(i64 a, i64 r) const { return axis.halo() - (r * axis.dil - a) / axis.stride; }
    i64 begin() const { return first() - axis.halo(); }  // of the frame, in dy
    i64 pixel(i64 u, i64 a) const { return u * axis.stride + a - axis.pad; }
};

template <class T>
void implicit_backward_input(T* dx, const T* dy, const T* w, const Conv2dShape& s) {
    const Phases v{rows_axis(s)}, h{cols_axis(s)};
    const i64 cg = s.c / s.groups, kg = s.k / s.groups, window = s.kh * s.kw, taps = cg * window;
    const i64 phases = s.stride_h * s.stride_w, cols = h.count() + h.axis.halo();
    const i64 width = cols - std::min(shared_zeros(cols, s.ow, {h.begin(), 1}), h.axis.halo());
    if (s.n * s.c * s.h * s.w == 0) return;

    // For every phase, the taps it has.
    const Bands b = cut_bands<T>(s.n, s.groups, v.count(), kg * width, cg * width, v.axis.halo(), width);
    const FrameShape f = frame_shape<T>(b.rows + v.axis.halo(), width);
    std::vector<std::vector<i64>> taps_of(phases), offset(phases);
    std::vector<i64> start(phases + 1);
    for (i64 a = 0; a < phases; ++a) {
        for (i64 r = 0; r < s.kh; ++r)
            for (i64 q = 0; q < s.kw; ++q)
                if (v.has(a / s.stride_w, r) && h.has(a % s.stride_w, q)) taps_of[a].push_back(r * s.kw + q);
        for (i64 k = 0; k < kg; ++k)
            for (i64 tap : taps_of[a])
                offset[a].push_back(k * f.plane + v.place(a / s.stride_w, tap / s.kw) * width +
                                    h.place(a % s.stride_w, tap % s.kw));
        start[a + 1] = start[a] + Panels<T>{nullptr, cg, static_cast<i64>(offset[a].size())}.size();
    }
    Scratch<T> packed(s.groups * start[phases]);
    parallel_for(s.groups * phases, ceil_div(WORK_PER_CHUNK / 8, kg * taps / phases + 1), [&](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i) {
            const i64 g = i / phases, a = i % phases, height = panel_height(cg);
            T* to = packed + g * start[phases] + start[a];
            for (i64 c0 = 0; c0 < cg; c0 += height)
                for (i64 k = 0; k < kg; ++k)
                    for (i64 tap : taps_of[a])
                        for (i64 c = c0; c < c0 + height; ++c)
                            *to++ = c < cg ? w[((g * kg + k) * cg + c) * window + tap] : T(0);
        }
    });

    const i64 most_pixels = (b.rows - 1) * width + h.count(), frame_size = kg * f.plane;
    const bool at_once = phases == 1 && (width == s.w || kg * window <= FEW_TAPS);
    const i64 work = kg * taps * b.images * most_pixels;
    parallel_for(b.tasks, ceil_div(WORK_PER_CHUNK, work + 1), [&](i64 begin, i64 end) {
        const i64 slack = h.axis.halo() + tap_tile_vectors(static_cast<int>(panel_height(cg))) * W<T>;
        Scratch<T> frame(b.images * frame_size + slack);
        Scratch<T> sums(at_once ? 0 : b.images * cg * row_pitch<T>(most_pixels));
        for (i64 task = begin; task < end; ++task) {
            const i64 band = task % b.bands, g = task / b.bands % s.groups, i0 = task / b.bands / s.groups * b.images;
            const i64 u0 = v.first() + band * b.rows, rows = std::min(b.rows, v.first() + v.count() - u0);
            const i64 images = std::min(b.images, s.n - i0);
            const i64 pixels = (rows - 1) * width + h.count(), pitch = row_pitch<T>(pixels);
            for (i64 i = 0; i < images; ++i)
                for (i64 k = 0; k < kg; ++k)
                    cut_frame(frame + i * frame_size + k * f.plane, f, dy + ((i0 + i) * s.k + g * kg + k) * s.oh * s.ow,
                              s.oh, s.ow, {u0 - v.axis.halo(), 1}, {h.begin(), 1});
            std::fill(frame + images * frame_size, frame + images * frame_size + slack, T(0));
            if (at_once) {  // stride 1: every element of the frame's grid is a pixel
                const Runs runs = width == s.w ? Runs{1, rows * s.w, 0, 0} : Runs{rows, s.w, s.w, width};
                multiply_frames<T>(dx + ((i0 * s.c + g * cg) * s.h + band * b.rows) * s.w, {s.h * s.w, s.c * s.h * s.w},
                                   {packed + g * start[1], cg, kg * window}, frame, frame_size, images,
                                   offset[0].data(), runs, nullptr);
                continue;
            }
            for (i64 a = 0; a < phases; ++a) {
                multiply_frames<T>(sums.get(), {pitch, cg * pitch},
                                   {packed + g * start[phases] + start[a], cg, static_cast<i64>(offset[a].size())},
                                   frame, frame_size, images, offset[a].data(), {1, pixels, 0, 0}, nullptr);
                const i64 x0 = h.pixel(h.first(), a % s.stride_w);
                const ValidRange valid = valid_range(h.count(), s.stride_w, x0, s.w);
                for (i64 i = 0; i < images * cg; ++i)
                    for (i64 u = 0; u < rows; ++u) {
                        const i64 iy = v.pixel(u0 + u, a / s.stride_w);
                        if (iy < 0 || iy >= s.h) continue;
                        const T* from = sums + i * pitch + u * width;
                        T* to = dx + (((i0 + i / cg) * s.c + g * cg + i % cg) * s.h + iy) * s.w + x0;
                        if (s.stride_w == 1)
                            copy_row(to + valid.begin, from + valid.begin, valid.end - valid.begin);
                        else
                            for (i64 j = valid.begin; j < valid.end; ++j) to[j * s.stride_w] = from[j];
                    }
            }
        }
    });
}

// ---- weight gradient ------------------------------------------------------------------------------------------------

/// dw^T: (taps, kg) = col @ dy^T. Rows of col are rows of the frames, in place; dy is transposed, with zeros where the
/// frame's rows are longer than its own.
template <class T>
void implicit_backward_weight(T* dw, const T* dy, const T* x, const Conv2dShape& s) {
    const Axis v = rows_axis(s), h = cols_axis(s);
    const i64 cg = s.c / s.groups, kg = s.k / s.groups, window = s.kh * s.kw, taps = cg * window;
    const i64 width = input_width(s), kept = v.kept() * h.kept(), size = kg * taps;
    if (size == 0) return;
    if (s.n * s.oh * s.ow == 0) return void(std::fill(dw, dw + s.k * taps, T(0)));

    // A task sums a block of channels over a chunk of the bands. Blocks: their sums stay in L2, and dy is transposed
    // anew for each, at half a cycle a number, which 500 taps make 3 % of the work. Chunks: as many as threads might
    // use, each of 1024 pixels or more: adding the chunks up is then 2 % of the work.
    constexpr i64 budget = BAND_BYTES / static_cast<i64>(sizeof(T));
    const i64 blocks = ceil_div(cg, std::max<i64>(std::min<i64>(cg, MR), budget / (window * kg)));
    const i64 block = ceil_div(cg, blocks);
    const i64 rows_fit =
        std::min(budget / (kept * block * width) - v.halo(), budget / 2 / (round_up(kg, NR<T>) * width));
    const i64 bands = ceil_div(s.oh, std::clamp<i64>(rows_fit, std::min(s.oh, ceil_div(FEWEST_PIXELS, width)), s.oh));
    const i64 rows = ceil_div(s.oh, bands), units = s.n * ceil_div(s.oh, rows), pixels = (rows - 1) * width + s.ow;
    const i64 wanted = std::clamp<i64>(s.n * s.oh * s.ow / 1024, 1, ceil_div(32, s.groups * blocks));
    const i64 per_chunk = ceil_div(units, wanted), chunks = ceil_div(units, per_chunk);

    // Few channels make low tiles, so their rows of col, of all taps, are copied together.
    const bool in_place = block >= MR / 2;
    const bool framed = is_framed(s) && s.h * s.w * static_cast<i64>(sizeof(T)) % 512;
    const FrameShape f = framed ? FrameShape{s.h, s.w, s.h * s.w} : frame_shape<T>(rows + v.halo(), width);
    const i64 steps = ceil_div(pixels, ceil_div(pixels, KC));
    Scratch<T> partials(s.groups * chunks * size);
    parallel_for(s.groups * chunks * blocks, 1, [&](i64 begin, i64 end) {
        Scratch<T> frames(framed ? 0 : kept * block * f.plane + h.halo()), right(round_up(kg, NR<T>) * pixels);
        Scratch<T> col(in_place ? 0 : block * window * steps);
        for (i64 task = begin; task < end; ++task) {
            const i64 c0 = task % blocks * block, channels = std::min(block, cg - c0);
            const i64 chunk = task / blocks % chunks, g = task / blocks / chunks;
            if (channels <= 0) continue;
            T* out = partials + (g * chunks + chunk) * size + c0 * window * kg;
            for (i64 unit = chunk * per_chunk; unit < std::min(units, (chunk + 1) * per_chunk); ++unit) {
                const i64 image = unit / ceil_div(s.oh, rows), o0 = unit % ceil_div(s.oh, rows) * rows;
                const i64 here = std::min(rows, s.oh - o0), count = (here - 1) * width + s.ow;
                const T* from = x + (image * s.c + g * cg + c0) * s.h * s.w;
                const T* frame = framed ? from + o0 * s.w : frames;
                if (!framed) {
                    cut_input(frames.get(), f, from, channels, o0, s);
                    T* end = frames + kept * channels * f.plane;
                    std::fill(end, end + h.halo(), T(0));
                }
                const T* gradient = dy + ((image * s.k + g * kg) * s.oh + o0) * s.ow;
                for (i64 j = 0; j < kg; j += NR<T>)
                    for (i64 o = 0; o < here; ++o) {
                        T* to = right + j * count + o * width * NR<T>;
                        pack_panel(to, NR<T>, gradient + j * s.oh * s.ow + o * s.ow, s.oh * s.ow, i64{1},
                                   std::min<i64>(NR<T>, kg - j), s.ow);
                        if (o + 1 < here) std::fill(to + s.ow * NR<T>, to + width * NR<T>, T(0));
                    }
                for (i64 p = 0; p < count; p += steps) {
                    Tile<T> t;
                    t.ldc = kg;
                    t.a_step = 1;
                    t.b_step = NR<T>;
                    t.k = std::min(steps, count - p);
                    t.start = unit == chunk * per_chunk && p == 0 ? Start::ZERO : Start::ADD;
                    const auto multiply = [&](i64 j, i64 row, i64 m, const T* a, i64 a_row) {
                        t.a_row = a_row;
                        t.b = right + j * count + p * NR<T>;
                        t.n = std::min<i64>(NR<T>, kg - j);
                        const i64 height = panel_height(m);
                        for (i64 i = 0; i < m; i += height) {
                            t.c = out + (row + i) * kg + j;
                            t.a = a + i * a_row;
                            multiply_tile(t, std::min(height, m - i));
                        }
                    };
                    const auto offset = [&](i64 c, i64 tap) {
                        return input_offset(c, tap / s.kw, tap % s.kw, f, channels, s) + p;
                    };
                    if (!in_place)
                        for (i64 i = 0; i < window * channels; ++i) {
                            const T* from = frame + offset(i % channels, i / channels);
                            copy_row(col + i * steps, from, t.k);
                        }
                    for (i64 j = 0; j < kg; j += NR<T>)
                        if (in_place)
                            for (i64 tap = 0; tap < window; ++tap)
                                multiply(j, tap * channels, channels, frame + offset(0, tap), f.plane);
                        else
                            multiply(j, 0, window * channels, col, steps);
                }
            }
        }
    });
    // A block's sums lie (tap, channel, k); dw is (k, channel, tap).
    const i64 vectors = ceil_div(kg, W<T>);
    parallel_for(s.groups * vectors, ceil_div(1 << 15, taps * chunks * W<T>), [&](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i) {
            const i64 g = i / vectors, k = i % vectors * W<T>, lanes = std::min<i64>(W<T>, kg - k);
            for (i64 c = 0; c < cg; ++c) {
                const i64 c0 = c / block * block, channels = std::min(block, cg - c0);
                for (i64 tap = 0; tap < window; ++tap) {
                    const T* from = partials + g * chunks * size + (c0 * window + tap * channels + c - c0) * kg + k;
                    Vec<T> sum = load_partial(from, static_cast<int>(lanes));
                    for (i64 chunk = 1; chunk < chunks; ++chunk)
                        sum += load_partial(from + chunk * size, static_cast<int>(lanes));
                    T* to = dw + ((g * kg + k) * cg + c) * window + tap;
                    for (i64 lane = 0; lane < lanes; ++lane) to[lane * taps] = sum[lane];
                }
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
    implicit_backward_input(dx, dy, w, s);
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
