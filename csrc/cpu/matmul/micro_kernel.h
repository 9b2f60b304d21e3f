// The register tile that every fast matrix product ends in, and the packing that feeds it.
//
// A tile of MR x NR sums stays in registers while k passes. Per step it takes NV loads of b, MR broadcasts of a and
// MR * NV multiply-adds: 16 loads for 28 multiply-adds with AVX-512, 8 for 12 with AVX2. Two loads and two
// multiply-adds can start per cycle, so the multipliers are the limit, as they should be. An addition waits 4 cycles
// for the one before: 2 ports * 4 cycles = 8 sums in flight are needed, and there are 28 or 12.
#pragma once

#include "core/simd.h"

namespace glassgrad {

// Registers: MR * NV sums, NV of b, one of a (and one for the product, where there is no fused multiply-add).
#if defined(__AVX512F__)
inline constexpr int MR = 14, NV = 2;  // 31 of 32
#elif defined(__AVX2__)
inline constexpr int MR = 6, NV = 2;  // 15 of 16
#elif defined(__aarch64__)
inline constexpr int MR = 8, NV = 3;  // 28 of 32
#else
inline constexpr int MR = 4, NV = 2;  // 12 of 16
#endif
template <class T>
inline constexpr int NR = NV * W<T>;

/// Rows of a panel of m rows in all, at most MR: panels as equal as can be, for a low tile loads as much of b as a high
/// one. 64 rows are 5 * 13, not 4 * 14 + 8.
inline i64 panel_height(i64 m) {
    const i64 panels = (m + MR - 1) / MR;
    return panels ? (m + panels - 1) / panels : 1;
}

#if defined(__AVX512F__)
inline constexpr bool MASKS_ARE_FREE = true;  // a masked load costs what a load costs: ragged edges need no padding
#else
inline constexpr bool MASKS_ARE_FREE = false;
#endif

/// What the sums of a tile are added to: nothing; what c holds; bias[i] for row i; bias[j] for column j.
enum class Start { ZERO, ADD, ROW_BIAS, COLUMN_BIAS };

/// c: (m, n) = start + a: (m, k) @ b: (k, n), m <= MR, n <= NR. Element (i, l) of a lies at a[i * a_row + l * a_step],
/// and one of the two is 1: a matrix as it lies, its transpose and a packed panel are all one to the tile. Rows of b
/// are contiguous; unless MASKS_ARE_FREE, whole vectors of them are read, beyond n too. m is given beside: it picks the
/// code.
template <class T>
struct Tile {
    T* c;
    i64 ldc;
    const T* a;
    i64 a_row, a_step;
    const T* b;
    i64 b_step;
    i64 n, k;
    Start start;
    const T* bias;            // as start says, else unused
    const T* next = nullptr;  // what tiles to come will read of b: NR numbers are fetched into L2 every two steps
    i64 next_step = 0;        // from those of a step to those of the next
};

/// t of m rows, 1 <= m <= MR, 1 <= t.n <= NR. Every height has code of its own: no row is multiplied for nothing.
template <class T>
void multiply_tile(const Tile<T>& t, i64 m);

/// A panel: out[l * width + i] = x[i * row + l * step] for i < rows <= width and l < k, 0 for i >= rows.
/// Whichever of row and step is 1, x is read and out written in whole vectors.
template <class T>
void pack_panel(T* out, i64 width, const T* x, i64 row, i64 step, i64 rows, i64 k);

/// The way back, for panels of width W: x[i * row + l] = panel[l * W + i] for i < rows <= W and l < k. Whole blocks of
/// W * W are read, beyond k too.
template <class T>
void unpack_panel(T* x, i64 row, const T* panel, i64 rows, i64 k);

}  // namespace glassgrad
