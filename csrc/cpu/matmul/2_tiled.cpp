// Matrix product, rung 2: cache blocking.
//
// Idea:       use what has been fetched while it is near: take a block of b that fits in L2 and finish all that it has
//             to do with every row of a before going on.
// Changed:    two loops more outside, over blocks of 64 x 512 of b (128 KiB of floats); inside nothing.
// Why faster: b comes from L3 once, not once per row of c. The 2 KiB of a row of c that a block adds to stay in L1 for
//             its 64 steps. Where all of b fits in L2 anyway, as at 512 in 2 MiB, nothing is gained.
// Still hurts: the arithmetic is that of rung 1, two loads and a store per multiply-add: at best half of the ceiling.
#include <algorithm>

#include "cpu/matmul/shape.h"

namespace glassgrad {

namespace {
constexpr i64 KB = 64, NB = 512;
}  // namespace

template <class T>
void matmul_tiled(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s) {
    for_each_matrix(c, a, b, s, [&](T* ci, const T* ai, const T* bi) {
        fill_with_bias(ci, bias, s.m, s.n);
        for (i64 j0 = 0; j0 < s.n; j0 += NB)
            for (i64 l0 = 0; l0 < s.k; l0 += KB) {
                const i64 columns = std::min(NB, s.n - j0), l1 = std::min(l0 + KB, s.k);
                for (i64 i = 0; i < s.m; ++i)
                    for (i64 l = l0; l < l1; ++l)
                        add_multiple(ci + i * s.n + j0, ai[i * s.a_row + l * s.a_col], bi + l * s.b_row + j0 * s.b_col,
                                     s.b_col, columns);
            }
    });
}

#define INSTANTIATE(T) template void matmul_tiled<T>(T*, const T*, const T*, const T*, const MatmulShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
