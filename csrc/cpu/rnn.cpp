// Recurrent layers: a whole sequence in one call, forward and backward.
//
// Idea:       what does not wait for the step before is taken out of the loop: x W_ih^T + b of many steps is one
//             product, and so are dx, dW_ih and dW_hh. Of the step itself h W_hh^T is left, and it ends in the cell's
//             formula while its sums are in L1: the gates of NR hidden units, their sigmoids, then h.
// Changed:    against one op per step and gate: W_hh is packed once per sequence, not once per step, and a step writes
//             no more than backward reads (activated gates, cell states). Work goes in blocks of steps whose sums stay
//             in L2: sums before their activation, and their gradients, never see memory. The rows of a batch do not
//             meet in forward, so a thread takes its rows through the whole sequence and waits for nobody. A row's
//             sums are taken in one order whatever the rows beside it: any split of the batch gives the same bits.
// Why faster: LSTM(64, 128) with batch 32: a step is 32 * 512 * 128 multiply-adds, 18 us at 235 GFLOP/s, and 20,480
//             sigmoids and tanhs, 9 us. The packed W_hh is 256 KiB and stays in L2 for all steps. The sums of the whole
//             sequence are 3 MiB: there and back, they would cost as much as the activations.
// Still hurts: a fifth of the LSTM's forward are its five exponentials per unit. A batch of 1 multiplies in tiles of
//             one row, whose two sums in flight wait for each other; threads share out the batch alone, so it has one
//             thread as well. BLOCK_ROWS rows of a wide LSTM's gradients (hidden 256: 1 MiB) push W_hh out of L2.
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
constexpr i64 AHEAD_BYTES = 512 << 10;  // sums of the steps ahead: a quarter of an L2 that W_hh and W_ih share
constexpr i64 BLOCK_ROWS = 256;         // rows of time and batch whose gradients make one addition to dW
constexpr i64 FEWEST_ROWS = 4;      // of a thread: each streams all of W_hh per step, and fewer rows would wait for it
constexpr i64 TASK_WORK = 1 << 20;  // multiply-adds, about 10 us: what is less stays on one thread

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

// Both within 3 ulp, with exp_nonpositive for exp, which math:: must do without: a sigmoid below 2^-126 is 0 here.
template <class V>
inline V sigmoid(const V& x) {
    const V one = constant<V>(1), e = math::exp_nonpositive<V>(-math::absolute(x));
    return select(x >= V{}, one, e) / (one + e);
}
/// Near 0, where 1 - e^-2a loses digits, math::tanh's series.
template <class V>
inline V tanh(const V& x) {
    const V one = constant<V>(1), a = math::absolute(x), e = math::exp_nonpositive<V>(constant<V>(-2) * a);
    return math::copy_sign(select(a < constant<V>(0.3), math::detail::tanh_near_0(a), (one - e) / (one + e)), x);
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

/// Rows of `units` sums, one cache line apart more than they hold: at a distance of 2 KiB, 32 rows would fall into two
/// sets of L1, which keep 24 lines.
template <class T>
i64 padded(i64 units) {
    constexpr i64 LINE = 64 / sizeof(T);
    return (ceil_div(units, LINE) | 1) * LINE;
}

// ---- forward --------------------------------------------------------------------------------------------------------

/// The part of a step between its products and the next step: the hidden units [j, j + n) of the rows [begin, end).
/// sums: of row `begin` and unit j; the next row is `stride` further, the next gate `hidden`.
template <class T>
struct Patch {
    i64 t, step, begin, end, j, n;
    T* sums;
    i64 stride;
};

/// sums = x W_ih^T + h W_hh^T + bias for G gates, step by step; then cell(patch) makes states of them. If APART, the
/// hidden part of the last gate is a sum of its own, beyond the others, with a bias of its own.
template <int G, bool APART, class T, class Cell>
void walk_forward(const T* y, const T* x, const T* h0, const T* w_ih, const T* w_hh, const T* bias, const T* apart_bias,
                  const RecurrentShape& s, Cell&& cell) {
    const i64 hidden = s.hidden, width = G * hidden;
    if (s.steps * s.batch * hidden == 0) return;
    const Panels<T> input(w_ih, s.inputs, width, 1, s.inputs);
    // Gate by gate, since a panel that holds units of two gates would end in the middle of a vector.
    std::optional<Panels<T>> recurrent[G];
    for (int g = 0; g < G; ++g) recurrent[g].emplace(w_hh + g * hidden * hidden, hidden, hidden, 1, hidden);
    const i64 stride = padded<T>((G + APART) * hidden);

    share_batch(s, G, [&](i64 begin, i64 end) {
        const i64 rows = end - begin;
        const i64 ahead = std::clamp<i64>(AHEAD_BYTES / (rows * stride * static_cast<i64>(sizeof(T))), 1, s.steps);
        const bool together = rows == s.batch;  // then the rows of several steps lie in one piece
        Scratch<T> sums(ahead * rows * stride);
        for (i64 first = 0; first < s.steps; first += ahead) {
            poll_interrupt();
            const i64 last = std::min(first + ahead, s.steps), pieces = together ? 1 : last - first;
            const i64 t0 = std::min(time_of(s, first), time_of(s, last - 1));
            for (i64 j = 0; j < width; j += NR<T>)
                for (i64 i = 0; i < pieces; ++i)
                    multiply(sums.get() + i * rows * stride + j, stride, x + ((t0 + i) * s.batch + begin) * s.inputs,
                             s.inputs, input.panel(j / NR<T>), together ? (last - first) * rows : rows,
                             std::min<i64>(NR<T>, width - j), s.inputs, bias ? Start::COLUMN_BIAS : Start::ZERO,
                             bias ? bias + j : nullptr);
            for (i64 step = first; step < last; ++step) {
                const i64 t = time_of(s, step);
                const T* h = state_before(y, h0, s, step) + begin * hidden;
                for (i64 j = 0; j < hidden; j += NR<T>) {
                    const i64 n = std::min<i64>(NR<T>, hidden - j);
                    T* patch = sums.get() + (t - t0) * rows * stride + j;
                    for (int g = 0; g < G; ++g) {
                        const bool apart = APART && g == G - 1;
                        multiply(patch + (g + apart) * hidden, stride, h, hidden, recurrent[g]->panel(j / NR<T>), rows,
                                 n, hidden,
                                 !apart       ? Start::ADD
                                 : apart_bias ? Start::COLUMN_BIAS
                                              : Start::ZERO,
                                 apart_bias ? apart_bias + j : nullptr);
                    }
                    cell(Patch<T>{t, step, begin, end, j, n, patch, stride});
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

/// What backward makes of the gradients of the gates. dx may be null.
template <class T>
struct Gradients {
    T *dx, *dh0, *dw_ih, *dw_hh, *db;
};

/// sum: (n,) += the rows of x: (rows, n), `stride` apart.
template <class T>
void add_rows(T* sum, const T* x, i64 stride, i64 rows, i64 n) {
    constexpr i64 STRIP = 4 * W<T>;  // sums that do not wait for each other
    i64 j = 0;
    for (; j + STRIP <= n; j += STRIP) {
        Vec<T> total[4] = {};
        for (i64 l = 0; l < rows; ++l)
            for (int v = 0; v < 4; ++v) total[v] += load(x + l * stride + j + v * W<T>);
        for (int v = 0; v < 4; ++v) store(sum + j + v * W<T>, load(sum + j + v * W<T>) + total[v]);
    }
    each_vector<T>(n - j, [&](i64 i, int lanes) {
        Vec<T> total{};
        for (i64 l = 0; l < rows; ++l) total += load_lanes(x + l * stride + j + i, lanes);
        store_lanes(sum + j + i, Vec<T>(load_lanes(sum + j + i, lanes) + total), lanes);
    });
}

/// Backward through time. cell(patch) turns the gradient of a step's h, in dh0, into those of its sums; their product
/// with W_hh is (start ADD: is added to) the gradient of the h before, in its place. `db` has a number for each sum.
template <int G, bool APART, class T, class Cell>
void walk_backward(const Gradients<T>& out, const T* dh_n, const T* x, const T* h0, const T* y, const T* w_ih,
                   const T* w_hh, const RecurrentShape& s, Start start, Cell&& cell) {
    constexpr T* NONE = nullptr;
    const i64 hidden = s.hidden, inputs = s.inputs, width = G * hidden, size = s.batch * hidden;
    if (dh_n)
        std::copy(dh_n, dh_n + size, out.dh0);
    else
        std::fill(out.dh0, out.dh0 + size, T(0));
    std::fill(out.db, out.db + width + APART * hidden, T(0));
    if (s.steps * size == 0) {
        if (out.dx) std::fill(out.dx, out.dx + s.steps * s.batch * inputs, T(0));
        std::fill(out.dw_ih, out.dw_ih + width * inputs, T(0));
        std::fill(out.dw_hh, out.dw_hh + width * hidden, T(0));
        return;
    }
    const Panels<T> recurrent(w_hh, width, hidden, hidden, 1);
    const i64 stride = padded<T>(width + APART * hidden), near = width - APART * hidden;
    const i64 block = std::clamp<i64>(BLOCK_ROWS / s.batch, 1, s.steps), most = block * s.batch;
    const i64 input_strips = ceil_div(inputs, NR<T>), strips = input_strips + ceil_div(hidden, NR<T>);
    Scratch<T> dsums(most * stride), right(strips * NR<T> * most);

    for (i64 last = s.steps; last > 0; last -= block) {
        const i64 first = std::max<i64>(0, last - block), rows = (last - first) * s.batch;
        const i64 t0 = std::min(time_of(s, first), time_of(s, last - 1));
        share_batch(s, G, [&](i64 begin, i64 end) {
            for (i64 step = last - 1; step >= first; --step) {
                poll_interrupt();
                const i64 t = time_of(s, step);
                const T* row = dsums.get() + ((t - t0) * s.batch + begin) * stride;
                cell(Patch<T>{t, step, begin, end, 0, hidden, const_cast<T*>(row), stride});
                for (i64 j = 0; j < hidden; j += NR<T>) {
                    const i64 n = std::min<i64>(NR<T>, hidden - j);
                    const T* panel = recurrent.panel(j / NR<T>);
                    T* dh = out.dh0 + begin * hidden + j;
                    multiply(dh, hidden, row, stride, panel, end - begin, n, near, start, NONE);
                    if (APART)
                        multiply(dh, hidden, row + width, stride, panel + near * NR<T>, end - begin, n, hidden,
                                 Start::ADD, NONE);
                }
            }
        });
        if (out.dx)
            matmul(out.dx + t0 * s.batch * inputs, static_cast<const T*>(dsums.get()), w_ih,
                   static_cast<const T*>(NONE), MatmulShape{rows, inputs, width, stride, 1, inputs, 1});

        // dW (+)= dsums^T [x, h before]: the right side in panels, the left as it lies.
        parallel_for(strips, TASK_WORK / 16 / (NR<T> * rows) + 1, [&](i64 begin, i64 end) {
            for (i64 strip = begin; strip < end; ++strip) {
                T* panel = right.get() + strip * NR<T> * rows;
                const i64 j = (strip < input_strips ? strip : strip - input_strips) * NR<T>;
                if (strip < input_strips)
                    pack_panel(panel, NR<T>, x + t0 * s.batch * inputs + j, 1, inputs, std::min<i64>(NR<T>, inputs - j),
                               rows);
                else
                    for (i64 step = first; step < last; ++step)
                        pack_panel(panel + (time_of(s, step) - t0) * s.batch * NR<T>, NR<T>,
                                   state_before(y, h0, s, step) + j, 1, hidden, std::min<i64>(NR<T>, hidden - j),
                                   s.batch);
            }
        });
        const i64 sums = G + APART, height = panel_height(hidden), panels = ceil_div(hidden, height);
        parallel_for(sums * panels, TASK_WORK / (height * rows * (inputs + hidden)) + 1, [&](i64 begin, i64 end) {
            Scratch<T> left(height * rows);
            for (i64 task = begin; task < end; ++task) {
                const i64 g = task / panels, i = task % panels * height, m = std::min(height, hidden - i);
                pack_panel(left.get(), m, dsums.get() + g * hidden + i, 1, stride, m, rows);
                for (i64 strip = 0; strip < strips; ++strip) {
                    const bool of_x = strip < input_strips;
                    // The gate that the sum is part of on this side; -1 where only its other half is.
                    const i64 gate = !APART || g < G - 1 ? g : of_x == (g == G - 1) ? G - 1 : -1;
                    if (gate < 0) continue;
                    const i64 columns = of_x ? inputs : hidden, j = (of_x ? strip : strip - input_strips) * NR<T>;
                    Tile<T> t;
                    t.c = (of_x ? out.dw_ih : out.dw_hh) + (gate * hidden + i) * columns + j;
                    t.ldc = columns;
                    t.a_row = 1;
                    t.a_step = m;
                    t.b_step = NR<T>;
                    t.n = std::min<i64>(NR<T>, columns - j);
                    t.bias = NONE;
                    t.start = last == s.steps ? Start::ZERO : Start::ADD;
                    for (i64 l = 0; l < rows; l += KC) {
                        t.a = left.get() + l * m;
                        t.b = right.get() + (strip * rows + l) * NR<T>;
                        t.k = std::min(KC, rows - l);
                        multiply_tile(t, m);
                        t.start = Start::ADD;
                    }
                }
            }
        });
        parallel_for(width + APART * hidden, TASK_WORK / 16 / rows + 1, [&](i64 begin, i64 end) {
            add_rows(out.db + begin, dsums.get() + begin, stride, rows, end - begin);
        });
    }
}

}  // namespace

// ---- h' = tanh(a) or relu(a), a = W_ih x + W_hh h + b ---------------------------------------------------------------

template <class T>
void rnn_layer(T* y, T* h_n, const T* x, const T* h0, const T* w_ih, const T* w_hh, const T* b_ih, const T* b_hh,
               bool relu, const RecurrentShape& s) {
    Scratch<T> biases(s.hidden);
    const T* bias = add_biases(biases.get(), b_ih, b_hh, s.hidden);
    const auto cell = [=, &s](const Patch<T>& p) {
        for (i64 b = p.begin; b < p.end; ++b) {
            const T* sums = p.sums + (b - p.begin) * p.stride;
            T* h = y + (p.t * s.batch + b) * s.hidden + p.j;
            each_vector<T>(p.n, [&](i64 j, int lanes) {
                const Vec<T> a = load_lanes(sums + j, lanes);
                store_lanes(h + j, relu ? maximum(a, Vec<T>{}) : tanh<Vec<T>>(a), lanes);
            });
        }
    };
    walk_forward<1, false>(static_cast<const T*>(y), x, h0, w_ih, w_hh, bias, static_cast<const T*>(nullptr), s, cell);
    copy_last(h_n, y, h0, s);
}

template <class T>
void rnn_layer_backward(T* dx, T* dh0, T* dw_ih, T* dw_hh, T* db, const T* dy, const T* dh_n, const T* x, const T* h0,
                        const T* w_ih, const T* w_hh, const T* y, bool relu, const RecurrentShape& s) {
    const i64 hidden = s.hidden;
    const auto cell = [=](const Patch<T>& p) {
        for (i64 b = p.begin; b < p.end; ++b) {
            const i64 at = (p.t * s.batch + b) * hidden;
            T* dsums = p.sums + (b - p.begin) * p.stride;
            each_vector<T>(hidden, [&](i64 j, int lanes) {
                const Vec<T> h = load_lanes(y + at + j, lanes), one = broadcast(T(1));
                Vec<T> dh = load_lanes(dh0 + b * hidden + j, lanes);
                if (dy) dh += load_lanes(dy + at + j, lanes);
                store_lanes(dsums + j, relu ? select(h > Vec<T>{}, dh, Vec<T>{}) : Vec<T>(dh * (one - h * h)), lanes);
            });
        }
    };
    walk_backward<1, false>(Gradients<T>{dx, dh0, dw_ih, dw_hh, db}, dh_n, x, h0, y, w_ih, w_hh, s, Start::ZERO, cell);
}

// ---- LSTM: c' = f c + i g, h' = o tanh(c'); gates i, f, g, o --------------------------------------------------------

template <class T>
void lstm_layer(T* y, T* h_n, T* c_n, T* gates, T* cells, const T* x, const T* h0, const T* c0, const T* w_ih,
                const T* w_hh, const T* b_ih, const T* b_hh, const RecurrentShape& s) {
    const i64 hidden = s.hidden;
    Scratch<T> biases(4 * hidden);
    const T* bias = add_biases(biases.get(), b_ih, b_hh, 4 * hidden);
    const auto cell = [=, &s](const Patch<T>& p) {
        const T* before =
            (cells || p.step == 0 ? state_before(static_cast<const T*>(cells), c0, s, p.step) : c_n) + p.j;
        for (i64 b = p.begin; b < p.end; ++b) {
            const i64 row = p.t * s.batch + b;
            const T* sums = p.sums + (b - p.begin) * p.stride;
            T *c = (cells ? cells + row * hidden : c_n + b * hidden) + p.j, *h = y + row * hidden + p.j;
            each_vector<T>(p.n, [&](i64 j, int lanes) {
                const Vec<T> in = sigmoid<Vec<T>>(load_lanes(sums + j, lanes));
                const Vec<T> forget = sigmoid<Vec<T>>(load_lanes(sums + hidden + j, lanes));
                const Vec<T> fresh = tanh<Vec<T>>(load_lanes(sums + 2 * hidden + j, lanes));
                const Vec<T> out = sigmoid<Vec<T>>(load_lanes(sums + 3 * hidden + j, lanes));
                const Vec<T> state = forget * load_lanes(before + b * hidden + j, lanes) + in * fresh;
                store_lanes(c + j, state, lanes);
                if (gates) {
                    T* gate = gates + row * 4 * hidden + p.j + j;
                    store_lanes(gate, in, lanes);
                    store_lanes(gate + hidden, forget, lanes);
                    store_lanes(gate + 2 * hidden, fresh, lanes);
                    store_lanes(gate + 3 * hidden, out, lanes);
                }
                store_lanes(h + j, Vec<T>(out * tanh<Vec<T>>(state)), lanes);
            });
        }
    };
    walk_forward<4, false>(static_cast<const T*>(y), x, h0, w_ih, w_hh, bias, static_cast<const T*>(nullptr), s, cell);
    copy_last(h_n, y, h0, s);
    if (cells || s.steps == 0) copy_last(c_n, cells, c0, s);
}

template <class T>
void lstm_layer_backward(T* dx, T* dh0, T* dc0, T* dw_ih, T* dw_hh, T* db, const T* dy, const T* dh_n, const T* dc_n,
                         const T* x, const T* h0, const T* c0, const T* w_ih, const T* w_hh, const T* y, const T* gates,
                         const T* cells, const RecurrentShape& s) {
    const i64 hidden = s.hidden, size = s.batch * hidden;
    if (dc_n)
        std::copy(dc_n, dc_n + size, dc0);
    else
        std::fill(dc0, dc0 + size, T(0));
    const auto cell = [=](const Patch<T>& p) {
        const T* before = state_before(cells, c0, s, p.step);
        for (i64 b = p.begin; b < p.end; ++b) {
            const i64 row = p.t * s.batch + b, at = row * hidden;
            const T* gate = gates + 4 * at;
            T *dsums = p.sums + (b - p.begin) * p.stride, *dcell = dc0 + b * hidden;
            each_vector<T>(hidden, [&](i64 j, int lanes) {
                const Vec<T> one = broadcast(T(1));
                const Vec<T> in = load_lanes(gate + j, lanes), forget = load_lanes(gate + hidden + j, lanes);
                const Vec<T> fresh = load_lanes(gate + 2 * hidden + j, lanes),
                             out = load_lanes(gate + 3 * hidden + j, lanes);
                const Vec<T> squashed = tanh<Vec<T>>(load_lanes(cells + at + j, lanes));
                Vec<T> dh = load_lanes(dh0 + b * hidden + j, lanes);
                if (dy) dh += load_lanes(dy + at + j, lanes);
                const Vec<T> dc = load_lanes(dcell + j, lanes) + dh * out * (one - squashed * squashed);
                const Vec<T> c = load_lanes(before + b * hidden + j, lanes);
                store_lanes(dsums + j, Vec<T>(dc * fresh * in * (one - in)), lanes);
                store_lanes(dsums + hidden + j, Vec<T>(dc * c * forget * (one - forget)), lanes);
                store_lanes(dsums + 2 * hidden + j, Vec<T>(dc * in * (one - fresh * fresh)), lanes);
                store_lanes(dsums + 3 * hidden + j, Vec<T>(dh * squashed * out * (one - out)), lanes);
                store_lanes(dcell + j, Vec<T>(dc * forget), lanes);
            });
        }
    };
    walk_backward<4, false>(Gradients<T>{dx, dh0, dw_ih, dw_hh, db}, dh_n, x, h0, y, w_ih, w_hh, s, Start::ZERO, cell);
}

// ---- GRU: h' = (1 - z) n + z h, n = tanh(W_in x + b_in + r (W_hn h + b_hn)); gates r, z, n -------------------------

template <class T>
void gru_layer(T* y, T* h_n, T* gates, T* candidate, const T* x, const T* h0, const T* w_ih, const T* w_hh,
               const T* b_ih, const T* b_hh, const RecurrentShape& s) {
    const i64 hidden = s.hidden;
    Scratch<T> biases(3 * hidden);
    const T* bias = add_biases(biases.get(), b_ih, b_hh, 2 * hidden);
    if (bias) std::copy(b_ih + 2 * hidden, b_ih + 3 * hidden, biases.get() + 2 * hidden);
    const auto cell = [=, &s](const Patch<T>& p) {
        const T* before = state_before(static_cast<const T*>(y), h0, s, p.step) + p.j;
        for (i64 b = p.begin; b < p.end; ++b) {
            const i64 row = p.t * s.batch + b;
            const T* sums = p.sums + (b - p.begin) * p.stride;
            T* h = y + row * hidden + p.j;
            each_vector<T>(p.n, [&](i64 j, int lanes) {
                const Vec<T> reset = sigmoid<Vec<T>>(load_lanes(sums + j, lanes));
                const Vec<T> keep = sigmoid<Vec<T>>(load_lanes(sums + hidden + j, lanes));
                const Vec<T> u = load_lanes(sums + 3 * hidden + j, lanes);
                const Vec<T> fresh = tanh<Vec<T>>(load_lanes(sums + 2 * hidden + j, lanes) + reset * u);
                if (gates) {
                    T* gate = gates + row * 3 * hidden + p.j + j;
                    store_lanes(gate, reset, lanes);
                    store_lanes(gate + hidden, keep, lanes);
                    store_lanes(gate + 2 * hidden, fresh, lanes);
                    store_lanes(candidate + row * hidden + p.j + j, u, lanes);
                }
                store_lanes(h + j, Vec<T>(fresh + keep * (load_lanes(before + b * hidden + j, lanes) - fresh)), lanes);
            });
        }
    };
    walk_forward<3, true>(static_cast<const T*>(y), x, h0, w_ih, w_hh, bias, b_hh ? b_hh + 2 * hidden : nullptr, s,
                          cell);
    copy_last(h_n, y, h0, s);
}

template <class T>
void gru_layer_backward(T* dx, T* dh0, T* dw_ih, T* dw_hh, T* db_ih, T* db_hh, const T* dy, const T* dh_n, const T* x,
                        const T* h0, const T* w_ih, const T* w_hh, const T* y, const T* gates, const T* candidate,
                        const RecurrentShape& s) {
    const i64 hidden = s.hidden;
    const auto cell = [=](const Patch<T>& p) {
        const T* before = state_before(y, h0, s, p.step);
        for (i64 b = p.begin; b < p.end; ++b) {
            const i64 at = (p.t * s.batch + b) * hidden;
            const T* gate = gates + 3 * at;
            T *dsums = p.sums + (b - p.begin) * p.stride, *dstate = dh0 + b * hidden;
            each_vector<T>(hidden, [&](i64 j, int lanes) {
                const Vec<T> one = broadcast(T(1));
                const Vec<T> reset = load_lanes(gate + j, lanes), keep = load_lanes(gate + hidden + j, lanes);
                const Vec<T> fresh = load_lanes(gate + 2 * hidden + j, lanes);
                Vec<T> dh = load_lanes(dstate + j, lanes);
                if (dy) dh += load_lanes(dy + at + j, lanes);
                const Vec<T> dfresh = dh * (one - keep) * (one - fresh * fresh);
                const Vec<T> dkeep = dh * (load_lanes(before + b * hidden + j, lanes) - fresh);
                store_lanes(dsums + j, Vec<T>(dfresh * load_lanes(candidate + at + j, lanes) * reset * (one - reset)),
                            lanes);
                store_lanes(dsums + hidden + j, Vec<T>(dkeep * keep * (one - keep)), lanes);
                store_lanes(dsums + 2 * hidden + j, dfresh, lanes);
                store_lanes(dsums + 3 * hidden + j, Vec<T>(dfresh * reset), lanes);
                store_lanes(dstate + j, Vec<T>(dh * keep), lanes);
            });
        }
    };
    Scratch<T> db(4 * hidden);
    walk_backward<3, true>(Gradients<T>{dx, dh0, dw_ih, dw_hh, db.get()}, dh_n, x, h0, y, w_ih, w_hh, s, Start::ADD,
                           cell);
    std::copy(db.get(), db.get() + 3 * hidden, db_ih);
    std::copy(db.get(), db.get() + 2 * hidden, db_hh);
    std::copy(db.get() + 3 * hidden, db.get() + 4 * hidden, db_hh + 2 * hidden);
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
