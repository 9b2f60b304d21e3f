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
    for (const i64* end = offset + t.steps; offset != end; ++offset, a += a_step) {
        const T* b = image + *offset;
        Vec<T> right[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) right[v] = load(b + v * W<T>);
#pragma GCC unroll 16
        for (int i = 0; i < M; ++i) {
            const Vec<T> left = broadcast(a[i]);
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) sum[i][v] += left * right[v];
        }
    }
    T* c = t.c;
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i, c += t.ldc)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
            Vec<T>& s = sum[i][v];
            if (t.accumulate)
                s += load(c + v * W<T>);
            else if (t.bias)
                s += broadcast(t.bias[i]);
            store(c + v * W<T>, s);
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
void multiply_tap_tile(const TapTile<T>& t, i64 m, i64 vectors) {
    static constexpr auto tiles = []<int... I>(std::integer_sequence<int, I...>) {
        return std::array<void (*)(const TapTile<T>&), sizeof...(I)>{
            tile_or_null<T, I / MOST_VECTORS + 1, I % MOST_VECTORS + 1>()...};
    }(std::make_integer_sequence<int, MR * MOST_VECTORS>());
    tiles[static_cast<std::size_t>((m - 1) * MOST_VECTORS + vectors - 1)](t);
}

#define INSTANTIATE(T) template void multiply_tap_tile<T>(const TapTile<T>&, i64, i64);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
