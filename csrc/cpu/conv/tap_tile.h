// The register tile of a convolution: the matrix product's, but that a step finds its row of the right-hand side by an
// offset. What a tap sees at neighbouring pixels lies in the image as it is, the tap's offset further on: where a
// matrix product must have its columns copied together, this tile reads them where they are.
//
// Per step it takes V loads of the image, M broadcasts of a and one offset for M * V multiply-adds. With AVX-512 and a
// 14 x 2 tile the loads of the image, which mostly straddle two cache lines, cost 4, so 19 loads serve 28
// multiply-adds: the multipliers are still the limit.
#pragma once

#include <algorithm>

#include "core/simd.h"
#include "cpu/matmul/micro_kernel.h"

namespace glassgrad {

/// Vectors of pixels beside each other for tiles of m rows: as many sums as the registers hold, so that few rows do not
/// wait for one another. 8 at most.
constexpr int tap_tile_vectors(int m) { return std::min(8, (MR + 1) * NV / (m + 1)); }

/// c: (m, n), rows ldc apart = start + sum over steps of a[l * a_step + i] * image[offset[l] + j].
/// start is c itself, bias[i], or 0 without either. Whole vectors of the image are read, beyond n too.
template <class T>
struct TapTile {
    T* c;
    i64 ldc;
    const T* a;
    i64 a_step;
    const T* image;
    const i64* offset;
    i64 n, steps;
    bool accumulate;
    const T* bias;  // null: none
};

/// 1 <= m <= MR, 1 <= t.n <= tap_tile_vectors(m) * W.
template <class T>
void multiply_tap_tile(const TapTile<T>& t, i64 m);

}  // namespace glassgrad
