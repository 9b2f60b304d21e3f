// Recurrent layers: a whole sequence in one call, forward and backward.
//
// Idea:       what does not wait for the step before is taken out of the loop. x W_ih^T + b of many steps is one
// product,
//             and so are dx, dW_ih and dW_hh; of the step itself only h W_hh^T is left, and it ends in the cell's
//             formula while its sums are in L1: the four gates of NR hidden units, then their sigmoids, then h.
// Changed:    against one op per step and gate: W_hh is packed once per sequence, not once per step; a step writes no
//             more than backward reads (activated gates, cell states). The rows of a batch never meet in forward, so a
//             thread takes its rows through the whole sequence, and nobody waits at every step. A row's sums are
//             taken in one order whatever the rows beside it: any split gives the same bits.
// Why faster: LSTM(64, 128) with batch 32: a step is 32 * 512 * 128 multiply-adds, 18 us at 235 GFLOP/s, and 20,480
//             sigmoids and tanhs, 10 us; handing it to five threads-wide ops would cost that once more. The packed
//             W_hh is 256 KiB and stays in L2 for all steps. The projection is made for as many steps ahead as stay in
//             L2 too: done for all at once, its 3 MiB would go to memory and come back.
// Still hurts: a batch of 1 multiplies in tiles of one row, whose two sums in flight wait for each other; threads share
//             out the batch alone, so it has one thread as well.
#include <algorithm>
#include <optional>

#include "core/allocator.h"
#include "core/kernels.h"
#include "core/math.h"
#include "core/parallel.h"
#include "cpu/matmul/micro_kernel.h"

namespace glassgrad {

namespace {

constexpr i64 KC = 256;                 // steps of a panel that stay in L1 while rows pass: 32 KiB with AVX-512
constexpr i64 AHEAD_BYTES = 512 << 10;  // gates projected ahead: a quarter of an L2 that W_hh and W_ih share
constexpr i64 FEWEST_ROWS = 4;      // of a thread: each streams all of W_hh per step, and fewer rows would wait for it
constexpr i64 TASK_WORK = 1 << 20;  // multiply-adds, about 10 us: what is less stays on one thread

constexpr i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

// ---- products -------------------------------------------------------------------------------------------------------

/// The right side of a product, (k, n), in panels of NR columns: packed once, used at every step.
template <class T>
class Panels {
  public:
    /// Element (l, j) of the right side lies at w[l * step + j * column].
    Panels(const T* w, i64 k, i64 n, i64 step, i64 column)
        : k_(k), packed_(std::max<i64>(1, ceil_div(n, NR<T>) * NR<T> * k)) {
        parallel_for(ceil_div(n, NR<T>), TASK_WORK / 16 / (NR<T> * k + 1) + 1, [=, this](i64 begin, i64 end) {
            for (i64 p = begin; p < end; ++p)
                pack_panel(packed_.get() + p * NR<T> * k, NR<T>, w + p * NR<T> * column, column, step,
                           std::min<i64>(NR<T>, n - p * NR<T>), k);
        });
    }
    const T* panel(i64 p) const { return packed_.get() + p * NR<T> * k_; }
    i64 k() const { return k_; }

  private:
    i64 k_;
    Scratch<T> packed_;
};

/// c: (m, n), n <= NR, = start + a: (m, k) @ panel: (k, NR); rows of c are ldc apart, of a lda.
template <class T>
void multiply(T* c, i64 ldc, const T* a, i64 lda, const T* panel, i64 m, i64 n, i64 k, Start start, const T* bias) {
    const i64 height = panel_height(m);
    Tile<T> t;
    t.ldc = ldc;
    t.a_row = lda;
    t.a_step = 1;
    t.b_step = NR<T>;
    t.n = n;
    t.start = start;
    t.bias = bias;
    i64 l = 0;
    do {  // at least once: of no terms, c is what it starts with
        t.k = std::min(KC, k - l);
        t.b = panel + l * NR<T>;
        for (i64 i = 0; i < m; i += height) {
            t.c = c + i * ldc;
            t.a = a + i * lda + l;
            multiply_tile(t, std::min(height, m - i));
        }
        t.start = Start::ADD;
        l += KC;
    } while (l < k);
}

// ---- walking --------------------------------------------------------------------------------------------------------

/// f(j, lanes) for the vectors of n numbers: whole ones, then what is left.
template <class T, class F>
__attribute__((always_inline)) inline void each_vector(i64 n, F&& f) {
    i64 j = 0;
    for (; j + W<T> <= n; j += W<T>) f(j, W<T>);
    if (j < n) f(j, static_cast<int>(n - j));
}
template <class T>
__attribute__((always_inline)) inline Vec<T> get(const T* p, int lanes) {
    return lanes == W<T> ? load(p) : load_partial(p, lanes);
}
template <class T>
__attribute__((always_inline)) inline void put(T* p, const Vec<T>& v, int lanes) {
    if (lanes == W<T>)
        store(p, v);
    else
        store_partial(p, v, lanes);
}

/// f(begin, end) for shares of the batch. Their number may follow the threads: the rows do not meet.
template <class F>
void share_batch(const RecurrentShape& s, i64 gates, F&& f) {
    const double work = static_cast<double>(s.steps) * static_cast<double>(gates * s.hidden) *
                        static_cast<double>(s.inputs + s.hidden + 16);
    const i64 fewest = std::max(FEWEST_ROWS, static_cast<i64>(std::min(1e9, TASK_WORK / (work + 1))));
    parallel_for(s.batch, std::max(fewest, ceil_div(s.batch, num_threads())), f);
}

/// Where in time the step `n` of the sequence lies.
inline i64 time_of(const RecurrentShape& s, i64 n) { return s.reverse ? s.steps - 1 - n : n; }

/// (batch, hidden) of y before step n: of the step before, or h0.
template <class T>
const T* state_before(const T* y, const T* h0, const RecurrentShape& s, i64 n) {
    return n == 0 ? h0 : y + time_of(s, n - 1) * s.batch * s.hidden;
}

// ---- forward --------------------------------------------------------------------------------------------------------

/// The part of a step between its products and the next step: NR hidden units [j, j + n) of the rows [b, end).
struct Patch {
    i64 t, step, begin, end, j, n;
};

/// gates: (steps, batch, G * hidden) = x W_ih^T + h W_hh^T + bias, step by step; then cell(patch) makes y of them.
/// Unless `apart` is null, the hidden part of the last gate goes there, (steps, batch, hidden), with a bias of its own.
template <int G, class T, class Cell>
void walk_forward(T* gates, T* apart, const T* y, const T* x, const T* h0, const T* w_ih, const T* w_hh, const T* bias,
                  const T* apart_bias, const RecurrentShape& s, Cell&& cell) {
    const i64 hidden = s.hidden, width = G * hidden;
    if (s.steps * s.batch * hidden == 0) return;
    const Panels<T> input(w_ih, s.inputs, width, 1, s.inputs);
    const i64 strips = ceil_div(hidden, NR<T>);  // of NR hidden units
    // Gate by gate, since a panel that holds units of two gates would end in the middle of a vector.
    std::optional<Panels<T>> recurrent[G];
    for (int g = 0; g < G; ++g) recurrent[g].emplace(w_hh + g * hidden * hidden, hidden, hidden, 1, hidden);

    share_batch(s, G, [&](i64 begin, i64 end) {
        const i64 rows = end - begin;
        const i64 ahead = std::max<i64>(1, AHEAD_BYTES / (rows * width * static_cast<i64>(sizeof(T))));
        for (i64 first = 0; first < s.steps; first += ahead) {
            poll_interrupt();
            const i64 last = std::min(first + ahead, s.steps);
            const i64 t0 = std::min(time_of(s, first), time_of(s, last - 1));
            const bool together = rows == s.batch;  // then the rows of all these steps lie in one piece
            for (i64 j = 0; j < width; j += NR<T>)
                for (i64 t = t0; t < t0 + (together ? 1 : last - first); ++t) {
                    const i64 row = t * s.batch + begin;
                    multiply(gates + row * width + j, width, x + row * s.inputs, s.inputs, input.panel(j / NR<T>),
                             together ? (last - first) * rows : rows, std::min<i64>(NR<T>, width - j), s.inputs,
                             bias ? Start::COLUMN_BIAS : Start::ZERO, bias ? bias + j : nullptr);
                }
            for (i64 step = first; step < last; ++step) {
                const i64 t = time_of(s, step), row = t * s.batch + begin;
                const T* h = state_before(y, h0, s, step) + begin * hidden;
                for (i64 strip = 0; strip < strips; ++strip) {
                    const i64 j = strip * NR<T>, n = std::min<i64>(NR<T>, hidden - j);
                    for (int g = 0; g < G; ++g) {
                        const T* panel = recurrent[g]->panel(strip);
                        if (apart && g == G - 1)
                            multiply(apart + row * hidden + j, hidden, h, hidden, panel, rows, n, hidden,
                                     apart_bias ? Start::COLUMN_BIAS : Start::ZERO,
                                     apart_bias ? apart_bias + j : nullptr);
                        else
                            multiply(gates + row * width + g * hidden + j, width, h, hidden, panel, rows, n, hidden,
                                     Start::ADD, static_cast<const T*>(nullptr));
                    }
                    cell(Patch{t, step, begin, end, j, n});
                }
            }
        }
    });
}

/// out = a + b, or neither where there is no bias.
template <class T>
const T* add_biases(T* out, const T* a, const T* b, i64 n) {
    if (!a) return nullptr;
    for (i64 i = 0; i < n; ++i) out[i] = a[i] + b[i];
    return out;
}
template <class T>
void copy_last(T* last, const T* states, const T* first, const RecurrentShape& s) {
    const T* from = state_before(states, first, s, s.steps);
    std::copy(from, from + s.batch * s.hidden, last);
}

// ---- backward -------------------------------------------------------------------------------------------------------

/// Backward through time. cell(patch) turns the gradient of a step's h, in dh, into that of its gates, in dgates; their
/// product with W_hh is, or is added to, the gradient of the h before. `apart` as in walk_forward.
template <int G, class T, class Cell>
void walk_backward(T* dgates, const T* apart, T* dh, const T* dh_n, const T* w_hh, const RecurrentShape& s, Start start,
                   Cell&& cell) {
    const i64 hidden = s.hidden, width = G * hidden, size = s.batch * hidden;
    if (dh_n)
        std::copy(dh_n, dh_n + size, dh);
    else
        std::fill(dh, dh + size, T(0));
    if (s.steps * size == 0) return;
    const Panels<T> recurrent(w_hh, width, hidden, hidden, 1);
    const i64 near = apart ? width - hidden : width;  // terms of the product that dgates holds

    share_batch(s, G, [&](i64 begin, i64 end) {
        const i64 rows = end - begin;
        for (i64 step = s.steps - 1; step >= 0; --step) {
            poll_interrupt();
            const i64 t = time_of(s, step), row = t * s.batch + begin;
            cell(Patch{t, step, begin, end, 0, hidden});
            for (i64 j = 0; j < hidden; j += NR<T>) {
                const i64 n = std::min<i64>(NR<T>, hidden - j);
                const T* panel = recurrent.panel(j / NR<T>);
                T* to = dh + begin * hidden + j;
                multiply(to, hidden, dgates + row * width, width, panel, rows, n, near, start,
                         static_cast<const T*>(nullptr));
                if (apart)
                    multiply(to, hidden, apart + row * hidden, hidden, panel + near * NR<T>, rows, n, hidden,
                             Start::ADD, static_cast<const T*>(nullptr));
            }
        }
    });
}

/// dw: (rows of w, n) = the sum over time and batch of dgates^T x; dgates: (m, width), its columns [0, columns) used.
template <class T>
void weight_gradient(T* dw, const T* dgates, i64 width, i64 columns, const T* x, i64 n, i64 m) {
    matmul(dw, dgates, x, static_cast<const T*>(nullptr), MatmulShape{columns, n, m, 1, width, n, 1});
}

/// dw += the same with the state before each step on the right: y one step earlier, and h0.
template <class T>
void recurrent_gradient(T* dw, const T* dgates, i64 width, i64 columns, const T* y, const T* h0,
                        const RecurrentShape& s) {
    const i64 hidden = s.hidden, later = std::max<i64>(0, s.steps - 1) * s.batch, n = columns * hidden;
    const i64 skip = s.steps > 1 ? s.batch : 0;  // rows of the first time
    weight_gradient(dw, dgates + (s.reverse ? 0 : skip * width), width, columns, y + (s.reverse ? skip * hidden : 0),
                    hidden, later);
    if (s.steps == 0) return;
    Scratch<T> first(n);
    weight_gradient(first.get(), dgates + time_of(s, 0) * s.batch * width, width, columns, h0, hidden, s.batch);
    for (i64 i = 0; i < n; ++i) dw[i] += first[i];
}

template <class T>
void bias_gradient(T* db, const T* dgates, i64 rows, i64 columns) {
    View<const T> v;
    v.data = dgates;
    v.ndim = 2;
    v.shape[0] = rows;
    v.shape[1] = columns;
    v.stride[0] = columns;
    v.stride[1] = 1;
    sum(db, v, Axes{1});
}

/// What the gradients of all gates give: dx unless it is null, dw_ih and db.
template <class T>
void input_gradients(T* dx, T* dw_ih, T* db, const T* dgates, i64 width, const T* x, const T* w_ih,
                     const RecurrentShape& s) {
    const i64 rows = s.steps * s.batch;
    if (dx)
        matmul(dx, dgates, w_ih, static_cast<const T*>(nullptr),
               MatmulShape{rows, s.inputs, width, width, 1, s.inputs, 1});
    weight_gradient(dw_ih, dgates, width, width, x, s.inputs, rows);
    bias_gradient(db, dgates, rows, width);
}

}  // namespace

// ---- h' = tanh(a) or relu(a), a = W_ih x + W_hh h + b ---------------------------------------------------------------

template <class T>
void rnn_layer(T* y, T* h_n, const T* x, const T* h0, const T* w_ih, const T* w_hh, const T* b_ih, const T* b_hh,
               bool relu, const RecurrentShape& s) {
    Scratch<T> sums(std::max<i64>(1, s.hidden));
    const T* bias = add_biases(sums.get(), b_ih, b_hh, s.hidden);
    walk_forward<1>(y, static_cast<T*>(nullptr), y, x, h0, w_ih, w_hh, bias, static_cast<const T*>(nullptr), s,
                    [=, &s](const Patch& p) {
                        for (i64 b = p.begin; b < p.end; ++b) {
                            T* h = y + (p.t * s.batch + b) * s.hidden + p.j;
                            each_vector<T>(p.n, [&](i64 j, int lanes) {
                                const Vec<T> a = get(h + j, lanes);
                                put(h + j, relu ? maximum(a, Vec<T>{}) : math::tanh<Vec<T>>(a), lanes);
                            });
                        }
                    });
    copy_last(h_n, y, h0, s);
}

template <class T>
void rnn_layer_backward(T* dx, T* dh0, T* dw_ih, T* dw_hh, T* db, const T* dy, const T* dh_n, const T* x, const T* h0,
                        const T* w_ih, const T* w_hh, const T* y, bool relu, const RecurrentShape& s) {
    const i64 hidden = s.hidden;
    Scratch<T> dgates(std::max<i64>(1, s.steps * s.batch * hidden));
    T* da = dgates.get();
    walk_backward<1>(da, static_cast<const T*>(nullptr), dh0, dh_n, w_hh, s, Start::ZERO, [=](const Patch& p) {
        for (i64 b = p.begin; b < p.end; ++b) {
            const i64 at = (p.t * s.batch + b) * hidden;
            each_vector<T>(hidden, [&](i64 j, int lanes) {
                const Vec<T> h = get(y + at + j, lanes), one = broadcast(T(1));
                Vec<T> dh = get(dh0 + b * hidden + j, lanes);
                if (dy) dh += get(dy + at + j, lanes);
                put(da + at + j, relu ? select(h > Vec<T>{}, dh, Vec<T>{}) : dh * (one - h * h), lanes);
            });
        }
    });
    input_gradients(dx, dw_ih, db, da, hidden, x, w_ih, s);
    recurrent_gradient(dw_hh, da, hidden, hidden, y, h0, s);
}

// ---- LSTM: c' = f c + i g, h' = o tanh(c'); gates i, f, g, o --------------------------------------------------------

template <class T>
void lstm_layer(T* y, T* h_n, T* c_n, T* gates, T* cells, const T* x, const T* h0, const T* c0, const T* w_ih,
                const T* w_hh, const T* b_ih, const T* b_hh, const RecurrentShape& s) {
    const i64 hidden = s.hidden;
    Scratch<T> sums(std::max<i64>(1, 4 * hidden));
    const T* bias = add_biases(sums.get(), b_ih, b_hh, 4 * hidden);
    walk_forward<4>(gates, static_cast<T*>(nullptr), y, x, h0, w_ih, w_hh, bias, static_cast<const T*>(nullptr), s,
                    [=, &s](const Patch& p) {
                        const T* before = state_before(cells, c0, s, p.step) + p.j;
                        for (i64 b = p.begin; b < p.end; ++b) {
                            const i64 row = p.t * s.batch + b;
                            T* gate = gates + row * 4 * hidden + p.j;
                            T *c = cells + row * hidden + p.j, *h = y + row * hidden + p.j;
                            each_vector<T>(p.n, [&](i64 j, int lanes) {
                                const Vec<T> in = math::sigmoid<Vec<T>>(get(gate + j, lanes));
                                const Vec<T> forget = math::sigmoid<Vec<T>>(get(gate + hidden + j, lanes));
                                const Vec<T> fresh = math::tanh<Vec<T>>(get(gate + 2 * hidden + j, lanes));
                                const Vec<T> out = math::sigmoid<Vec<T>>(get(gate + 3 * hidden + j, lanes));
                                const Vec<T> cell = forget * get(before + b * hidden + j, lanes) + in * fresh;
                                put(gate + j, in, lanes);
                                put(gate + hidden + j, forget, lanes);
                                put(gate + 2 * hidden + j, fresh, lanes);
                                put(gate + 3 * hidden + j, out, lanes);
                                put(c + j, cell, lanes);
                                put(h + j, Vec<T>(out * math::tanh<Vec<T>>(cell)), lanes);
                            });
                        }
                    });
    copy_last(h_n, y, h0, s);
    copy_last(c_n, cells, c0, s);
}

template <class T>
void lstm_layer_backward(T* dx, T* dh0, T* dc0, T* dw_ih, T* dw_hh, T* db, const T* dy, const T* dh_n, const T* dc_n,
                         const T* x, const T* h0, const T* c0, const T* w_ih, const T* w_hh, const T* y, const T* gates,
                         const T* cells, const RecurrentShape& s) {
    const i64 hidden = s.hidden, width = 4 * hidden, size = s.batch * hidden;
    Scratch<T> scratch(std::max<i64>(1, s.steps * s.batch * width));
    T* dgates = scratch.get();
    if (dc_n)
        std::copy(dc_n, dc_n + size, dc0);
    else
        std::fill(dc0, dc0 + size, T(0));
    walk_backward<4>(dgates, static_cast<const T*>(nullptr), dh0, dh_n, w_hh, s, Start::ZERO, [=](const Patch& p) {
        const T* before = state_before(cells, c0, s, p.step);
        for (i64 b = p.begin; b < p.end; ++b) {
            const i64 row = p.t * s.batch + b, at = row * hidden;
            const T* gate = gates + row * width;
            T *dgate = dgates + row * width, *dcell = dc0 + b * hidden;
            each_vector<T>(hidden, [&](i64 j, int lanes) {
                const Vec<T> one = broadcast(T(1));
                const Vec<T> in = get(gate + j, lanes), forget = get(gate + hidden + j, lanes);
                const Vec<T> fresh = get(gate + 2 * hidden + j, lanes), out = get(gate + 3 * hidden + j, lanes);
                const Vec<T> squashed = math::tanh<Vec<T>>(get(cells + at + j, lanes));
                Vec<T> dh = get(dh0 + b * hidden + j, lanes);
                if (dy) dh += get(dy + at + j, lanes);
                const Vec<T> dc = get(dcell + j, lanes) + dh * out * (one - squashed * squashed);
                const Vec<T> c = get(before + b * hidden + j, lanes);
                put(dgate + j, Vec<T>(dc * fresh * in * (one - in)), lanes);
                put(dgate + hidden + j, Vec<T>(dc * c * forget * (one - forget)), lanes);
                put(dgate + 2 * hidden + j, Vec<T>(dc * in * (one - fresh * fresh)), lanes);
                put(dgate + 3 * hidden + j, Vec<T>(dh * squashed * out * (one - out)), lanes);
                put(dcell + j, Vec<T>(dc * forget), lanes);
            });
        }
    });
    input_gradients(dx, dw_ih, db, dgates, width, x, w_ih, s);
    recurrent_gradient(dw_hh, dgates, width, width, y, h0, s);
}

// ---- GRU: h' = (1 - z) n + z h, n = tanh(W_in x + b_in + r (W_hn h + b_hn)); gates r, z, n
// ---------------------------

template <class T>
void gru_layer(T* y, T* h_n, T* gates, T* candidate, const T* x, const T* h0, const T* w_ih, const T* w_hh,
               const T* b_ih, const T* b_hh, const RecurrentShape& s) {
    const i64 hidden = s.hidden;
    Scratch<T> sums(std::max<i64>(1, 3 * hidden));
    const T* bias = add_biases(sums.get(), b_ih, b_hh, 2 * hidden);
    if (bias) std::copy(b_ih + 2 * hidden, b_ih + 3 * hidden, sums.get() + 2 * hidden);
    walk_forward<3>(
        gates, candidate, y, x, h0, w_ih, w_hh, bias, b_hh ? b_hh + 2 * hidden : nullptr, s, [=, &s](const Patch& p) {
            const T* before = state_before(y, h0, s, p.step) + p.j;
            for (i64 b = p.begin; b < p.end; ++b) {
                const i64 row = p.t * s.batch + b;
                T *gate = gates + row * 3 * hidden + p.j, *h = y + row * hidden + p.j;
                const T* of_h = candidate + row * hidden + p.j;
                each_vector<T>(p.n, [&](i64 j, int lanes) {
                    const Vec<T> reset = math::sigmoid<Vec<T>>(get(gate + j, lanes));
                    const Vec<T> keep = math::sigmoid<Vec<T>>(get(gate + hidden + j, lanes));
                    const Vec<T> fresh =
                        math::tanh<Vec<T>>(get(gate + 2 * hidden + j, lanes) + reset * get(of_h + j, lanes));
                    put(gate + j, reset, lanes);
                    put(gate + hidden + j, keep, lanes);
                    put(gate + 2 * hidden + j, fresh, lanes);
                    put(h + j, Vec<T>(fresh + keep * (get(before + b * hidden + j, lanes) - fresh)), lanes);
                });
            }
        });
    copy_last(h_n, y, h0, s);
}

template <class T>
void gru_layer_backward(T* dx, T* dh0, T* dw_ih, T* dw_hh, T* db_ih, T* db_hh, const T* dy, const T* dh_n, const T* x,
                        const T* h0, const T* w_ih, const T* w_hh, const T* y, const T* gates, const T* candidate,
                        const RecurrentShape& s) {
    const i64 hidden = s.hidden, width = 3 * hidden, rows = s.steps * s.batch;
    Scratch<T> scratch(std::max<i64>(1, rows * width)), scratch_apart(std::max<i64>(1, rows * hidden));
    T *dgates = scratch.get(), *apart = scratch_apart.get();
    walk_backward<3>(dgates, apart, dh0, dh_n, w_hh, s, Start::ADD, [=](const Patch& p) {
        const T* before = state_before(y, h0, s, p.step);
        for (i64 b = p.begin; b < p.end; ++b) {
            const i64 row = p.t * s.batch + b, at = row * hidden;
            const T* gate = gates + row * width;
            T* dgate = dgates + row * width;
            each_vector<T>(hidden, [&](i64 j, int lanes) {
                const Vec<T> one = broadcast(T(1));
                const Vec<T> reset = get(gate + j, lanes), keep = get(gate + hidden + j, lanes);
                const Vec<T> fresh = get(gate + 2 * hidden + j, lanes);
                Vec<T> dh = get(dh0 + b * hidden + j, lanes);
                if (dy) dh += get(dy + at + j, lanes);
                const Vec<T> dfresh = dh * (one - keep) * (one - fresh * fresh);
                const Vec<T> dkeep = dh * (get(before + b * hidden + j, lanes) - fresh);
                put(dgate + j, Vec<T>(dfresh * get(candidate + at + j, lanes) * reset * (one - reset)), lanes);
                put(dgate + hidden + j, Vec<T>(dkeep * keep * (one - keep)), lanes);
                put(dgate + 2 * hidden + j, dfresh, lanes);
                put(apart + at + j, Vec<T>(dfresh * reset), lanes);
                put(dh0 + b * hidden + j, Vec<T>(dh * keep), lanes);
            });
        }
    });
    input_gradients(dx, dw_ih, db_ih, dgates, width, x, w_ih, s);
    recurrent_gradient(dw_hh, dgates, width, 2 * hidden, y, h0, s);
    recurrent_gradient(dw_hh + 2 * hidden * hidden, apart, hidden, hidden, y, h0, s);
    std::copy(db_ih, db_ih + 2 * hidden, db_hh);
    bias_gradient(db_hh + 2 * hidden, apart, rows, hidden);
}

#define INSTANTIATE(T)                                                                                             \
    template void rnn_layer<T>(T*, T*, const T*, const T*, const T*, const T*, const T*, const T*, bool,           \
                               const RecurrentShape&);                                                             \
    template void rnn_layer_backward<T>(T*, T*, T*, T*, T*, const T*, const T*, const T*, const T*, const T*,      \
                                        const T*, const T*, bool, const RecurrentShape&);                          \
    template void lstm_layer<T>(T*, T*, T*, T*, T*, const T*, const T*, const T*, const T*, const T*, const T*,    \
                                const T*, const RecurrentShape&);                                                  \
    template void lstm_layer_backward<T>(T*, T*, T*, T*, T*, T*, const T*, const T*, const T*, const T*, const T*, \
                                         const T*, const T*, const T*, const T*, const T*, const T*,               \
                                         const RecurrentShape&);                                                   \
    template void gru_layer<T>(T*, T*, T*, T*, const T*, const T*, const T*, const T*, const T*, const T*,         \
                               const RecurrentShape&);                                                             \
    template void gru_layer_backward<T>(T*, T*, T*, T*, T*, T*, const T*, const T*, const T*, const T*, const T*,  \
                                        const T*, const T*, const T*, const T*, const RecurrentShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
