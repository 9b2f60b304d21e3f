// Matrix product, rung 0: the definition.
//
// Idea:       three loops, c[i, j] = sum over l of a[i, l] * b[l, j].
// Changed:    nothing yet.
// Why faster: it is not. Each multiply-add waits 4 cycles for the one before it, one number at a time: 2 floating-point
//             operations in 4 cycles, where the core could do 2 * 16 * 2 * 4 = 256 (AVX-512; half of it with AVX2).
// Still hurts: b is read down a column: of each 64-byte line that is fetched 4 bytes are used, and from 1024 rows on
//             the column's lines no longer fit in L1, so that the next column fetches them all again.
#include "cpu/matmul/shape.h"

namespace glassgrad {

template <class T>
void matmul_naive(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s) {
    for_each_matrix(c, a, b, s, [&](T* ci, const T* ai, const T* bi) {
        for (i64 i = 0; i < s.m; ++i)
            for (i64 j = 0; j < s.n; ++j) {
                T sum = 0;
                for (i64 l = 0; l < s.k; ++l) sum += ai[i * s.a_row + l * s.a_col] * bi[l * s.b_row + j * s.b_col];
                ci[i * s.n + j] = bias ? sum + bias[j] : sum;
            }
    });
}

#define INSTANTIATE(T) template void matmul_naive<T>(T*, const T*, const T*, const T*, const MatmulShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
