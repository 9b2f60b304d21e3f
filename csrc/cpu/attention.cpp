// Attention without the matrix of scores, forward and backward.
//
// Idea:       the softmax of a row can be taken in blocks (Milakov & Gimelshein 2018): keep the largest score so far
//             and the sum of the exponentials below it, and when a block brings a larger one, scale down what has been
//             added up. So a block of scores is used up while it lies in L1, and l * s numbers never exist. Backward
//             computes each block again from the log of the sum, lse (Dao et al. 2022): 1/4 more products, no memory.
// Changed:    scores are computed transposed, keys by queries: k @ q^T. A lane is then a query, so maxima and sums go
//             down the columns without a shuffle, and the products find the scores as they need them: v^T @ p^T of
//             forward, p^T @ dy, ds^T @ q and ds @ k of backward. Forward packs q alone; k and v are read where they
//             lie. A task of forward owns 4 panels of queries, one of backward a range of keys with its dk and dv.
// Why faster: a score costs e + ev multiply-adds, 1/32 of a cycle each with AVX-512, so 4 cycles for heads of 64; its
//             exponential costs 0.6, finding the maximum 0.1. Written out, the scores of (4, 8, 512, 512) would be
//             32 MiB, to and fro in memory three times. What a task holds, and k and v of a head (128 KiB each for 512
//             keys), stay in L2, of which a tile asks 4 bytes per cycle. Backward in two passes, one that owns rows of
//             dq and one that owns those of dk and dv, would need no sum of parts, but 7 products instead of 5.
// Still hurts: the diagonal is cut to panels of NR queries: of 64 queries forward computes 3/4 of the scores, not half.
//             Less than a panel of queries costs a panel: a single one is as dear as W. A key that the mask closes to
//             all is computed like any other.
#include <algorithm>
#include <limits>

#include "core/allocator.h"
#include "core/kernels.h"
#include "core/math.h"
#include "core/parallel.h"
#include "core/simd.h"
#include "cpu/matmul/micro_kernel.h"

namespace glassgrad {

namespace {

constexpr i64 KEYS = 112 / MR * MR;  // of a block, in whole tiles; times NR queries 14 KiB of float, in L1
constexpr i64 PANELS = 4;            // of NR queries in a task: a block of k and v is fetched from L2 once for all
constexpr i64 TASK_WORK = 1 << 20;   // multiply-adds: 10 us and more, ten times what handing a task over costs
constexpr i64 BACKWARD_TASKS = 32;   // wanted: fewer heads are cut into ranges of keys

template <class T>
constexpr T INF = std::numeric_limits<T>::infinity();

/// Of L queries from first on, those of a panel; lanes beyond the last one are computed, but never stored.
template <class T>
struct Panel {
    Panel(i64 i, i64 l) : first(i), rows(std::min<i64>(NR<T>, l - i)), vectors((rows + W<T> - 1) / W<T>) {}
    i64 first, rows, vectors;

    /// How many of the keys from j on a query of this panel may meet.
    i64 meets(i64 j, i64 keys, bool causal) const { return causal ? std::clamp<i64>(first + rows - j, 0, keys) : keys; }
};

/// pack_panel, times scale.
template <class T>
void pack_scaled(T* out, const T* x, i64 row, i64 step, i64 rows, i64 k, T scale) {
    pack_panel(out, NR<T>, x, row, step, rows, k);
    for (i64 i = 0; i < k * NR<T>; i += W<T>) store(out + i, load(out + i) * scale);
}

/// c: (m, n) (+)= a: (m, k) @ b: (k, n), n <= NR, in tiles. Row i of a has its numbers from range(i).first to
/// range(i).second alone: the others are 0, or not there.
template <class T, class Range>
void multiply(Tile<T> t, i64 m, Range&& range) {
    const i64 height = panel_height(m);
    const T *a = t.a, *b = t.b;
    for (i64 i = 0; i < m; i += height, t.c += height * t.ldc, a += height * t.a_row) {
        const i64 rows = std::min(height, m - i);
        const auto [begin, end] = range(i, i + rows);
        if (begin >= end && t.start == Start::ADD) continue;
        t.a = a + begin * t.a_step;
        t.b = b + begin * t.b_step;
        t.k = end - begin;
        multiply_tile(t, rows);
    }
}
template <class T>
void multiply(const Tile<T>& t, i64 m) {
    multiply(t, m, [k = t.k](i64, i64) { return std::pair<i64, i64>(0, k); });
}

template <class T>
void copy_rows(T* out, i64 out_row, const T* x, i64 row, i64 rows, i64 features) {
    for (i64 i = 0; i < rows; ++i) std::copy_n(x + i * row, features, out + i * out_row);
}
/// Writes what the mask adds to the scores of `rows` queries from i and `keys` keys from j: out: (keys, width).
template <class T>
void fill_with_mask(T* out, i64 width, const AttentionMask<T>& mask, i64 i, i64 j, i64 rows, i64 keys, T* buffer) {
    const i64 offset = i * mask.row + j * mask.col;
    if (mask.added) return pack_panel(out, width, mask.added + offset, mask.row, mask.col, rows, keys);
    for (i64 r = 0; r < rows; ++r) {
        const bool* open = mask.open + offset + r * mask.row;
        for (i64 c = 0; c < keys; ++c) buffer[r * keys + c] = open[c * mask.col] ? T(0) : -INF<T>;
    }
    pack_panel(out, width, buffer, keys, i64{1}, rows, keys);
}
template <class T>
AttentionMask<T> of_head(AttentionMask<T> mask, i64 b, i64 h) {
    const i64 offset = b * mask.batch + h * mask.head;
    if (mask.open) mask.open += offset;
    if (mask.added) mask.added += offset;
    return mask;
}

/// Sets the scores of keys after their query to -inf. scores: (keys, ...), rows ld apart, keys from j on.
template <class T>
void close_future(T* scores, i64 ld, const Panel<T>& p, i64 j, i64 keys) {
    Mask<T> lane;
    for (int i = 0; i < W<T>; ++i) lane[i] = i;
    const Vec<T> closed = broadcast(-INF<T>);
    for (i64 c = std::max<i64>(0, p.first + 1 - j); c < keys; ++c)
        for (i64 v = 0; v < p.vectors; ++v) {
            T* x = scores + c * ld + v * W<T>;
            const auto ahead = static_cast<typename VectorTypes<T>::Int>(j + c - p.first - v * W<T>);
            store(x, select(lane < ahead, closed, load(x)));
        }
}

/// The scores of a panel with a block of keys, k: (keys, e) from key j on, as (keys, queries), rows ld apart. What the
/// mask adds is there already where start is ADD. q: the panel, (e, NR).
template <class T>
void score(T* scores, i64 ld, Start start, const T* k, i64 k_row, const T* q, const Panel<T>& p, i64 j, i64 keys,
           const AttentionShape& s) {
    multiply(Tile<T>{scores, ld, k, k_row, 1, q, NR<T>, p.vectors * W<T>, s.e, start, nullptr}, keys);
    if (s.causal && j + keys - 1 > p.first) close_future(scores, ld, p, j, keys);
}

// ---- forward --------------------------------------------------------------------------------------------------------

/// One step of the online softmax for W queries: scores become exponentials below the new maximum; what was summed so
/// far, sum and y, is scaled to it.  scores: (keys, NR), y: (ev, NR).
template <class T>
void absorb(T* scores, i64 keys, T* most, T* sum, T* y, i64 ev) {
    // Comparisons are false for NaN: it is left out of the maximum, and comes back as the exponential of NaN.
    const auto larger = [](const Vec<T>& a, const Vec<T>& b) { return select(a > b, a, b); };
    const Vec<T> before = load(most);
    Vec<T> best[4] = {before, before, before, before};  // four chains: one compare waits for the one before
    i64 j = 0;
    for (; j + 4 <= keys; j += 4)
#pragma GCC unroll 4
        for (int c = 0; c < 4; ++c) best[c] = larger(load(scores + (j + c) * NR<T>), best[c]);
    for (; j < keys; ++j) best[0] = larger(load(scores + j * NR<T>), best[0]);
    const Vec<T> now = larger(larger(best[0], best[1]), larger(best[2], best[3]));
    // Nothing met yet: -inf - 0 keeps the exponentials 0, where -inf - -inf would be NaN.
    const Vec<T> base = select(now == -INF<T>, Vec<T>{}, now);
    const Vec<T> shrink = math::exp_nonpositive<Vec<T>>(before - base);
    Vec<T> total = load(sum) * shrink;
    for (j = 0; j < keys; ++j) {
        const Vec<T> e = math::exp_nonpositive<Vec<T>>(load(scores + j * NR<T>) - base);
        store(scores + j * NR<T>, e);
        total += e;
    }
    store(most, now);
    store(sum, total);
    for (i64 f = 0; f < ev; ++f) store(y + f * NR<T>, load(y + f * NR<T>) * shrink);
}

/// Scratch of a forward task: PANELS of q: (e, NR), of y: (ev, NR), of maxima and sums: (NR), and a block of scores.
template <class T>
class Forward {
  public:
    Forward(const AttentionShape& s, const AttentionMask<T>& mask)
        : s_(s),
          q_(PANELS * s.e * NR<T>),
          y_(PANELS * s.ev * NR<T>),
          most_(PANELS * NR<T>),
          sum_(PANELS * NR<T>),
          scores_(KEYS * NR<T>),
          rows_(s.ev * NR<T>),
          buffer_(mask.open ? KEYS * NR<T> : 0) {}

    /// y and lse of the queries [begin, end), at most PANELS * NR, of one head.
    void run(T* y, i64 y_row, T* lse, const T* q, i64 q_row, const T* k, i64 k_row, const T* v, i64 v_row,
             const AttentionMask<T>& mask, i64 begin, i64 end) {
        for (i64 i = begin, n = 0; i < end; i += NR<T>, ++n)
            pack_scaled(q_ + n * s_.e * NR<T>, q + i * q_row, q_row, i64{1}, Panel<T>(i, s_.l).rows, s_.e,
                        static_cast<T>(s_.scale));
        std::fill_n(most_.get(), PANELS * NR<T>, -INF<T>);
        std::fill_n(sum_.get(), PANELS * NR<T>, T(0));
        std::fill_n(y_.get(), PANELS * s_.ev * NR<T>, T(0));
        for (i64 j = 0; j < s_.s && !(s_.causal && j >= end); j += KEYS) {
            const i64 block = std::min(KEYS, s_.s - j);
            for (i64 i = begin, n = 0; i < end; i += NR<T>, ++n) {
                const Panel<T> p(i, s_.l);
                const i64 keys = p.meets(j, block, s_.causal);
                if (!keys) continue;
                const bool masked = mask.open || mask.added;
                if (masked) fill_with_mask(scores_.get(), NR<T>, mask, i, j, p.rows, keys, buffer_.get());
                score(scores_.get(), NR<T>, masked ? Start::ADD : Start::ZERO, k + j * k_row, k_row,
                      q_ + n * s_.e * NR<T>, p, j, keys, s_);
                T* sums = y_ + n * s_.ev * NR<T>;
                for (i64 w = 0; w < p.vectors * W<T>; w += W<T>)
                    absorb(scores_ + w, keys, most_ + n * NR<T> + w, sum_ + n * NR<T> + w, sums + w, s_.ev);
                multiply(Tile<T>{sums, NR<T>, v + j * v_row, 1, v_row, scores_, NR<T>, p.vectors * W<T>, keys,
                                 Start::ADD, nullptr},
                         s_.ev);
            }
        }
        for (i64 i = begin, n = 0; i < end; i += NR<T>, ++n)
            finish(y + i * y_row, y_row, lse + i, Panel<T>(i, s_.l), n);
    }

  private:
    /// Divides by the sums, and transposes y back to rows.
    void finish(T* y, i64 y_row, T* lse, const Panel<T>& p, i64 n) {
        T* sums = y_ + n * s_.ev * NR<T>;
        for (i64 w = 0; w < p.rows; w += W<T>) {
            const Vec<T> sum = load(sum_ + n * NR<T> + w);
            const Vec<T> share = constant<Vec<T>>(1) / select(sum == T(0), constant<Vec<T>>(1), sum);
            for (i64 f = 0; f < s_.ev; ++f) store(sums + f * NR<T> + w, load(sums + f * NR<T> + w) * share);
            store_partial(lse + w, load(most_ + n * NR<T> + w) + math::log<Vec<T>>(sum),
                          static_cast<int>(std::min<i64>(W<T>, p.rows - w)));
        }
        pack_panel(rows_.get(), s_.ev, sums, NR<T>, i64{1}, s_.ev, p.rows);
        copy_rows(y, y_row, rows_.get(), s_.ev, p.rows, s_.ev);
    }

    const AttentionShape& s_;
    Scratch<T> q_, y_, most_, sum_, scores_, rows_, buffer_;
};

// ---- backward -------------------------------------------------------------------------------------------------------

constexpr i64 BACKWARD_PANELS = 2;  // of queries at a time
template <class T>
constexpr i64 QUERIES = BACKWARD_PANELS * NR<T>;

/// x: (n, features), rows apart, as panels of NR columns, (n, NR) each.
template <class T>
void pack_columns(T* out, const T* x, i64 row, i64 n, i64 features, T scale) {
    for (i64 f = 0; f < features; f += NR<T>)
        pack_scaled(out + f * n, x + f, i64{1}, row, std::min<i64>(NR<T>, features - f), n, scale);
}

/// c: (m, features) += a: (m, k) @ b: (k, features), b packed by pack_columns.
template <class T, class Range>
void add_product(T* c, const T* a, i64 a_row, i64 a_step, const T* b, i64 m, i64 features, i64 k, Range&& range) {
    for (i64 f = 0; f < features; f += NR<T>)
        multiply(Tile<T>{c + f, features, a, a_row, a_step, b + f * k, NR<T>, std::min<i64>(NR<T>, features - f), k,
                         Start::ADD, nullptr},
                 m, range);
}

/// The rows as they lie where that is one after the other, else a copy in `buffer`: heads that are slices of a row of
/// features lie 2 KiB apart, in a few sets of L1.
template <class T>
const T* adjacent(T* buffer, const T* x, i64 row, i64 rows, i64 features) {
    if (row == features) return x;
    copy_rows(buffer, features, x, row, rows, features);
    return buffer;
}

/// With p the probabilities and d = sum(dy * y) of each query:
///   dv = p^T dy,   ds = p * (dy v^T - d),   dq = ds k scale,   dk = ds^T q scale.
template <class T>
class Backward {
  public:
    Backward(const AttentionShape& s, const AttentionMask<T>& mask, i64 keys)
        : s_(s),
          k_(keys * s.e),
          v_(keys * s.ev),
          dk_(keys * s.e),
          dv_(keys * s.ev),
          dq_(QUERIES<T> * s.e),
          k_columns_(keys * wide(s.e)),
          q_(QUERIES<T> * wide(s.e)),
          dy_(QUERIES<T> * wide(s.ev)),
          q_lanes_(QUERIES<T> * s.e),
          dy_lanes_(QUERIES<T> * s.ev),
          lse_(QUERIES<T>),
          d_(QUERIES<T>),
          p_(KEYS * QUERIES<T>),
          ds_(KEYS * QUERIES<T>),
          buffer_(mask.open ? KEYS * QUERIES<T> : 0) {}

    struct Head {
        T *dq, *dk, *dv;
        const T *dy, *q, *k, *v, *y, *lse;
        i64 dq_row, dk_row, dv_row, dy_row, q_row, k_row, v_row, y_row;
        AttentionMask<T> mask;
    };

    /// dk and dv of the keys [begin, end), and their part of dq.
    void run(const Head& h, i64 begin, i64 end) {
        const i64 range = end - begin;
        k_rows_ = adjacent(k_.get(), h.k + begin * h.k_row, h.k_row, range, s_.e);
        v_rows_ = adjacent(v_.get(), h.v + begin * h.v_row, h.v_row, range, s_.ev);
        std::fill_n(dk_.get(), range * s_.e, T(0));
        std::fill_n(dv_.get(), range * s_.ev, T(0));
        for (i64 j = 0; j < range; j += KEYS)
            pack_columns(k_columns_ + j * wide(s_.e), k_rows_ + j * s_.e, s_.e, std::min(KEYS, range - j), s_.e,
                         static_cast<T>(s_.scale));
        for (i64 i = 0; i < s_.l; i += QUERIES<T>) {
            const i64 queries = std::min(QUERIES<T>, s_.l - i);
            const i64 met = s_.causal ? std::clamp<i64>(i + queries - begin, 0, range) : range;
            std::fill_n(dq_.get(), queries * s_.e, T(0));
            if (met) pack_queries(h, i, queries);
            for (i64 j = 0; j < met; j += KEYS) block(h, i, queries, begin, j, std::min(KEYS, range - j));
            copy_rows(h.dq + i * h.dq_row, h.dq_row, dq_.get(), s_.e, queries, s_.e);
        }
        copy_rows(h.dk + begin * h.dk_row, h.dk_row, dk_.get(), s_.e, range, s_.e);
        copy_rows(h.dv + begin * h.dv_row, h.dv_row, dv_.get(), s_.ev, range, s_.ev);
    }

  private:
    static i64 wide(i64 features) { return ceil_div(features, NR<T>) * NR<T>; }

    void pack_queries(const Head& h, i64 i, i64 queries) {
        const T scale = static_cast<T>(s_.scale);
        const T *q = h.q + i * h.q_row, *dy = h.dy + i * h.dy_row, *y = h.y + i * h.y_row;
        pack_columns(q_.get(), q, h.q_row, queries, s_.e, scale);
        pack_columns(dy_.get(), dy, h.dy_row, queries, s_.ev, T(1));
        for (i64 r = 0; r < queries; r += NR<T>) {
            const i64 rows = std::min<i64>(NR<T>, queries - r);
            pack_scaled(q_lanes_ + r * s_.e, q + r * h.q_row, h.q_row, i64{1}, rows, s_.e, scale);
            pack_panel(dy_lanes_ + r * s_.ev, NR<T>, dy + r * h.dy_row, h.dy_row, i64{1}, rows, s_.ev);
        }
        std::fill_n(lse_.get(), QUERIES<T>, INF<T>);
        std::fill_n(d_.get(), QUERIES<T>, T(0));
        for (i64 r = 0; r < queries; ++r) {
            // exp(score - inf) = 0 for the query that meets no key.
            if (h.lse[i + r] != -INF<T>) lse_[r] = h.lse[i + r];
            Vec<T> sum{};
            const T *a = dy + r * h.dy_row, *b = y + r * h.y_row;
            i64 f = 0;
            for (; f + W<T> <= s_.ev; f += W<T>) sum += load(a + f) * load(b + f);
            if (f < s_.ev) {
                const int left = static_cast<int>(s_.ev - f);
                sum += load_partial(a + f, left) * load_partial(b + f, left);
            }
            d_[r] = horizontal_sum<T>(sum);
        }
    }

    /// The block of the queries from i on and the keys from begin + at on.
    void block(const Head& h, i64 i, i64 queries, i64 begin, i64 at, i64 keys) {
        constexpr i64 LD = QUERIES<T>;
        const i64 j = begin + at;
        const bool masked = h.mask.open || h.mask.added;
        if (masked) fill_with_mask(p_.get(), LD, h.mask, i, j, queries, keys, buffer_.get());
        for (i64 r = 0; r < queries; r += NR<T>) {
            const Panel<T> p(i + r, s_.l);
            T *prob = p_ + r, *ds = ds_ + r;
            const i64 meets = p.meets(j, keys, s_.causal);
            score(prob, LD, masked ? Start::ADD : Start::ZERO, k_rows_ + at * s_.e, s_.e, q_lanes_ + r * s_.e, p, j,
                  meets, s_);
            multiply(Tile<T>{ds, LD, v_rows_ + at * s_.ev, s_.ev, 1, dy_lanes_ + r * s_.ev, NR<T>, p.vectors * W<T>,
                             s_.ev, Start::ZERO, nullptr},
                     meets);
            for (i64 w = 0; w < p.vectors * W<T>; w += W<T>) {
                const Vec<T> lse = load(lse_ + r + w), d = load(d_ + r + w);
                for (i64 c = 0; c < meets; ++c) {
                    const i64 o = c * LD + w;
                    const Vec<T> e = math::exp_nonpositive<Vec<T>>(load(prob + o) - lse);
                    store(prob + o, e);
                    store(ds + o, e * (load(ds + o) - d));
                }
                for (i64 c = meets; c < keys; ++c) {
                    store(prob + c * LD + w, Vec<T>{});
                    store(ds + c * LD + w, Vec<T>{});
                }
            }
        }
        // Key c of the block meets the queries from c + j - i on; query r meets the keys up to r + i - j.
        const bool causal = s_.causal;
        const auto from_key = [=](i64 c, i64) {
            return std::pair<i64, i64>(causal ? std::clamp<i64>(c + j - i, 0, queries) : 0, queries);
        };
        const auto to_query = [=](i64, i64 r_end) {
            return std::pair<i64, i64>(0, causal ? std::clamp<i64>(r_end + i - j, 0, keys) : keys);
        };
        add_product(dv_ + at * s_.ev, p_.get(), LD, i64{1}, dy_.get(), keys, s_.ev, queries, from_key);
        add_product(dk_ + at * s_.e, ds_.get(), LD, i64{1}, q_.get(), keys, s_.e, queries, from_key);
        add_product(dq_.get(), ds_.get(), i64{1}, LD, k_columns_ + at * wide(s_.e), queries, s_.e, keys, to_query);
    }

    const AttentionShape& s_;
    const T *k_rows_, *v_rows_;  // of the range, one after the other
    Scratch<T> k_, v_, dk_, dv_, dq_, k_columns_, q_, dy_, q_lanes_, dy_lanes_, lse_, d_, p_, ds_, buffer_;
};

}  // namespace

template <class T>
void scaled_dot_product_attention(const HeadRows<T>& y, T* lse, const HeadRows<const T>& q, const HeadRows<const T>& k,
                                  const HeadRows<const T>& v, const AttentionMask<T>& mask, const AttentionShape& s) {
    const i64 queries = PANELS * NR<T>, blocks = ceil_div(s.l, queries);
    const i64 work = std::min(queries, s.l) * (s.s * (s.e + s.ev) + s.e + s.ev + 1);
    parallel_for(s.batch * s.heads * blocks, TASK_WORK / std::max<i64>(1, work), [&](i64 begin, i64 end) {
        Forward<T> forward(s, mask);
        for (i64 task = begin; task < end; ++task) {
            const i64 head = task / blocks, b = head / s.heads, h = head % s.heads, i = task % blocks * queries;
            forward.run(y.of(b, h), y.row, lse + head * s.l, q.of(b, h), q.row, k.of(b, h), k.row, v.of(b, h), v.row,
                        of_head(mask, b, h), i, std::min(i + queries, s.l));
        }
    });
}

template <class T>
void scaled_dot_product_attention_backward(const HeadRows<T>& dq, const HeadRows<T>& dk, const HeadRows<T>& dv,
                                           const HeadRows<const T>& dy, const HeadRows<const T>& q,
                                           const HeadRows<const T>& k, const HeadRows<const T>& v,
                                           const AttentionMask<T>& mask, const HeadRows<const T>& y, const T* lse,
                                           const AttentionShape& s) {
    // Ranges each have a dq of their own, which are added up in order.
    const i64 heads = s.batch * s.heads;
    if (heads == 0) return;
    const i64 ranges = std::clamp<i64>(ceil_div(BACKWARD_TASKS, heads), 1, std::max<i64>(1, ceil_div(s.s, KEYS)));
    const i64 range = ceil_div(ceil_div(s.s, ranges), KEYS) * KEYS;
    const i64 size = s.l * s.e, work = s.l * std::min(range, s.s) * (3 * s.e + 2 * s.ev) + 1;
    Scratch<T> parts(ranges > 1 ? heads * ranges * size : 0);
    parallel_for(heads * ranges, TASK_WORK / work, [&](i64 first, i64 last) {
        Backward<T> backward(s, mask, std::min(range, s.s));
        for (i64 task = first; task < last; ++task) {
            const i64 head = task / ranges, b = head / s.heads, h = head % s.heads;
            const i64 begin = std::min(task % ranges * range, s.s), end = std::min(begin + range, s.s);
            T* own_dq = ranges > 1 ? parts + task * size : dq.of(b, h);
            const i64 dq_row = ranges > 1 ? s.e : dq.row;
            backward.run(
                {own_dq, dk.of(b, h), dv.of(b, h), dy.of(b, h), q.of(b, h), k.of(b, h), v.of(b, h), y.of(b, h),
                 lse + head * s.l, dq_row, dk.row, dv.row, dy.row, q.row, k.row, v.row, y.row, of_head(mask, b, h)},
                begin, end);
        }
    });
    if (ranges == 1) return;
    parallel_for(heads, TASK_WORK / (ranges * size + 1), [&](i64 first, i64 last) {
        for (i64 head = first; head < last; ++head)
            for (i64 i = 0; i < s.l; ++i) {
                T* out = dq.of(head / s.heads, head % s.heads) + i * dq.row;
                const T* part = parts + head * ranges * size + i * s.e;
                std::copy_n(part, s.e, out);
                for (i64 r = 1; r < ranges; ++r)
                    for (i64 f = 0; f < s.e; ++f) out[f] += part[r * size + f];
            }
    });
}

#define INSTANTIATE(T)                                                                                         \
    template void scaled_dot_product_attention<T>(const HeadRows<T>&, T*, const HeadRows<const T>&,            \
                                                  const HeadRows<const T>&, const HeadRows<const T>&,          \
                                                  const AttentionMask<T>&, const AttentionShape&);             \
    template void scaled_dot_product_attention_backward<T>(                                                    \
        const HeadRows<T>&, const HeadRows<T>&, const HeadRows<T>&, const HeadRows<const T>&,                  \
        const HeadRows<const T>&, const HeadRows<const T>&, const HeadRows<const T>&, const AttentionMask<T>&, \
        const HeadRows<const T>&, const T*, const AttentionShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
