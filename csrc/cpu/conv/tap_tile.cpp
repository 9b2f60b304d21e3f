#include "cpu/conv/tap_tile.h"

#include <array>
#include <utility>

namespace glassgrad {

namespace {

constexpr int MOST_VECTORS = 8;

/// Every loop over sums is unrolled, or the compiler would keep them in memory.
template <class T, int M, int V>
void tap_tile(const TapTile<T>& t) {
    Vec<T> sum[M][V];
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) sum[i][v] = Vec<T>{};
    const T *a = t.a, *image = t.image;
    const i64* offset = t.offset;
    const i64 a_step = t.a_step;
    const int last = static_cast<int>(t.n) - (V - 1) * W<T>;  // lanes of the last vector of a row
    const auto step = [&]() __attribute__((always_inline)) {
        const T* b = image + *offset++;
        Vec<T> right[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) right[v] = load(b + v * W<T>);
#pragma GCC unroll 16
        for (int i = 0; i < M; ++i) {
            const Vec<T> left = broadcast(a[i]);
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) sum[i][v] += left * right[v];
        }
        a += a_step;
    };
    // c is needed at the end and may be far away: it is asked for a row at a time, while steps are done.
    i64 l = t.steps;
    const T* ahead = t.c;
    for (i64 i = std::min<i64>(M, l); i > 0; --i, --l, ahead += t.ldc) {
        step();
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v)
            if (v * VECTOR_BYTES % 64 == 0) __builtin_prefetch(ahead + v * W<T>, 1);
    }
    for (; l > 0; --l) step();

    T* c = t.c;
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i, c += t.ldc)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
            T* to = c + v * W<T>;
            Vec<T>& s = sum[i][v];
            if (t.accumulate)
                s += v == V - 1 ? load_partial(to, last) : load(to);
            else if (t.bias)
                s += broadcast(t.bias[i]);
            if (v == V - 1)
                store_partial(to, s, last);
            else
                store(to, s);
        }
}

template <class T, int M, int V>
constexpr auto tile_or_null() {
    if constexpr (V <= tap_tile_vectors(M))
        return tap_tile<T, M, V>;
    else
        return static_cast<void (*)(const TapTile<T>&)>(nullptr);
}

}  // namespace

template <class T>
void multiply_tap_tile(const TapTile<T>& t, i64 m) {
    static constexpr auto tiles = []<int... I>(std::integer_sequence<int, I...>) {
        return std::array<void (*)(const TapTile<T>&), sizeof...(I)>{
            tile_or_null<T, I / MOST_VECTORS + 1, I % MOST_VECTORS + 1>()...};
    }(std::make_integer_sequence<int, MR * MOST_VECTORS>());
    const i64 vectors = (t.n + W<T> - 1) / W<T>;
    tiles[static_cast<std::size_t>((m - 1) * MOST_VECTORS + vectors - 1)](t);
}

#define INSTANTIATE(T) template void multiply_tap_tile<T>(const TapTile<T>&, i64);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
