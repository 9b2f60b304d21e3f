// Matrix product, rung 3: sums in registers.
//
// Idea:       a tile of c, 4 rows by 2 vectors, is summed up in 8 registers while l passes, and stored once at the end.
// Changed:    the loop over l is the innermost again, but it now carries 8 vectors instead of one number.
// Why faster: a step loads 2 vectors of b and 4 numbers of a for 8 vector multiply-adds: 3/4 of a load each and no
//             store, where rung 2 has 2 loads and a store. Eight sums in flight are what 2 multipliers * 4 cycles of
//             latency need.
// Still hurts: a step down b is a step of a whole row, into another page at 1024 floats a row; rows whose length is a
//             power of two fall into the same few sets of the cache and push each other out. Edges, and every b that
//             does not lie row by row, take the road of rung 1.
#include "core/simd.h"
#include "cpu/matmul/shape.h"

namespace glassgrad {

namespace {

constexpr int ROWS = 4, VECTORS = 2;
template <class T>
constexpr i64 COLUMNS = VECTORS * W<T>;

template <class T>
void full_tile(T* c, i64 ldc, const T* a, i64 a_row, i64 a_col, const T* b, i64 b_row, i64 k) {
    Vec<T> sum[ROWS][VECTORS];
#pragma GCC unroll 4
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; ++v) sum[i][v] = load(c + i * ldc + v * W<T>);
    for (i64 l = 0; l < k; ++l)
#pragma GCC unroll 4
        for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; ++v)
                sum[i][v] += broadcast(a[i * a_row + l * a_col]) * load(b + l * b_row + v * W<T>);
#pragma GCC unroll 4
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; ++v) store(c + i * ldc + v * W<T>, sum[i][v]);
}

}  // namespace

template <class T>
void matmul_vectorised(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s) {
    for_each_matrix(c, a, b, s, [&](T* ci, const T* ai, const T* bi) {
        fill_with_bias(ci, bias, s.m, s.n);
        const i64 columns = s.b_col == 1 ? s.n / COLUMNS<T> * COLUMNS<T> : 0, rows = s.m / ROWS * ROWS;
        for (i64 j = 0; j < columns; j += COLUMNS<T>)
            for (i64 i = 0; i < rows; i += ROWS)
                full_tile(ci + i * s.n + j, s.n, ai + i * s.a_row, s.a_row, s.a_col, bi + j, s.b_row, s.k);
        // The rest: columns beyond the tiles, then rows below them, as in rung 1.
        for (i64 i = 0; i < s.m; ++i) {
            const i64 first = i < rows ? columns : 0;
            for (i64 l = 0; l < s.k; ++l)
                add_multiple(ci + i * s.n + first, ai[i * s.a_row + l * s.a_col], bi + l * s.b_row + first * s.b_col,
                             s.b_col, s.n - first);
        }
    });
}

#define INSTANTIATE(T) template void matmul_vectorised<T>(T*, const T*, const T*, const T*, const MatmulShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
