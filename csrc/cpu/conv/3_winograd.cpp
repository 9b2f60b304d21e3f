// Convolution, rung 3: Winograd, for 3 x 3 kernels of stride and dilation 1.
//
// Idea:       convolving is multiplying polynomials, and polynomials are multiplied value by value: at 6 points in each
//             direction, 36 products make the 4 x 4 outputs of a tile that have 144 taps. Values are sums of
//             coefficients, B^T x B of an image tile (6 x 6) and G w G^T of a kernel, and A^T m A takes the products
//             back. Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2015 (arXiv 1509.09308).
// Changed:    the sum over input channels is taken of values, so each point is a matrix product of its own, (tiles, c)
//             @ (c, k), in the register tiles of rung 2. A vector holds the same pixel of W channels: no width of
//             image leaves lanes idle, and the values are stored as the product reads them. A block of 64 tiles goes
//             from x to y through L2. dx is the same with the kernel turned; dW = G^T [(A dY A^T) . (B^T X B)] G,
//             where tiles are summed over.
// Why faster: 4 times fewer multiplications. The transforms cost, per tile and W channels, about 170 instructions (x)
//             and 130 (y) where the product has 36 for each output channel: 13 % more of them at 64 channels. They
//             load and store about as much as they compute, so at 64 channels they take 40 % of the time, at 256 a
//             quarter (half of it for w): 2.4 and 1.9 times the speed of rung 2, of PyTorch 2.1 to 2.9 and 1.8 to 2
//             times.
// Accuracy:   points far from 1 magnify rounding: 0, 1, -1, 2, -2, the paper's, err by 6e-6 to 2e-5 of the largest
//             result (float, normal data, 64 to 512 channels). 0 and +-sqrt(1/2), +-sqrt(2) err by 1e-6 to 3e-6, F(2x2)
//             by 2e-7 to 6e-7 and rung 2 by 1e-7 to 6e-7. An infinity or a NaN spoils all outputs of the tiles that see
//             it.
// Still hurts: below 16 channels the transforms cost more than they save. Outputs beyond the image are computed: 7 x 7
//             takes 64. With 256 channels and more V and U do not fit in L2, and L3 is what limits.
#include <algorithm>
#include <utility>

#include "core/allocator.h"
#include "core/parallel.h"
#include "cpu/conv/shape.h"
#include "cpu/matmul/micro_kernel.h"
#include "cpu/matmul/shape.h"

namespace glassgrad {

namespace {

// ---- the transforms -------------------------------------------------------------------------------------------------

template <int N_ROWS, int N_COLUMNS>
struct Matrix {
    static constexpr int ROWS = N_ROWS, COLUMNS = N_COLUMNS;
    double at[ROWS][COLUMNS];
};

/// The matrices of F(M x M, 3 x 3), a row for each of the points 0, p, -p, ..., infinity: y = A^T [(G g) . (B^T d)].
/// A tile of M outputs and a kernel of 3 taps are the coefficients of polynomials. A holds the first one's values at
/// the points, G the second one's divided by Lagrange's denominators, B^T the numerators.
template <int M>
struct Winograd {
    static constexpr int POINTS = M + 2, PAIRS = M / 2;
    Matrix<POINTS, M> A{};
    Matrix<POINTS, 3> G{};
    Matrix<POINTS, POINTS> B_T{};

    constexpr Winograd(const double (&p)[PAIRS], const double (&square)[PAIRS]) {
        for (int pair = -1; pair < PAIRS; ++pair) {
            double rest[POINTS] = {1}, denominator = 1;  // the product of (x^2 - p^2) over the other pairs
            for (int k = 0; k < PAIRS; ++k) {
                if (k == pair) continue;
                for (int j = POINTS - 1; j >= 0; --j) rest[j] = (j >= 2 ? rest[j - 2] : 0) - square[k] * rest[j];
                denominator *= (pair < 0 ? 0 : square[pair]) - square[k];
            }
            if (pair < 0) {  // 0: all pairs are the others; and infinity: all finite points are
                A.at[0][0] = A.at[POINTS - 1][M - 1] = 1;
                G.at[0][0] = 1 / denominator;
                G.at[POINTS - 1][2] = 1;
                for (int j = 0; j < POINTS; ++j) B_T.at[0][j] = rest[j];
                for (int j = 1; j < POINTS; ++j) B_T.at[POINTS - 1][j] = rest[j - 1];
                continue;
            }
            for (int sign = 1; sign >= -1; sign -= 2) {
                const int row = 2 * pair + (sign > 0 ? 1 : 2);
                double power = 1;
                for (int j = 0; j < POINTS; ++j, power *= sign * p[pair]) {
                    if (j < M) A.at[row][j] = power;
                    if (j < 3) G.at[row][j] = power / (2 * square[pair] * denominator);
                    if (j >= 1) B_T.at[row][j] = sign * p[pair] * rest[j - 1] + (j >= 2 ? rest[j - 2] : 0);
                }
            }
        }
    }
};

template <int M>
constexpr Winograd<M> WINOGRAD = [] {
    if constexpr (M == 2)
        return Winograd<2>({1}, {1});
    else
        return Winograd<4>({0.70710678118654752, 1.41421356237309505}, {0.5, 2});
}();
template <int M>
constexpr auto A = WINOGRAD<M>.A;
template <int M>
constexpr auto G = WINOGRAD<M>.G;
template <int M>
constexpr auto B_T = WINOGRAD<M>.B_T;

/// f(0), ..., f(N - 1), each number a constant for the compiler: a matrix's zeros and ones then cost nothing.
template <int N, class F>
__attribute__((always_inline)) inline void unrolled(F&& f) {
    [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
        (f(std::integral_constant<int, I>{}), ...);
    }(std::make_integer_sequence<int, N>());
}

/// out = L in. The rows of p and -p differ in the sign of the odd columns: both are made of the same two sums.
template <const auto& L, class V>
__attribute__((always_inline)) inline void to_points(V (&out)[L.ROWS], const V (&in)[L.COLUMNS]) {
    unrolled<L.ROWS>([&](auto i) __attribute__((always_inline)) {
        constexpr bool is_pair = i > 0 && i < L.ROWS - 1;
        if constexpr (!is_pair || i % 2 == 1) {
            V even = constant<V>(-0.0), odd = even;  // -0.0 + x is x, also to the compiler
            unrolled<L.COLUMNS>([&](auto j) __attribute__((always_inline)) {
                if constexpr (L.at[i][j] != 0) (is_pair && j % 2 ? odd : even) += constant<V>(L.at[i][j]) * in[j];
            });
            out[i] = even + odd;
            if constexpr (is_pair) out[i + 1] = even - odd;
        }
    });
}

/// out = L^T in, likewise: even columns need in[p] + in[-p], odd ones the difference.
template <const auto& L, class V>
__attribute__((always_inline)) inline void from_points(V (&out)[L.COLUMNS], const V (&in)[L.ROWS]) {
    unrolled<L.COLUMNS>([&](auto j) __attribute__((always_inline)) {
        V sum = constant<V>(-0.0);
        unrolled<L.ROWS>([&](auto i) __attribute__((always_inline)) {
            constexpr bool is_pair = i > 0 && i < L.ROWS - 1;
            if constexpr (L.at[i][j] != 0 && (!is_pair || i % 2 == 1)) {
                V x = in[i];
                if constexpr (is_pair) x = j % 2 ? in[i] - in[i + 1] : in[i] + in[i + 1];
                sum += constant<V>(L.at[i][j]) * x;
            }
        });
        out[j] = sum;
    });
}

/// The columns, then the rows of a (IN, IN) tile of vectors through `transform` (OUT numbers of IN).
template <int OUT, int IN, class T, class Transform, class Load, class Store>
__attribute__((always_inline)) inline void transform_tile(Transform&& transform, Load&& load_at, Store&& store_at) {
    Vec<T> half[OUT][IN];
    unrolled<IN>([&](auto q) __attribute__((always_inline)) {
        Vec<T> in[IN], out[OUT];
        unrolled<IN>([&](auto r) __attribute__((always_inline)) { in[r] = load_at(r, q); });
        transform(out, in);
        unrolled<OUT>([&](auto r) __attribute__((always_inline)) { half[r][q] = out[r]; });
    });
    unrolled<OUT>([&](auto r) __attribute__((always_inline)) {
        Vec<T> out[OUT];
        transform(out, half[r]);
        unrolled<OUT>([&](auto q) __attribute__((always_inline)) { store_at(r, q, out[q]); });
    });
}

// ---- tiles ----------------------------------------------------------------------------------------------------------

// Forward, a block of tiles: V is 36 * 64 * c floats, 0.6 MiB for 64 channels. Each number of U that comes from L2 or
// L3 is used 64 times.
constexpr i64 TILES = 64, FEW_WEIGHTS = 4 << 20;
// ... and channels at a time: a panel of U, 36 * KC * NR floats, is 576 KiB (AVX2: 288) when it is made where it is
// used.
constexpr i64 KC = 128;
// Weight gradient: the sums of a part, 36 * 64 * 128 floats, are 1.1 MiB.
constexpr i64 SUM_ROWS = 64, SUM_COLUMNS = 128, NEAR_BYTES = 1 << 20, NEAR_STEP = 32, FAR_STEP = 128;

/// (points, rows, channels), a row being a tile or an output channel: a matrix for each point. Distances are odd
/// numbers of vectors: powers of two would map to the same few sets of L1.
template <class T>
struct Points {
    T* data;
    i64 row, point;

    static i64 odd_vectors(i64 n) { return (ceil_div(n, W<T>) | 1) * W<T>; }
    static i64 size(i64 points, i64 rows, i64 channels) { return points * Points(nullptr, rows, channels).point; }
    Points(T* data, i64 rows, i64 channels) : data(data), row(odd_vectors(channels)), point(odd_vectors(rows * row)) {}
    T* at(i64 p, i64 i, i64 channel) const { return data + p * point + i * row + channel; }
};

/// The planes (h, w) of one group, a tile every M pixels: (n, down, across) of them, numbered in this order.
struct Tiling {
    i64 down, across, total;
    Tiling(i64 m, i64 n, i64 rows, i64 columns)
        : down(ceil_div(rows, m)), across(ceil_div(columns, m)), total(n * down * across) {}
};

/// f(image, tile row, first tile column, count, index) for the tiles [first, first + count), row by row.
template <class F>
void for_each_run(const Tiling& tiling, i64 first, i64 count, F&& f) {
    for (i64 done = 0; done < count;) {
        const i64 tile = first + done, column = tile % tiling.across, row = tile / tiling.across;
        const i64 run = std::min(count - done, tiling.across - column);
        f(row / tiling.down, row % tiling.down, column, run, done);
        done += run;
    }
}

/// Images: channel planes (h, w) of which a tile sees IN x IN pixels, the first one's at (-pad_h, -pad_w).
template <class T>
struct Planes {
    const T* data;
    i64 image, h, w, pad_h, pad_w;

    Planes from(i64 channel) const {
        Planes rest = *this;
        rest.data += channel * h * w;
        return rest;
    }
};

/// out[point][tile][channel] = L (what the tile sees) L^T for the tiles [first, first + count). Threads share out rows.
template <int M, const auto& L, class T>
void planes_to_points(const Points<T>& out, const Planes<T>& x, const Tiling& tiling, i64 first, i64 count,
                      i64 channels) {
    constexpr int IN = L.COLUMNS, OUT = L.ROWS;
    const i64 plane = x.h * x.w, seen = std::min(x.w, std::min(tiling.across, count) * M + 2);
    const i64 piece = ceil_div(i64{8}, tiling.across) * tiling.across;  // tiles
    parallel_for(count, piece, [&](i64 begin, i64 end) {
        Scratch<T> strip((IN + 1) * seen * W<T>);
        for_each_run(
            tiling, first + begin, end - begin, [&](i64 image, i64 tile_row, i64 tile_column, i64 run, i64 index) {
                // The rows and columns of the planes that the run sees: (rows, columns, W) in the strip, then zeros.
                const i64 top = tile_row * M - x.pad_h, left = tile_column * M - x.pad_w;
                const i64 r0 = std::clamp<i64>(top, 0, x.h), r1 = std::clamp<i64>(top + IN, r0, x.h);
                const i64 q0 = std::clamp<i64>(left, 0, x.w), q1 = std::clamp<i64>(left + (run - 1) * M + IN, q0, x.w);
                const i64 columns = q1 - q0;
                T* zeros = strip + (r1 - r0) * columns * W<T>;
                std::fill(zeros, zeros + columns * W<T>, T(0));
                const T* row[IN];
                for (i64 r = 0; r < IN; ++r)
                    row[r] = top + r >= r0 && top + r < r1 ? strip + (top + r - r0) * columns * W<T> : zeros;

                for (i64 c = 0; c < channels; c += W<T>) {
                    const T* from = x.data + image * x.image + c * plane + r0 * x.w + q0;
                    const i64 lanes = std::min<i64>(W<T>, channels - c);
                    if (columns == x.w)
                        pack_panel(strip.get(), W<T>, from, plane, i64{1}, lanes, (r1 - r0) * columns);
                    else
                        for (i64 r = 0; r < r1 - r0; ++r)
                            pack_panel(strip + r * columns * W<T>, W<T>, from + r * x.w, plane, i64{1}, lanes, columns);
                    for (i64 t = 0; t < run; ++t) {
                        T* at = out.data + (begin + index + t) * out.row + c;
                        const i64 column = left + t * M - q0;  // of the tile, in the strip
                        transform_tile<OUT, IN, T>(
                            [&](auto& to, auto& numbers) __attribute__((always_inline)) { to_points<L>(to, numbers); },
                            [&](int r, int q) __attribute__((always_inline)) {
                                const i64 at = column + q;
                                return at >= 0 && at < columns ? load(row[r] + at * W<T>) : Vec<T>{};
                            },
                            [&](int i, int j, const Vec<T>& v)
                                __attribute__((always_inline)) { store(at + (i * OUT + j) * out.point, v); });
                    }
                }
            });
    });
}

/// y = A^T m A + bias, where y has pixels. Channels [c, c + lanes) of m, at most W, are the first of y and bias.
template <int M, class T>
void points_to_planes(T* y, i64 image_distance, i64 oh, i64 ow, const T* bias, const Points<T>& m, i64 c, i64 lanes,
                      const Tiling& tiling, i64 first, i64 count, T* strip) {
    constexpr int POINTS = M + 2;
    const Vec<T> start = bias ? load_partial(bias, static_cast<int>(lanes)) : Vec<T>{};
    for_each_run(tiling, first, count, [&](i64 image, i64 tile_row, i64 tile_column, i64 run, i64 index) {
        const i64 top = tile_row * M, left = tile_column * M;
        const i64 rows = std::min<i64>(M, oh - top), columns = std::min(run * M, ow - left);
        for (i64 t = 0; t < run; ++t) {
            const T* from = m.at(0, index + t, c);
            T* to = strip + t * M * W<T>;
            const i64 width = std::min<i64>(M, columns - t * M);
            transform_tile<M, POINTS, T>(
                [&](auto& out, auto& numbers) __attribute__((always_inline)) { from_points<A<M>>(out, numbers); },
                [&](int i, int j) __attribute__((always_inline)) { return load(from + (i * POINTS + j) * m.point); },
                [&](int r, int q, const Vec<T>& v) __attribute__((always_inline)) {
                    if (r < rows && q < width) store(to + (r * columns + q) * W<T>, v + start);
                });
        }
        T* out = y + image * image_distance + top * ow + left;
        if (columns == ow)
            unpack_panel(out, oh * ow, strip, lanes, rows * columns);
        else
            for (i64 r = 0; r < rows; ++r)
                unpack_panel(out + r * ow, oh * ow, strip + r * columns * W<T>, lanes, columns);
    });
}

// ---- weights --------------------------------------------------------------------------------------------------------

/// Tap t from input i to output o: w[o * output + i * input + t], or with 8 - t for t: turned by 180 degrees.
template <class T>
struct Weights {
    const T* data;
    i64 output, input;
    bool turned;
};

/// The distance of the points in a panel of kc inputs.
template <class T>
i64 panel_point(i64 kc) {
    return (kc * NV | 1) * W<T>;
}

/// panel[point][input][NR outputs] = G w G^T for the inputs [l0, l0 + kc). taps: (STEPS, 9, NR).
template <int M, class T>
void weights_to_points(T* panel, const Weights<T>& w, i64 o0, i64 outputs, i64 l0, i64 kc, T* taps) {
    constexpr int POINTS = M + 2;
    constexpr i64 STEPS = 16;
    const i64 point = panel_point<T>(kc);
    for (i64 l = 0; l < kc; l += STEPS) {
        const i64 steps = std::min(STEPS, kc - l);
        const T* from = w.data + o0 * w.output + (l0 + l) * w.input;
        if (w.input == 9)
            pack_panel(taps, NR<T>, from, w.output, i64{1}, outputs, steps * 9);
        else
            for (i64 i = 0; i < steps; ++i)
                pack_panel(taps + i * 9 * NR<T>, NR<T>, from + i * w.input, w.output, i64{1}, outputs, i64{9});
        for (i64 i = 0; i < steps; ++i)
            for (int v = 0; v < NV; ++v) {
                const T* at = taps + i * 9 * NR<T> + v * W<T>;
                T* to = panel + (l + i) * NR<T> + v * W<T>;
                transform_tile<POINTS, 3, T>(
                    [&](auto& out, auto& in) __attribute__((always_inline)) { to_points<G<M>>(out, in); },
                    [&](int r, int q) __attribute__((always_inline)) {
                        const int tap = 3 * r + q;
                        return load(at + (w.turned ? 8 - tap : tap) * NR<T>);
                    },
                    [&](int i2, int j, const Vec<T>& u)
                        __attribute__((always_inline)) { store(to + (i2 * POINTS + j) * point, u); });
            }
    }
}

// ---- sharing out ----------------------------------------------------------------------------------------------------

/// n things in parts of at most `most`: of 1 or an even number of parts, for two threads and for four.
i64 part_size(i64 n, i64 most) { return n <= most ? std::max<i64>(n, 1) : ceil_div(n, ceil_div(n, 2 * most) * 2); }

/// run(begin, end) for tasks that do not touch each other's data. Where they would leave a quarter of the threads idle,
/// one after the other: then each task's own loops are shared out. The results do not depend on who does what.
template <class F>
void share_out(i64 tasks, F&& run) {
    const i64 rounds = ceil_div(tasks, num_threads());
    if (4 * tasks >= 3 * rounds * num_threads())
        parallel_for(tasks, 1, run);
    else
        run(0, tasks);
}

// ---- the passes -----------------------------------------------------------------------------------------------------

/// y for s: the shape of this convolution, also when it is the input gradient of another one.
template <int M, class T>
void convolve(T* y, const T* x, const Weights<T>& w, i64 group_weights, const T* bias, const Conv2dShape& s) {
    constexpr int POINTS = (M + 2) * (M + 2);
    const i64 cg = s.c / s.groups, kg = s.k / s.groups;
    const Tiling tiling(M, s.n, s.oh, s.ow);
    if (tiling.total == 0 || kg == 0) return;
    const i64 most = POINTS * kg * cg * static_cast<i64>(sizeof(T)) <= FEW_WEIGHTS ? TILES : 2 * TILES;
    const i64 block = part_size(tiling.total, most), blocks = ceil_div(tiling.total, block);
    const i64 panels = ceil_div(kg, NR<T>), parts = std::max<i64>(1, ceil_div(cg, KC));
    const i64 kc = ceil_div(cg, parts), panel_size = POINTS * panel_point<T>(kc);
    const i64 slab_size = Points<T>::size(POINTS, block, kc), taps_size = 16 * 9 * NR<T>;

    const auto transform_panel = [&](T* panel, i64 g, i64 j, i64 part, T* taps) {
        const i64 l0 = part * kc;
        const Weights<T> group{w.data + g * group_weights, w.output, w.input, w.turned};
        weights_to_points<M>(panel, group, j * NR<T>, std::min<i64>(NR<T>, kg - j * NR<T>), l0, std::min(kc, cg - l0),
                             taps);
    };
    // With one block of tiles a panel of weights is used once: it is transformed where it is used.
    const bool ahead = blocks > 1;
    Scratch<T> weights(ahead ? s.groups * panels * parts * panel_size : 0);
    if (ahead)
        parallel_for(s.groups * panels * parts, ceil_div(1 << 11, kc + 1), [&](i64 begin, i64 end) {
            Scratch<T> taps(taps_size);
            for (i64 i = begin; i < end; ++i)
                transform_panel(weights + i * panel_size, i / parts / panels, i / parts % panels, i % parts, taps);
        });

    const auto run = [&](i64 begin, i64 end) {
        Scratch<T> data(parts * slab_size);
        const auto slab_of = [&](i64 part) { return Points<T>(data + part * slab_size, block, kc); };
        for (i64 task = begin; task < end; ++task) {
            const i64 g = task / blocks, first = task % blocks * block, count = std::min(block, tiling.total - first);
            const Planes<T> planes{x + g * cg * s.h * s.w, s.c * s.h * s.w, s.h, s.w, s.pad_h, s.pad_w};
            for (i64 part = 0; part < parts; ++part)
                planes_to_points<M, B_T<M>>(slab_of(part), planes.from(part * kc), tiling, first, count,
                                            std::min(kc, cg - part * kc));
            parallel_for(panels, 1, [&](i64 j0, i64 j1) {
                const i64 columns = std::min(s.ow, std::min(tiling.across, count) * M);
                Scratch<T> product(Points<T>::size(POINTS, block, NR<T>)), strip((M * columns + W<T>)*W<T>);
                Scratch<T> taps(ahead ? 0 : taps_size), local(ahead ? 0 : panel_size);
                const Points<T> m(product, block, NR<T>);
                Tile<T> t;
                t.ldc = m.row;
                t.a_row = slab_of(0).row;
                t.a_step = 1;
                t.b_step = NR<T>;
                t.bias = nullptr;
                const i64 height = panel_height(count);
                for (i64 j = j0; j < j1; ++j) {
                    t.n = std::min<i64>(NR<T>, kg - j * NR<T>);
                    for (i64 part = 0; part < parts; ++part) {
                        t.k = std::min(kc, cg - part * kc);
                        t.start = part ? Start::ADD : Start::ZERO;
                        const Points<T> v = slab_of(part);
                        const T* panel = weights + ((g * panels + j) * parts + part) * panel_size;
                        if (!ahead) transform_panel(local, g, j, part, taps), panel = local;
                        for (i64 point = 0; point < POINTS; ++point)
                            for (i64 i = 0; i < count; i += height) {
                                t.c = m.at(point, i, 0);
                                t.a = v.at(point, i, 0);
                                t.b = panel + point * panel_point<T>(t.k);
                                multiply_tile(t, std::min(height, count - i));
                            }
                    }
                    for (i64 k = j * NR<T>; k < std::min(kg, (j + 1) * NR<T>); k += W<T>)
                        points_to_planes<M>(y + (g * kg + k) * s.oh * s.ow, s.k * s.oh * s.ow, s.oh, s.ow,
                                            bias ? bias + g * kg + k : nullptr, m, k - j * NR<T>,
                                            std::min<i64>(W<T>, kg - k), tiling, first, count, strip.get());
                }
            });
        }
    };
    share_out(s.groups * blocks, run);
}

/// sum[point]: (rows, columns) = or += left[point]^T @ right[point], where a row of left or right is one of `tiles`.
template <int POINTS, class T>
void multiply_tiles(const Points<T>& sum, const Points<T>& left, const Points<T>& right, i64 rows, i64 columns,
                    i64 tiles, bool add) {
    Tile<T> t;
    t.ldc = sum.row;
    t.a_row = 1;
    t.a_step = left.row;
    t.b_step = right.row;
    t.k = tiles;
    t.start = add ? Start::ADD : Start::ZERO;
    t.bias = nullptr;
    const i64 height = panel_height(rows);
    for (i64 point = 0; point < POINTS; ++point)
        for (i64 j = 0; j < columns; j += NR<T>)
            for (i64 i = 0; i < rows; i += height) {
                t.c = sum.at(point, i, j);
                t.a = left.at(point, 0, i);
                t.b = right.at(point, 0, j);
                t.n = std::min<i64>(NR<T>, columns - j);
                multiply_tile(t, std::min(height, rows - i));
            }
}

/// dw: (rows, 9, columns), rows of channels dw_row apart, = or += G^T sum G.
template <int M, class T>
void points_to_weights(T* dw, i64 dw_row, const Points<T>& sum, i64 rows, i64 columns, bool add) {
    for (i64 i = 0; i < rows; ++i)
        for (i64 j = 0; j < columns; j += W<T>) {
            const int lanes = static_cast<int>(std::min<i64>(W<T>, columns - j));
            const T* from = sum.at(0, i, j);
            T* to = dw + i * 9 * dw_row + j;
            transform_tile<3, M + 2, T>(
                [&](auto& out, auto& in) __attribute__((always_inline)) { from_points<G<M>>(out, in); },
                [&](int r, int q) __attribute__((always_inline)) { return load(from + (r * (M + 2) + q) * sum.point); },
                [&](int r, int q, const Vec<T>& v) __attribute__((always_inline)) {
                    T* tap = to + (3 * r + q) * dw_row;
                    store_partial(tap, add ? v + load_partial(tap, lanes) : v, lanes);
                });
        }
}

/// dW = G^T [sum over tiles of (A dY A^T) . (B^T X B)] G.
template <int M, class T>
void convolve_backward_weight(T* dw, const T* dy, const T* x, const Conv2dShape& s) {
    constexpr int POINTS = (M + 2) * (M + 2);
    const i64 cg = s.c / s.groups, kg = s.k / s.groups, size = kg * cg * 9;
    if (size == 0) return;
    const Tiling tiling(M, s.n, s.oh, s.ow);
    // A small sum stays in L2, with the tiles of one step. A large one does so a part at a time, each part for all the
    // tiles of a step; these have then to be many, or what passes through L3 would be the parts.
    const bool small = POINTS * kg * cg * static_cast<i64>(sizeof(T)) <= NEAR_BYTES;
    const i64 rows = small ? kg : std::min(kg, SUM_ROWS), columns = small ? cg : std::min(cg, SUM_COLUMNS);
    const i64 down = ceil_div(kg, rows), across = ceil_div(cg, columns);
    // Chunks have a sum of their own: as many as threads can use, fewer where the sums would not fit in 64 MiB.
    const i64 affordable = std::clamp<i64>((i64{64} << 20) / (s.groups * size * static_cast<i64>(sizeof(T))), 1, 32);
    const i64 chunk = part_size(tiling.total, std::max(FAR_STEP, ceil_div(tiling.total, affordable)));
    const i64 chunks = ceil_div(tiling.total, chunk), step = std::min(small ? NEAR_STEP : FAR_STEP, chunk);
    const i64 left_size = Points<T>::size(POINTS, step, rows), right_size = Points<T>::size(POINTS, step, columns);
    const i64 sum_size = Points<T>::size(POINTS, rows, columns);

    Scratch<T> partials(s.groups * chunks * size);  // (groups, chunks, kg, 9, cg)
    const auto run = [&](i64 begin, i64 end) {
        Scratch<T> left_data(down * left_size), right_data(across * right_size), small_sum(small ? sum_size : 0);
        const auto left = [&](i64 i) { return Points<T>(left_data + i * left_size, step, rows); };
        const auto right = [&](i64 j) { return Points<T>(right_data + j * right_size, step, columns); };
        for (i64 task = begin; task < end; ++task) {
            const i64 g = task / chunks, first = task % chunks * chunk, count = std::min(chunk, tiling.total - first);
            const Planes<T> images{x + g * cg * s.h * s.w, s.c * s.h * s.w, s.h, s.w, s.pad_h, s.pad_w};
            const Planes<T> gradients{dy + g * kg * s.oh * s.ow, s.k * s.oh * s.ow, s.oh, s.ow, 0, 0};
            for (i64 t = 0; t < count; t += step) {
                const i64 tiles = std::min(step, count - t);
                for (i64 i = 0; i < down; ++i)
                    planes_to_points<M, A<M>>(left(i), gradients.from(i * rows), tiling, first + t, tiles,
                                              std::min(rows, kg - i * rows));
                for (i64 j = 0; j < across; ++j)
                    planes_to_points<M, B_T<M>>(right(j), images.from(j * columns), tiling, first + t, tiles,
                                                std::min(columns, cg - j * columns));
                parallel_for(down * across, 1, [&](i64 part, i64 parts_end) {
                    Scratch<T> large_sum(small ? 0 : sum_size);
                    const Points<T> sum(small ? small_sum : large_sum, rows, columns);
                    for (; part < parts_end; ++part) {
                        const i64 i = part / across, j = part % across;
                        const i64 m = std::min(rows, kg - i * rows), n = std::min(columns, cg - j * columns);
                        multiply_tiles<POINTS>(sum, left(i), right(j), m, n, tiles, small && t > 0);
                        if (!small || t + tiles == count)
                            points_to_weights<M>(partials + task * size + i * rows * 9 * cg + j * columns, cg, sum, m,
                                                 n, !small && t > 0);
                    }
                });
            }
        }
    };
    share_out(s.groups * chunks, run);
    parallel_for(s.k, ceil_div(1 << 15, cg * 9 * (chunks + 1)), [&](i64 begin, i64 end) {
        Scratch<T> sum(9 * cg);
        for (i64 k = begin; k < end; ++k) {
            const T* from = partials + k / kg * chunks * size + k % kg * 9 * cg;
            std::fill(sum.get(), sum + 9 * cg, T(0));
            for (i64 c = 0; c < chunks; ++c)
                for (i64 i = 0; i < 9 * cg; ++i) sum[i] += from[c * size + i];
            pack_panel(dw + k * cg * 9, i64{9}, sum.get(), cg, i64{1}, i64{9}, cg);
        }
    });
}

/// F(4 x 4) but for images so small that F(2 x 2) needs fewer products.
bool take_small_tiles(i64 rows, i64 columns) {
    const auto products = [=](i64 m) { return ceil_div(rows, m) * ceil_div(columns, m) * (m + 2) * (m + 2); };
    return products(2) < products(4);
}

template <class T>
void convolve_any(T* y, const T* x, const Weights<T>& w, i64 group_weights, const T* bias, const Conv2dShape& s) {
    (take_small_tiles(s.oh, s.ow) ? convolve<2, T> : convolve<4, T>)(y, x, w, group_weights, bias, s);
}

}  // namespace

bool winograd_fits(const Conv2dShape& s) {
    return s.kh == 3 && s.kw == 3 && s.stride_h == 1 && s.stride_w == 1 && s.dil_h == 1 && s.dil_w == 1;
}

template <class T>
void conv2d_winograd(T* y, const T* x, const T* w, const T* bias, const Conv2dShape& s) {
    const i64 taps = s.c / s.groups * 9;
    convolve_any(y, x, Weights<T>{w, taps, 9, false}, s.k / s.groups * taps, bias, s);
}

template <class T>
void conv2d_backward_input_winograd(T* dx, const T* dy, const T* w, const Conv2dShape& s) {
    const i64 taps = s.c / s.groups * 9;
    Conv2dShape t = s;  // dy, with a padding that is negative where that of x is more than 2, to dx
    t.c = s.k, t.h = s.oh, t.w = s.ow;
    t.k = s.c, t.oh = s.h, t.ow = s.w;
    t.pad_h = 2 - s.pad_h, t.pad_w = 2 - s.pad_w;
    convolve_any(dx, dy, Weights<T>{w, 9, taps, true}, s.k / s.groups * taps, static_cast<const T*>(nullptr), t);
}

template <class T>
void conv2d_backward_weight_winograd(T* dw, const T* dy, const T* x, const Conv2dShape& s) {
    (take_small_tiles(s.oh, s.ow) ? convolve_backward_weight<2, T> : convolve_backward_weight<4, T>)(dw, dy, x, s);
}

#define INSTANTIATE(T)                                                                           \
    template void conv2d_winograd<T>(T*, const T*, const T*, const T*, const Conv2dShape&);      \
    template void conv2d_backward_input_winograd<T>(T*, const T*, const T*, const Conv2dShape&); \
    template void conv2d_backward_weight_winograd<T>(T*, const T*, const T*, const Conv2dShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
