// Matrix product, rung 1: the same loops in another order.
//
// Idea:       i, l, j instead of i, j, l: a row of c grows by a[i, l] times a row of b.
// Changed:    the innermost loop runs along rows of b and c, and its steps do not depend on each other.
// Why faster: every byte of a fetched line is used, and 16 neighbours are multiplied at once (AVX-512; 8 with AVX2).
//             No step waits for the one before.
// Still hurts: each vector multiply-add loads b, loads c and stores c: one store per cycle, where two multiply-adds
//             could start. And all of b passes once per row of c: at 1024 it is 4 MiB, and comes from L3 each time.
#include "cpu/matmul/shape.h"

namespace glassgrad {

template <class T>
void matmul_reordered(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s) {
    for_each_matrix(c, a, b, s, [&](T* ci, const T* ai, const T* bi) {
        fill_with_bias(ci, bias, s.m, s.n);
        for (i64 i = 0; i < s.m; ++i)
            for (i64 l = 0; l < s.k; ++l)
                add_multiple(ci + i * s.n, ai[i * s.a_row + l * s.a_col], bi + l * s.b_row, s.b_col, s.n);
    });
}

#define INSTANTIATE(T) template void matmul_reordered<T>(T*, const T*, const T*, const T*, const MatmulShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
