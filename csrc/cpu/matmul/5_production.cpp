// Matrix product, rung 5: every shape, every layout, every core. This is what matmul calls.
//
// Idea:       packing pays when a packed number is used often; where it is not, the tile reads the matrix as it lies.
// Changed:    a and b are packed or not, each by how often its numbers are used and how far away they are. What comes
//             next of b is fetched while the tiles are at work. Edges are masked, not padded, and the tiles are as high
//             as divides m best. Threads share out blocks of c, or, where c is small, parts of k. A product of very few
//             rows is a stream of b, not a set of tiles (few_rows.cpp).
// Why faster: small products are not copied, edges cost what they hold, and every core works. (64, 784) @ (784, 128)
//             multiplies for 200,000 cycles with AVX-512; packing its 150,000 numbers would take 50,000 more, and
//             tiles of 14 would multiply 70 rows where those of 13 multiply 65. A panel of b from L3 takes the time of
//             a tile: fetched ahead it takes none (5 to 10 % at 2048, and up to half where c has 16 rows).
// Still hurts: b^T of a small product is transposed anew at each call. Packing 512 x 512 numbers from L2 and L3 is 6 %
//             of their product.
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "core/allocator.h"
#include "core/parallel.h"
#include "core/scalar_ops.h"
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
constexpr i64 PACK_B_FROM = 48;   // rows of c, and only when b does not stay in L2

// Rows of b so far apart fall into few sets of the caches and push each other out.
constexpr i64 CONFLICT_BYTES = 2048;

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

// A product of few rows packs so much of b at a time: the rows of a panel by itself are 128 bytes here and there.
constexpr i64 GROUP_BYTES = 256 << 10;

constexpr i64 TASK_WORK = 1 << 20;   // multiply-adds: 10 us and more, ten times what handing a task over costs
constexpr i64 TASKS_PER_THREAD = 4;  // wanted: the last one to finish is then late by an eighth at most

// A product of few elements and many steps has no blocks of c to share out: its steps are cut, by its shape alone. The
// weight's gradient of a narrow layer is one, and every number of c then has as many partial sums as there are parts.
constexpr i64 MOST_ELEMENTS = 64 * 64, MOST_PARTS = 16;

double work_of(const MatmulShape& s) {
    return static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
}

/// How one product is done. The sum of an element is the same, whatever the plan.
struct Plan {
    MatmulShape s;
    i64 height;  // rows of a panel of a
    i64 row_panels, column_panels;
    i64 kc;                         // steps at a time
    i64 nc;                         // panels of b at a time
    i64 row_blocks, column_blocks;  // of c: a task each
    bool pack_a, share_a;           // share_a: packed once for all tasks, else by each for itself
    i64 first_packed;               // the panels of b from this one on are packed
    bool share_b;                   // likewise, but that a task packs its panels of b `group` at a time
    i64 group;
    bool b_is_near;  // in L2

    i64 rows_of(i64 i) const { return std::min(height, s.m - i * height); }
    template <class T>
    i64 columns_of(i64 j) const {
        return std::min<i64>(NR<T>, s.n - j * NR<T>);
    }
    i64 shared_a() const { return share_a ? row_panels * height * kc : 0; }
    template <class T>
    i64 shared_b() const {
        return share_b ? std::min(nc, column_panels - first_packed) * NR<T> * kc : 0;
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
    p.nc = std::min(p.column_panels, NC / NR<T>);
    p.pack_a = s.n > PACK_A_FROM || (s.a_row != 1 && s.a_col != 1);
    p.first_packed = p.column_panels;
    p.b_is_near = static_cast<double>(s.k) * static_cast<double>(s.n) * sizeof(T) <= static_cast<double>(near_bytes());
    const bool conflicts = s.b_row * static_cast<i64>(sizeof(T)) % CONFLICT_BYTES == 0;
    if (s.b_col != 1 || (s.m > (conflicts ? MR : PACK_B_FROM) && !p.b_is_near))
        p.first_packed = 0;
    else if (!MASKS_ARE_FREE && s.n % NR<T>)
        p.first_packed = p.column_panels - 1;  // whole vectors are read: the ragged panel needs its zeros

    // Tasks: high blocks, so that a panel of b serves many panels of a, but enough of them for all threads: cut lower,
    // then across. FEWEST panels of a still hide the way of a panel of b from L3.
    constexpr i64 FEWEST = 6;
    const double work = static_cast<double>(s.m) * static_cast<double>(p.nc * NR<T>) * static_cast<double>(p.kc);
    const i64 threads = num_threads(), most = threads == 1 ? 1 : threads * TASKS_PER_THREAD;
    const i64 wanted = static_cast<i64>(std::clamp(work / TASK_WORK, 1.0, static_cast<double>(most)));
    p.row_blocks = std::max({i64{1}, p.row_panels / BLOCK_PANELS, std::min(wanted, p.row_panels / FEWEST)});
    p.column_blocks = std::min(ceil_div(wanted, p.row_blocks), p.nc);
    p.share_a = p.pack_a && p.column_blocks > 1;
    p.share_b = p.first_packed < p.column_panels && p.row_blocks > 1;
    p.group = std::clamp<i64>(GROUP_BYTES / (NR<T> * p.kc * static_cast<i64>(sizeof(T))), 1, p.nc);
    return p;
}

/// Of one block of c: what is multiplied, and where it has been packed for all tasks.
template <class T>
struct Operands {
    T* c;
    const T *a, *b, *bias;
    T *packed_a, *packed_b;
    i64 j0, j1, l0, kc;  // panels of b, steps
    bool relu;           // these steps complete the sums, and relu follows

    /// As it lies.
    const T* panel_of_b(const Plan& p, i64 j) const { return b + j * NR<T> * p.s.b_col + l0 * p.s.b_row; }
};

/// The panel of b that comes next, where it is far away. The first tiles fetch a part each.
template <class T>
struct Ahead {
    const T* first = nullptr;
    i64 step = 0;

    const T* part(i64 i, i64 tiles, i64 kc) const {
        const i64 parts = std::min<i64>(tiles, 3);  // a tile fetches almost half: see there
        return first && i < parts ? first + i * kc / parts * step : nullptr;
    }
};
template <class T>
Ahead<T> what_comes(const Operands<T>& o, const Plan& p, const Tile<T>& t, i64 j, i64 j1) {
    const bool is_packed = j >= p.first_packed;
    if (is_packed && p.share_b) return j + 1 < j1 ? Ahead<T>{t.b + NR<T> * o.kc, NR<T>} : Ahead<T>{};
    // As it lies: not where steps are so many bytes apart that they push each other out of the cache.
    const i64 comes = is_packed ? j + p.group : j + 1;
    if (p.b_is_near || p.s.b_col != 1 || comes >= j1 || p.s.b_row * static_cast<i64>(sizeof(T)) % CONFLICT_BYTES == 0)
        return {};
    return {o.panel_of_b(p, comes), p.s.b_row};
}

template <class T>
void pack_a(T* packed, const Operands<T>& o, const Plan& p, i64 i) {
    const T* from = o.a + i * p.height * p.s.a_row + o.l0 * p.s.a_col;
    pack_panel(packed, p.rows_of(i), from, p.s.a_row, p.s.a_col, p.rows_of(i), o.kc);
}
/// The panels [begin, end), next to each other. Rows of b are read on across panels, 8 at a time: a panel by itself
/// would take 128 bytes of a row and go on to the next page.
template <class T>
void pack_b(T* packed, const Operands<T>& o, const Plan& p, i64 begin, i64 end) {
    const i64 steps = p.s.b_col == 1 ? 8 : o.kc;
    for (i64 l = 0; l < o.kc; l += steps)
        for (i64 j = begin; j < end; ++j)
            pack_panel(packed + ((j - begin) * o.kc + l) * NR<T>, NR<T>, o.panel_of_b(p, j) + l * p.s.b_row, p.s.b_col,
                       p.s.b_row, p.columns_of<T>(j), std::min(steps, o.kc - l));
}

/// What all tasks share.
template <class T>
void pack_shared(const Operands<T>& o, const Plan& p) {
    constexpr i64 ELEMENTS = 1 << 14;  // a chunk takes 2 us and more
    const i64 first = std::max(o.j0, p.first_packed);
    if (p.share_b)
        parallel_for(o.j1 - first, ELEMENTS / (NR<T> * o.kc) + 1, [&](i64 begin, i64 end) {
            pack_b(o.packed_b + begin * NR<T> * o.kc, o, p, first + begin, first + end);
        });
    if (p.share_a && o.j0 == 0)
        parallel_for(p.row_panels, ELEMENTS / (p.height * o.kc) + 1, [&](i64 begin, i64 end) {
            for (i64 i = begin; i < end; ++i) pack_a(o.packed_a + i * p.height * o.kc, o, p, i);
        });
}

/// c = max(c, 0) for c: (m, n), rows ldc apart; NaN stays.
template <class T>
void apply_relu(T* c, i64 ldc, i64 m, i64 n) {
    for (i64 i = 0; i < m; ++i, c += ldc)
        each_vector<T>(n,
                       [=](i64 j, int lanes) { store_lanes(c + j, scalar::relu::f(load_lanes(c + j, lanes)), lanes); });
}

/// One task: adds to the block of c of the panels [i0, i1) x [j0, j1).
template <class T>
void multiply_block(const Operands<T>& o, const Plan& p, i64 i0, i64 i1, i64 j0, i64 j1) {
    const MatmulShape& s = p.s;
    std::optional<Scratch<T>> own_a, own_b;
    if (p.pack_a && !p.share_a) {
        own_a.emplace((i1 - i0) * p.height * o.kc);
        for (i64 i = i0; i < i1; ++i) pack_a(own_a->get() + (i - i0) * p.height * o.kc, o, p, i);
    }
    const T* packed_b = o.packed_b;
    i64 packed_from = std::max(o.j0, p.first_packed), packed_to = p.share_b ? j1 : packed_from;
    if (j1 > p.first_packed && !p.share_b) {
        own_b.emplace(p.group * NR<T> * o.kc);
        packed_b = own_b->get();
        packed_from = packed_to = std::max(j0, p.first_packed);
    }
    Tile<T> t;
    t.ldc = s.n;
    t.k = o.kc;
    t.start = o.l0 > 0 ? Start::ADD : o.bias ? Start::COLUMN_BIAS : Start::ZERO;
    for (i64 j = j0; j < j1; ++j) {
        const bool is_packed = j >= p.first_packed;
        if (is_packed && j == packed_to) {
            packed_from = j;
            packed_to = std::min(j + p.group, j1);
            pack_b(own_b->get(), o, p, packed_from, packed_to);
        }
        t.n = p.columns_of<T>(j);
        t.b = is_packed ? packed_b + (j - packed_from) * NR<T> * o.kc : o.panel_of_b(p, j);
        t.b_step = is_packed ? NR<T> : s.b_row;
        t.bias = o.bias ? o.bias + j * NR<T> : nullptr;
        const Ahead<T> ahead = what_comes(o, p, t, j, j1);
        for (i64 i = i0; i < i1; ++i) {
            const i64 rows = p.rows_of(i);
            t.a = p.share_a ? o.packed_a + i * p.height * o.kc
                  : own_a   ? own_a->get() + (i - i0) * p.height * o.kc
                            : o.a + i * p.height * s.a_row + o.l0 * s.a_col;
            t.a_row = p.pack_a ? 1 : s.a_row;
            t.a_step = p.pack_a ? rows : s.a_col;
            t.c = o.c + i * p.height * s.n + j * NR<T>;
            t.next = ahead.part(i - i0, i1 - i0, o.kc);
            t.next_step = ahead.step;
            multiply_tile(t, rows);
            if (o.relu) apply_relu(t.c, t.ldc, rows, t.n);
        }
    }
}

template <class T>
void multiply_tiles(T* c, const T* a, const T* b, const T* bias, const Plan& p, bool relu, T* shared) {
    for (i64 l0 = 0; l0 < p.s.k; l0 += p.kc)
        for (i64 j0 = 0; j0 < p.column_panels; j0 += p.nc) {
            const i64 j1 = std::min(j0 + p.nc, p.column_panels), kc = std::min(p.kc, p.s.k - l0);
            const Operands<T> o{c,  a,  b,  bias, shared + p.shared_b<T>(), shared,
                                j0, j1, l0, kc,   relu && l0 + kc == p.s.k};
            pack_shared(o, p);
            parallel_for(p.row_blocks * p.column_blocks, 1, [&](i64 begin, i64 end) {
                for (i64 task = begin; task < end; ++task) {
                    const i64 i = task / p.column_blocks, j = task % p.column_blocks;
                    const auto cut = [](i64 size, i64 part, i64 parts) { return size * part / parts; };
                    multiply_block(o, p, cut(p.row_panels, i, p.row_blocks), cut(p.row_panels, i + 1, p.row_blocks),
                                   j0 + cut(j1 - j0, j, p.column_blocks), j0 + cut(j1 - j0, j + 1, p.column_blocks));
                }
            });
            if (l0 + kc < p.s.k) poll_interrupt();  // of one task parallel_for does not
        }
}

template <class T>
void multiply_all(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s, bool relu) {
    const Plan p = make_plan<T>(s);
    const i64 batch = batch_size(s);
    const auto run = [&](i64 begin, i64 end) {
        const i64 size = p.shared_a() + p.shared_b<T>();
        Scratch<T> shared(size < FROM_HUGE<T> / 8 ? size : std::max(size, FROM_HUGE<T>));
        for (i64 i = begin; i < end; ++i) {
            const BatchOffset at = batch_offset(s, i);
            T* ci = c + i * s.m * s.n;
            if (!multiply_few_rows(ci, a + at.a, b + at.b, bias, s))
                multiply_tiles(ci, a + at.a, b + at.b, bias, p, relu, shared.get());
            else if (relu)
                apply_relu(ci, s.n, s.m, s.n);
        }
    };
    // Small products, and many of them, are shared out whole; of few or large ones, each is shared out.
    const double work = work_of(s);
    if (work < 2 * TASK_WORK || (work < 16 * TASK_WORK && batch >= 16))
        parallel_for(batch, static_cast<i64>(TASK_WORK / work), run);
    else
        run(0, batch);
}

/// c of few elements, k long: the steps are cut into parts, which are products by themselves, and c is their sum.
template <class T>
void multiply_parts(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s, bool relu, i64 parts) {
    const i64 size = s.m * s.n;
    Scratch<T> sums(parts * size);
    parallel_for(parts, 1, [&](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i) {
            MatmulShape part = s;
            const i64 from = s.k * i / parts;
            part.k = s.k * (i + 1) / parts - from;
            multiply_all(sums.get() + i * size, a + from * s.a_col, b + from * s.b_row, i ? nullptr : bias, part,
                         false);
        }
    });
    for (i64 e = 0; e < size; ++e) c[e] = sums[e];
    for (i64 i = 1; i < parts; ++i)
        for (i64 e = 0; e < size; ++e) c[e] += sums[i * size + e];
    if (relu) apply_relu(c, s.n, s.m, s.n);
}

template <class T>
void multiply(T* c, const T* a, const T* b, const T* bias, const MatmulShape& shape, bool relu) {
    const i64 batch = batch_size(shape);
    if (batch * shape.m * shape.n == 0) return;
    if (shape.k == 0) {
        fill_with_bias(c, bias, batch * shape.m, shape.n);
        if (relu) apply_relu(c, shape.n, batch * shape.m, shape.n);
        return;
    }
    // An axis of size 1 may have any stride: take the one that suits the tile.
    MatmulShape s = shape;
    if (s.m == 1) s.a_row = 1;
    if (s.k == 1) s.a_col = 1;
    if (s.n == 1) s.b_col = 1;
    const double parts = std::min(work_of(s) / (4 * TASK_WORK), double{MOST_PARTS});
    if (batch == 1 && parts >= 2 && s.m * s.n <= MOST_ELEMENTS)
        multiply_parts(c, a, b, bias, s, relu, static_cast<i64>(parts));
    else
        multiply_all(c, a, b, bias, s, relu);
}

}  // namespace

template <class T>
void matmul(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s) {
    multiply(c, a, b, bias, s, false);
}
template <class T>
void matmul_relu(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s) {
    multiply(c, a, b, bias, s, true);
}

#define INSTANTIATE(T)                                                             \
    template void matmul<T>(T*, const T*, const T*, const T*, const MatmulShape&); \
    template void matmul_relu<T>(T*, const T*, const T*, const T*, const MatmulShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
