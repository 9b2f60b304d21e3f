// Matrix product, rung 4: packed panels (Goto and van de Geijn, 2008; BLIS: Van Zee and van de Geijn, 2015).
//
// Idea:       copy blocks of a and b into the order in which the register tile will read them, each into the cache
//             where it will be needed. A copy costs one pass; the tile then passes over it hundreds of times.
// Changed:    five loops around the tile, by the names of the paper: jc and pc choose the block of b (KC x NC, in L3),
//             ic that of a (MC x KC, in L2), jr the panel of b (KC x NR, in L1), ir the panel of a. The tile is as
//             large as the registers allow: 14 x 32 floats with AVX-512, 6 x 16 with AVX2.
// Why faster: the tile reads forward only, and 28 multiply-adds share 16 loads where in rung 3 8 share 6. No page
//             and no cache set is hit twice by chance. Each number of c is read and written once per KC = 256 steps.
// Still hurts: one thread; 15 rows cost as much as 28; small matrices are copied for nothing.
#include <algorithm>

#include "core/allocator.h"
#include "core/parallel.h"
#include "cpu/matmul/micro_kernel.h"
#include "cpu/matmul/shape.h"

namespace glassgrad {

namespace {

constexpr i64 KC = 256;
constexpr i64 MC = 168 / MR * MR;  // MC * KC floats = 168 KiB
template <class T>
constexpr i64 NC = 4096 / NR<T> * NR<T>;

/// Panels of MR rows: out[panel][l][i] = a[panel * MR + i, l], 0 beyond the last row.
template <class T>
void pack_a(T* out, const T* a, i64 row, i64 col, i64 mc, i64 kc) {
    for (i64 ir = 0; ir < mc; ir += MR)
        for (i64 l = 0; l < kc; ++l)
            for (i64 i = ir; i < ir + MR; ++i) *out++ = i < mc ? a[i * row + l * col] : T(0);
}

/// Panels of NR columns: out[panel][l][j] = b[l, panel * NR + j], 0 beyond the last column.
template <class T>
void pack_b(T* out, const T* b, i64 row, i64 col, i64 kc, i64 nc) {
    for (i64 jr = 0; jr < nc; jr += NR<T>)
        for (i64 l = 0; l < kc; ++l)
            for (i64 j = jr; j < jr + NR<T>; ++j) *out++ = j < nc ? b[l * row + j * col] : T(0);
}

/// c: (m, n) += one panel of a @ one panel of b, m <= MR, n <= NR.
template <class T>
void add_tile(T* c, i64 ldc, const T* a, const T* b, i64 kc, i64 m, i64 n) {
    Tile<T> t{c, ldc, a, 1, MR, b, NR<T>, NR<T>, kc, Start::ADD, nullptr};
    if (m == MR && n == NR<T>) return multiply_tile(t, MR);
    T whole[MR * NR<T>];  // an edge: the padded tile is computed beside, and the part that exists is added
    t.c = whole;
    t.ldc = NR<T>;
    t.start = Start::ZERO;
    multiply_tile(t, MR);
    for (i64 i = 0; i < m; ++i)
        for (i64 j = 0; j < n; ++j) c[i * ldc + j] += whole[i * NR<T> + j];
}

}  // namespace

template <class T>
void matmul_packed(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s) {
    const i64 kc_most = std::min(KC, s.k);
    Scratch<T> packed_a(std::min(MC, ceil_div(s.m, MR) * MR) * kc_most);
    Scratch<T> packed_b(std::min(NC<T>, ceil_div(s.n, NR<T>) * NR<T>) * kc_most);
    for_each_matrix(c, a, b, s, [&](T* ci, const T* ai, const T* bi) {
        fill_with_bias(ci, bias, s.m, s.n);
        for (i64 jc = 0; jc < s.n; jc += NC<T>)
            for (i64 pc = 0; pc < s.k; pc += KC) {
                const i64 nc = std::min(NC<T>, s.n - jc), kc = std::min(KC, s.k - pc);
                pack_b(packed_b.get(), bi + pc * s.b_row + jc * s.b_col, s.b_row, s.b_col, kc, nc);
                for (i64 ic = 0; ic < s.m; ic += MC) {
                    const i64 mc = std::min(MC, s.m - ic);
                    pack_a(packed_a.get(), ai + ic * s.a_row + pc * s.a_col, s.a_row, s.a_col, mc, kc);
                    for (i64 jr = 0; jr < nc; jr += NR<T>)
                        for (i64 ir = 0; ir < mc; ir += MR)
                            add_tile(ci + (ic + ir) * s.n + jc + jr, s.n, packed_a.get() + ir * kc,
                                     packed_b.get() + jr * kc, kc, std::min<i64>(MR, mc - ir),
                                     std::min<i64>(NR<T>, nc - jr));
                }
            }
    });
}

#define INSTANTIATE(T) template void matmul_packed<T>(T*, const T*, const T*, const T*, const MatmulShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
