#include "cpu/matmul/micro_kernel.h"

#include <algorithm>
#include <array>
#include <utility>

namespace glassgrad {

namespace {

/// How the numbers of a lie: next to a[i, l] is the next row's, or the next step's.
enum class Order { ROWS_ADJACENT = 0, STEPS_ADJACENT = 1 };

/// A tile of M rows and V vectors. Every loop over sums is unrolled, or the compiler would keep them in memory.
template <class T, int M, int V, Order ORDER>
void register_tile(const Tile<T>& t) {
    const int last = static_cast<int>(t.n) - (V - 1) * W<T>;  // lanes of the last vector of a row
    Vec<T> sum[M][V];
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[i][v] = Vec<T>{};

    // Adjacent rows take one pointer. Rows apart take one per three of them: a load reaches p, p + row and p + 2 row
    // for nothing, and a pointer per row would not fit in 16 registers.
    constexpr bool ADJACENT = ORDER == Order::ROWS_ADJACENT;
    constexpr int GROUP = ADJACENT ? M : 3, GROUPS = (M + GROUP - 1) / GROUP;
    const i64 row = ADJACENT ? 1 : t.a_row, a_step = ADJACENT ? t.a_step : 1, b_step = t.b_step;
    const T* a[GROUPS];
#pragma GCC unroll 8
    for (int g = 0; g < GROUPS; ++g) a[g] = t.a + g * GROUP * row;
    const T* b = t.b;
    const auto step = [&]() __attribute__((always_inline)) {
        Vec<T> right[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v)
            right[v] = MASKS_ARE_FREE && v == V - 1 ? load_partial(b + v * W<T>, last) : load(b + v * W<T>);
#pragma GCC unroll 16
        for (int i = 0; i < M; ++i) {
            const Vec<T> left = broadcast(a[i / GROUP][i % GROUP * row]);
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sum[i][v] += left * right[v];
        }
#pragma GCC unroll 8
        for (int g = 0; g < GROUPS; ++g) a[g] += a_step;
        b += b_step;
    };
    // Two steps a round: four, 200 instructions, no longer fit in the queue of decoded ones.
    const auto two_steps = [&]() __attribute__((always_inline)) {
        step();
        step();
    };
    // c is needed at the end and may be far away. Asked for a row every four steps, it does not hold up the loads of a
    // and b: that is 4 % of the whole at 2048, where c is in L3.
    i64 l = t.k;
    const T* ahead = t.c;
    for (i64 i = std::min<i64>(M, l / 4); i > 0; --i, l -= 4, ahead += t.ldc) {
        two_steps();
        two_steps();
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v)
            if (v * VECTOR_BYTES % 64 == 0) __builtin_prefetch(ahead + v * W<T>, 1);
    }
    if (t.next)
        for (const T* next = t.next; l > 1; l -= 2, next += t.next_step) {
            two_steps();
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v)
                if (v * VECTOR_BYTES % 64 == 0) __builtin_prefetch(next + v * W<T>, 0, 2);
        }
    for (; l > 1; l -= 2) two_steps();
    if (l > 0) step();

    // f(i, v, c at it) for every vector of the tile, the ragged last one of each row marked by v == V - 1.
    const auto each = [&](auto&& f) __attribute__((always_inline)) {
        T* c = t.c;
#pragma GCC unroll 16
        for (int i = 0; i < M; ++i, c += t.ldc)
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) f(i, v, c + v * W<T>);
    };
    if (t.start == Start::ADD) {
        each([&](int i, int v, const T* c)
                 __attribute__((always_inline)) { sum[i][v] += v == V - 1 ? load_partial(c, last) : load(c); });
    } else if (t.start == Start::ROW_BIAS) {
        each([&](int i, int v, const T*) __attribute__((always_inline)) { sum[i][v] += broadcast(t.bias[i]); });
    } else if (t.start == Start::COLUMN_BIAS) {
        Vec<T> bias[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v)
            bias[v] = v == V - 1 ? load_partial(t.bias + v * W<T>, last) : load(t.bias + v * W<T>);
        each([&](int i, int v, const T*) __attribute__((always_inline)) { sum[i][v] += bias[v]; });
    }
    each([&](int i, int v, T* c) __attribute__((always_inline)) {
        if (v == V - 1)
            store_partial(c, sum[i][v], last);
        else
            store(c, sum[i][v]);
    });
}

template <class T, int I>
constexpr auto TILE = register_tile<T, I / 2 / NV + 1, I / 2 % NV + 1, Order(I % 2)>;

}  // namespace

template <class T>
void multiply_tile(const Tile<T>& t, i64 m) {
    static constexpr auto tiles = []<int... I>(std::integer_sequence<int, I...>) {
        return std::array<void (*)(const Tile<T>&), sizeof...(I)>{TILE<T, I>...};
    }(std::make_integer_sequence<int, MR * NV * 2>());
    const i64 vectors = (t.n + W<T> - 1) / W<T>, order = t.a_row != 1;
    tiles[static_cast<std::size_t>(((m - 1) * NV + vectors - 1) * 2 + order)](t);
}

// ---- packing --------------------------------------------------------------------------------------------------------

namespace {

/// One step of Eklundh's transposition: the off-diagonal D x D blocks of every 2D x 2D block change places.
template <class T, int D, int... J>
__attribute__((always_inline)) inline void exchange_blocks(Vec<T>& low, Vec<T>& high,
                                                           std::integer_sequence<int, J...>) {
    const Vec<T> a = low, b = high;
    low = __builtin_shufflevector(a, b, (J & D ? W<T> + J - D : J)...);
    high = __builtin_shufflevector(a, b, (J & D ? W<T> + J : J + D)...);
}
template <class T, int D>
__attribute__((always_inline)) inline void transpose_from(Vec<T> (&x)[W<T>]) {
    if constexpr (D < W<T>) {
#pragma GCC unroll 16
        for (int i = 0; i < W<T>; ++i)
            if (!(i & D)) exchange_blocks<T, D>(x[i], x[i + D], std::make_integer_sequence<int, W<T>>());
        transpose_from<T, 2 * D>(x);
    }
}

/// The W x W matrix whose rows are x: log2(W) rounds of W two-register shuffles, a quarter of a cycle per float.
template <class T>
__attribute__((always_inline)) inline void transpose(Vec<T> (&x)[W<T>]) {
    transpose_from<T, 1>(x);
}

/// W rows of x, or fewer, by W steps, or fewer, become `lanes` columns of a panel. WHOLE: there are W steps, and W
/// lanes may be stored for each, into the next step's place too: what is stored too much is written again later.
template <class T, bool WHOLE>
void transpose_block(T* out, i64 width, int lanes, const T* x, i64 row, i64 rows, int steps) {
    Vec<T> block[W<T>];
#pragma GCC unroll 16
    for (int i = 0; i < W<T>; ++i)
        block[i] = i >= rows ? Vec<T>{} : WHOLE ? load(x + i * row) : load_partial(x + i * row, steps);
    transpose<T>(block);
#pragma GCC unroll 16
    for (int l = 0; l < W<T>; ++l) {
        if (WHOLE)
            store(out + l * width, block[l]);
        else if (l < steps)
            store_partial(out + l * width, block[l], lanes);
    }
}

/// Rows are adjacent: every step is a copy.
template <class T>
void copy_steps(T* out, i64 width, const T* x, i64 step, i64 rows, i64 k) {
    if (width == NR<T> && rows == width) {  // the panels of b, but for the last
        for (i64 l = 0; l < k; ++l)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) store(out + l * width + v * W<T>, load(x + l * step + v * W<T>));
        return;
    }
    for (i64 i = 0; i < width; i += W<T>) {
        const int from = static_cast<int>(std::clamp<i64>(rows - i, 0, W<T>));
        const int to = static_cast<int>(std::min<i64>(width - i, W<T>));
        for (i64 l = 0; l < k; ++l) store_partial(out + l * width + i, load_partial(x + l * step + i, from), to);
    }
}

}  // namespace

template <class T>
void pack_panel(T* out, i64 width, const T* x, i64 row, i64 step, i64 rows, i64 k) {
    if (row == 1) return copy_steps(out, width, x, step, rows, k);
    if (step != 1 || k < W<T> / 2) {
        for (i64 l = 0; l < k; ++l)
            for (i64 i = 0; i < width; ++i) out[l * width + i] = i < rows ? x[i * row + l * step] : T(0);
        return;
    }
    for (i64 l = 0; l < k; l += W<T>)
        for (i64 i = (width - 1) / W<T> * W<T>; i >= 0; i -= W<T>) {  // backwards: see WHOLE
            const auto block =
                (l + W<T> - 1) * width + i + W<T> <= width * k ? transpose_block<T, true> : transpose_block<T, false>;
            block(out + l * width + i, width, static_cast<int>(std::min<i64>(W<T>, width - i)), x + i * row + l, row,
                  rows - i, static_cast<int>(std::min<i64>(W<T>, k - l)));
        }
}

template <class T>
void unpack_panel(T* x, i64 row, const T* panel, i64 rows, i64 k) {
    for (i64 l = 0; l < k; l += W<T>) {
        Vec<T> block[W<T>];
#pragma GCC unroll 16
        for (int i = 0; i < W<T>; ++i) block[i] = load(panel + (l + i) * W<T>);
        transpose<T>(block);
        const int steps = static_cast<int>(std::min<i64>(W<T>, k - l));
#pragma GCC unroll 16
        for (int i = 0; i < W<T>; ++i)
            if (i < rows) store_partial(x + i * row + l, block[i], steps);
    }
}

#define INSTANTIATE(T)                                                  \
    template void multiply_tile<T>(const Tile<T>&, i64);                \
    template void pack_panel<T>(T*, i64, const T*, i64, i64, i64, i64); \
    template void unpack_panel<T>(T*, i64, const T*, i64, i64);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
