// Matrix product, rung 5: every shape, every layout, every core. This is what matmul calls.
//
// Idea:       packing pays when a packed number is used often; where it is not, the tile reads the matrix as it lies.
// Changed:    a and b are packed or not, each by how often its numbers are used. Edges are masked, not padded, and the
//             tiles are as high as divides m best. Threads share out blocks of c. A product of few rows is a stream of
//             b, not a set of tiles (few_rows.cpp). b is packed once for all threads; each packs the rows of a it is
//             about to use.
// Why faster: small products are not copied, edges cost what they hold, and every core works. (64, 784) @ (784, 128)
//             multiplies for 200,000 cycles with AVX-512; packing its 150,000 numbers would take 50,000 more, and
//             tiles of 14 would multiply 70 rows where those of 13 multiply 65.
// Still hurts: b^T of a small product is transposed anew at each call; k is never split, so the (8, 8) product of two
//             very long matrices has one thread. Packing 512 x 512 numbers from L2 and L3 is 8 % of their product.
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "core/allocator.h"
#include "core/parallel.h"
#include "cpu/matmul/few_rows.h"
#include "cpu/matmul/micro_kernel.h"
#include "cpu/matmul/shape.h"

namespace glassgrad {

namespace {

// Steps at a time. Every KC steps c is read and written once more, and a tile starts and ends, at 100 to 200 cycles:
// with AVX-512 a tile of 512 steps takes 7000. Its panel of b, 64 KiB, then comes from L2 at 9 bytes per cycle; with
// AVX2 the 16 KiB of 256 steps stay in L1.
constexpr i64 KC = VECTOR_BYTES == 64 ? 512 : 256;
// A block of a, this many panels: 8 * 14 * KC floats = 224 KiB (AVX2: 96 KiB) stay in L2 (256 KiB to 2 MiB; 1 MiB and
// more where there is AVX-512) while the panels of b pass. They come from L3, each fetched while the one before it is
// at work.
constexpr i64 BLOCK_PANELS = VECTOR_BYTES == 64 ? 8 : 16;
// What is packed of b at a time: KC * 4096 floats = 8 or 4 MiB, in L3.
constexpr i64 NC = 4096;

// What is packed is used once for every column (a) or row (b) of c, for 1/32 of a cycle each. Packing a number costs
// a cycle when it comes from L2 or L3: worth it where the strides of the matrix as it lies would cost more.
constexpr i64 PACK_A_FROM = 512;  // columns of c: packing is 6 % of the work there, and less beyond
constexpr i64 PACK_B_FROM = 128;  // rows of c, and only when b does not stay in L2

/// Bytes of b that stay in L2 while all of a and c pass: a third of it.
i64 near_bytes() {
#ifdef _SC_LEVEL2_CACHE_SIZE
    static const i64 third = std::max(sysconf(_SC_LEVEL2_CACHE_SIZE) / 3, 128L << 10);
    return third;
#else
    return 256 << 10;
#endif
}

// The allocator puts a block of this many bytes in huge pages. What is packed gets them from an eighth on: with pages
// of 4 KiB the panels of 1024 x 1024 take 256, more than the 96 that a core looks up for nothing (3 %).
template <class T>
constexpr i64 FROM_HUGE = (4 << 20) / sizeof(T);

constexpr i64 TASK_WORK = 1 << 20;  // multiply-adds: 10 us and more, ten times what handing a task over costs
constexpr i64 MOST_TASKS = 32;      // wanted of one block of c; large blocks give more

/// How one product is done: of its shape alone.
struct Plan {
    MatmulShape s;
    i64 height;  // rows of a panel of a
    i64 row_panels, column_panels;
    i64 kc;  // steps at a time
    bool pack_a;
    i64 first_packed;               // the panels of b from this one on are packed
    i64 nc;                         // panels of b that are packed at a time
    i64 block_rows, block_columns;  // of a task, in panels

    i64 rows_of(i64 i) const { return std::min(height, s.m - i * height); }
    template <class T>
    i64 columns_of(i64 j) const {
        return std::min<i64>(NR<T>, s.n - j * NR<T>);
    }
    template <class T>
    i64 packed_size() const {
        return std::min(nc, column_panels - first_packed) * NR<T> * kc;
    }
};

template <class T>
Plan make_plan(const MatmulShape& s) {
    Plan p;
    p.s = s;
    p.height = panel_height(s.m);
    p.row_panels = ceil_div(s.m, p.height);
    p.column_panels = ceil_div(s.n, NR<T>);
    p.kc = ceil_div(s.k, ceil_div(s.k, KC));
    p.pack_a = s.n > PACK_A_FROM || (s.a_row != 1 && s.a_col != 1);
    p.first_packed = p.column_panels;
    const bool is_near =
        static_cast<double>(s.k) * static_cast<double>(s.n) * sizeof(T) <= static_cast<double>(near_bytes());
    if (s.b_col != 1 || (s.m > PACK_B_FROM && !is_near))
        p.first_packed = 0;
    else if (!MASKS_ARE_FREE && s.n % NR<T>)
        p.first_packed = p.column_panels - 1;  // whole vectors are read: the ragged panel needs its zeros
    p.nc = std::min(p.column_panels, NC / NR<T>);

    // Tasks: high blocks, so that a panel of b in L1 serves many panels of a; cut lower, then narrower, until there are
    // as many as threads might use. A block of a is packed once per task: cutting across must leave 1024 columns.
    const double work = static_cast<double>(s.m) * static_cast<double>(p.nc * NR<T>) * static_cast<double>(p.kc);
    const i64 wanted = static_cast<i64>(std::clamp(work / TASK_WORK, 1.0, double{MOST_TASKS}));
    const i64 fewest_rows = p.pack_a ? 6 : 1, fewest_columns = p.pack_a ? 1024 / NR<T> : 1;
    i64 row_blocks = ceil_div(p.row_panels, BLOCK_PANELS);
    const i64 column_blocks = std::clamp<i64>(wanted / row_blocks, 1, std::max<i64>(1, p.nc / fewest_columns));
    if (row_blocks * column_blocks < wanted)
        row_blocks = std::clamp(wanted / column_blocks, row_blocks, std::max(row_blocks, p.row_panels / fewest_rows));
    p.block_rows = ceil_div(p.row_panels, row_blocks);
    p.block_columns = ceil_div(p.nc, column_blocks);
    return p;
}

/// The panels [j0, j1) of b, steps [l0, l0 + kc). Rows of b are read on across panels, 8 at a time: a panel by itself
/// would take 128 bytes of a row and go on to the next page.
template <class T>
void pack_b(T* packed, const T* b, const Plan& p, i64 j0, i64 j1, i64 l0, i64 kc) {
    constexpr i64 ELEMENTS = 1 << 14, STEPS = 8;  // a chunk takes 2 us and more
    parallel_for(j1 - j0, ELEMENTS / (NR<T> * kc) + 1, [=, &p](i64 begin, i64 end) {
        const MatmulShape& s = p.s;
        const i64 steps = s.b_col == 1 ? STEPS : kc;
        for (i64 l = 0; l < kc; l += steps)
            for (i64 j = begin; j < end; ++j)
                pack_panel(packed + (j * kc + l) * NR<T>, NR<T>, b + (j0 + j) * NR<T> * s.b_col + (l0 + l) * s.b_row,
                           s.b_col, s.b_row, p.columns_of<T>(j0 + j), std::min(steps, kc - l));
    });
}

/// Adds the steps [l0, l0 + kc) to the block of c of the panels [i0, i1) x [j0, j1). first_packed: the panel of b that
/// `packed` starts with.
template <class T>
void multiply_block(T* c, const T* a, const T* b, const T* bias, const T* packed, i64 first_packed, const Plan& p,
                    i64 i0, i64 i1, i64 j0, i64 j1, i64 l0, i64 kc) {
    const MatmulShape& s = p.s;
    const auto panel_of_a = [&](i64 i) { return a + i * p.height * s.a_row + l0 * s.a_col; };
    std::optional<Scratch<T>> packed_a;
    if (p.pack_a) {
        packed_a.emplace((i1 - i0) * p.height * kc);
        for (i64 i = i0; i < i1; ++i)
            pack_panel(packed_a->get() + (i - i0) * p.height * kc, p.rows_of(i), panel_of_a(i), s.a_row, s.a_col,
                       p.rows_of(i), kc);
    }
    Tile<T> t;
    t.ldc = s.n;
    t.k = kc;
    t.start = l0 > 0 ? Start::ADD : bias ? Start::COLUMN_BIAS : Start::ZERO;
    for (i64 j = j0; j < j1; ++j) {
        const bool is_packed = j >= first_packed;
        t.n = p.columns_of<T>(j);
        t.b = is_packed ? packed + (j - first_packed) * NR<T> * kc : b + j * NR<T> + l0 * s.b_row;
        t.b_step = is_packed ? NR<T> : s.b_row;
        t.bias = bias ? bias + j * NR<T> : nullptr;
        t.next = is_packed && j + 1 < j1 ? t.b + NR<T> * kc : nullptr;
        for (i64 i = i0; i < i1; ++i) {
            const i64 rows = p.rows_of(i);
            t.a = p.pack_a ? packed_a->get() + (i - i0) * p.height * kc : panel_of_a(i);
            t.a_row = p.pack_a ? 1 : s.a_row;
            t.a_step = p.pack_a ? rows : s.a_col;
            t.c = c + i * p.height * s.n + j * NR<T>;
            multiply_tile(t, rows);
            if (t.next) t.next += NR<T> * kc / (i1 - i0);
        }
    }
}

template <class T>
void multiply_tiles(T* c, const T* a, const T* b, const T* bias, const Plan& p, T* packed) {
    for (i64 j0 = 0; j0 < p.column_panels; j0 += p.nc)
        for (i64 l0 = 0; l0 < p.s.k; l0 += p.kc) {
            const i64 j1 = std::min(j0 + p.nc, p.column_panels), kc = std::min(p.kc, p.s.k - l0);
            const i64 first_packed = std::max(j0, p.first_packed);
            pack_b(packed, b, p, first_packed, j1, l0, kc);
            const i64 columns = ceil_div(j1 - j0, p.block_columns), rows = ceil_div(p.row_panels, p.block_rows);
            parallel_for(rows * columns, 1, [=, &p](i64 begin, i64 end) {
                for (i64 task = begin; task < end; ++task) {
                    const i64 i = task / columns * p.block_rows, j = j0 + task % columns * p.block_columns;
                    multiply_block(c, a, b, bias, packed, first_packed, p, i, std::min(i + p.block_rows, p.row_panels),
                                   j, std::min(j + p.block_columns, j1), l0, kc);
                }
            });
            if (l0 + kc < p.s.k) poll_interrupt();  // of one task parallel_for does not
        }
}

}  // namespace

template <class T>
void matmul(T* c, const T* a, const T* b, const T* bias, const MatmulShape& shape) {
    const i64 batch = batch_size(shape);
    if (batch * shape.m * shape.n == 0) return;
    if (shape.k == 0) return fill_with_bias(c, bias, batch * shape.m, shape.n);
    // An axis of size 1 may have any stride: take the one that suits the tile.
    MatmulShape s = shape;
    if (s.m == 1) s.a_row = 1;
    if (s.k == 1) s.a_col = 1;
    if (s.n == 1) s.b_col = 1;
    const Plan p = make_plan<T>(s);
    const double work = static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
    const auto run = [&](i64 begin, i64 end) {
        std::optional<Scratch<T>> packed;
        if (p.first_packed < p.column_panels) {
            const i64 size = p.packed_size<T>();
            packed.emplace(size < FROM_HUGE<T> / 8 ? size : std::max(size, FROM_HUGE<T>));
        }
        for (i64 i = begin; i < end; ++i) {
            const BatchOffset at = batch_offset(s, i);
            T* ci = c + i * s.m * s.n;
            if (!multiply_few_rows(ci, a + at.a, b + at.b, bias, s))
                multiply_tiles(ci, a + at.a, b + at.b, bias, p, packed ? packed->get() : nullptr);
        }
    };
    // Small products, and many of them, are shared out whole; of few or large ones, each is shared out.
    if (work < 2 * TASK_WORK || (work < 16 * TASK_WORK && batch >= 16))
        parallel_for(batch, static_cast<i64>(TASK_WORK / work), run);
    else
        run(0, batch);
}

#define INSTANTIATE(T) template void matmul<T>(T*, const T*, const T*, const T*, const MatmulShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
