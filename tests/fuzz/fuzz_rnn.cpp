// The recurrent layers and their gradients, against the formulas one number at a time in wider arithmetic.
//
// Forward starts from h0 and follows the definition; a state's error is passed on by the slopes of the next step, which
// Sized follows. Backward starts from what forward left: its errors are its own.
#include "fuzz.h"

using namespace fuzz;
using namespace glassgrad;

namespace {

enum class Kind { RNN, LSTM, GRU };

template <class T>
void layer(Input& in) {
    const Kind kind = in.one_of({Kind::RNN, Kind::LSTM, Kind::GRU});
    const bool relu = kind == Kind::RNN && in.flag();
    i64 steps = in.size(9), batch = in.size(40), inputs = in.size(40), hidden = in.size(70);
    limit(in.byte() % 16 ? 3000 : 40000, {&steps, &batch, &inputs, &hidden});  // a large one is shared out
    const RecurrentShape s{steps, batch, inputs, hidden, in.flag()};
    const i64 g = kind == Kind::RNN ? 1 : kind == Kind::LSTM ? 4 : 3;
    const i64 state = batch * hidden, states = steps * state, width = g * hidden;
    const auto text = [&](const char* what) {
        return [=] {
            return (relu                 ? "relu rnn"
                    : kind == Kind::RNN  ? "rnn"
                    : kind == Kind::LSTM ? "lstm"
                                         : "gru") +
                   list({steps, batch, inputs, hidden, s.reverse}) + " " + what;
        };
    };
    const auto x = moderate<T>(in, steps * batch * inputs), h0 = moderate<T>(in, state), c0 = moderate<T>(in, state);
    const auto w_ih = moderate<T>(in, width * inputs), w_hh = moderate<T>(in, width * hidden);
    const auto b_ih = moderate<T>(in, width), b_hh = moderate<T>(in, width);
    const bool bias = in.flag();
    const T *bi = bias ? b_ih.get() : nullptr, *bh = bias ? b_hh.get() : nullptr;

    const Array<T> y(in, states), h_n(in, state), c_n(in, state), gates(in, g * states), kept(in, states);
    const auto forward = [&](T* y, T* h_n, T* c_n, T* gates, T* kept) {
        if (kind == Kind::RNN) rnn_layer<T>(y, h_n, x, h0, w_ih, w_hh, bi, bh, relu, s);
        if (kind == Kind::LSTM) lstm_layer<T>(y, h_n, c_n, gates, kept, x, h0, c0, w_ih, w_hh, bi, bh, s);
        if (kind == Kind::GRU) gru_layer<T>(y, h_n, gates, kept, x, h0, w_ih, w_hh, bi, bh, s);
    };
    same_on_two({&y, &h_n, &c_n, &gates, &kept}, text("forward"), forward);

    const auto time = [&](i64 step) { return s.reverse ? steps - 1 - step : step; };
    const auto at = [&](const Array<T>& a, i64 i) { return Sized<T>(a[i]); };
    // The state before a step, of what forward left.
    const auto before = [&](const Array<T>& all, const Array<T>& first, i64 step, i64 i) {
        return step ? at(all, time(step - 1) * state + i) : at(first, i);
    };
    // A sum of hidden + inputs products and two biases, and 16 for the cell, at every step before and at this one.
    const double roundings = static_cast<double>(std::max<i64>(1, steps) * (hidden + inputs + 20));
    {
        std::vector<Sized<T>> h(state), c(state);
        for (i64 i = 0; i < state; ++i) h[i] = at(h0, i), c[i] = at(c0, i);
        for (i64 step = 0; step < steps; ++step) {
            std::vector<Sized<T>> next = h;
            for (i64 b = 0; b < batch; ++b)
                for (i64 j = 0; j < hidden; ++j) {
                    Sized<T> a[4], u[4];
                    for (i64 k = 0; k < g; ++k) {
                        const i64 row = k * hidden + j;
                        if (bias) a[k] = at(b_ih, row), u[k] = at(b_hh, row);
                        for (i64 l = 0; l < inputs; ++l)
                            a[k] = a[k] + at(w_ih, row * inputs + l) * at(x, (time(step) * batch + b) * inputs + l);
                        for (i64 l = 0; l < hidden; ++l) u[k] = u[k] + at(w_hh, row * hidden + l) * h[b * hidden + l];
                    }
                    const i64 i = b * hidden + j;
                    if (kind == Kind::RNN) {
                        const Sized<T> sum = a[0] + u[0];
                        next[i] = !relu ? tanh(sum) : sum.value > 0 ? sum : Sized<T>(0, sum.size);
                    } else if (kind == Kind::LSTM) {
                        c[i] = sigmoid(a[1] + u[1]) * c[i] + sigmoid(a[0] + u[0]) * tanh(a[2] + u[2]);
                        next[i] = sigmoid(a[3] + u[3]) * tanh(c[i]);
                    } else {
                        const Sized<T> z = sigmoid(a[1] + u[1]), n = tanh(a[2] + sigmoid(a[0] + u[0]) * u[2]);
                        next[i] = (Sized<T>(1) - z) * n + z * h[i];
                    }
                }
            h = next;
            for (i64 i = 0; i < state; ++i)
                expect(y[time(step) * state + i], h[i], roundings,
                       [&] { return text("y")() + " at " + list({step, i}); });
        }
        for (i64 i = 0; i < state; ++i) {
            const auto here = [&] { return text("last state")() + " at " + std::to_string(i); };
            expect(h_n[i], h[i], roundings, here);
            if (kind == Kind::LSTM) expect(c_n[i], c[i], roundings, here);
        }
    }

    const auto dy = moderate<T>(in, states), dh_n = moderate<T>(in, state), dc_n = moderate<T>(in, state);
    const unsigned have = in.byte();
    const T *up = have & 1 ? dy.get() : nullptr, *up_h = have & 2 ? dh_n.get() : nullptr;
    const T* up_c = have & 4 ? dc_n.get() : nullptr;
    const bool want_dx = have & 8;
    const Array<T> dx(in, x.size()), dh0(in, state), dc0(in, state), dw_ih(in, w_ih.size()), dw_hh(in, w_hh.size());
    const Array<T> db_ih(in, width), db_hh(in, width);
    const auto backward = [&](T* dx, T* dh0, T* dc0, T* dw_ih, T* dw_hh, T* db_ih, T* db_hh) {
        if (!want_dx) dx = nullptr;
        if (kind == Kind::RNN)
            rnn_layer_backward<T>(dx, dh0, dw_ih, dw_hh, db_ih, up, up_h, x, h0, w_ih, w_hh, y, relu, s);
        if (kind == Kind::LSTM)
            lstm_layer_backward<T>(dx, dh0, dc0, dw_ih, dw_hh, db_ih, up, up_h, up_c, x, h0, c0, w_ih, w_hh, y, gates,
                                   kept, s);
        if (kind == Kind::GRU)
            gru_layer_backward<T>(dx, dh0, dw_ih, dw_hh, db_ih, db_hh, up, up_h, x, h0, w_ih, w_hh, y, gates, kept, s);
    };
    same_on_two({&dx, &dh0, &dc0, &dw_ih, &dw_hh, &db_ih, &db_hh}, text("backward"), backward);

    std::vector<Sized<T>> dh(state), dc(state), ex(x.size()), ew_ih(w_ih.size()), ew_hh(w_hh.size()), eb_ih(width),
        eb_hh(width);
    for (i64 i = 0; i < state; ++i) dh[i] = up_h ? at(dh_n, i) : 0, dc[i] = up_c ? at(dc_n, i) : 0;
    const Sized<T> one(1);
    for (i64 step = steps; step-- > 0;) {
        std::vector<Sized<T>> dh_before(state);
        for (i64 b = 0; b < batch; ++b)
            for (i64 j = 0; j < hidden; ++j) {
                const i64 i = b * hidden + j, now = time(step) * state + i;
                const auto gate = [&](i64 k) { return at(gates, ((time(step) * batch + b) * g + k) * hidden + j); };
                const Sized<T> d = up ? dh[i] + at(dy, now) : dh[i], h = before(y, h0, step, i);
                Sized<T> da[4], du[4];  // of what x gives to the gates, and of what h gives
                if (kind == Kind::RNN) {
                    const Sized<T> out = at(y, now);
                    da[0] = du[0] = relu ? (out.value > 0 ? d : 0) : d * (one - out * out);
                } else if (kind == Kind::LSTM) {
                    const Sized<T> t = tanh(at(kept, now)), c = before(kept, c0, step, i);
                    const Sized<T> dcell = dc[i] + d * gate(3) * (one - t * t);
                    da[0] = dcell * gate(2) * gate(0) * (one - gate(0));
                    da[1] = dcell * c * gate(1) * (one - gate(1));
                    da[2] = dcell * gate(0) * (one - gate(2) * gate(2));
                    da[3] = d * t * gate(3) * (one - gate(3));
                    for (int k = 0; k < 4; ++k) du[k] = da[k];
                    dc[i] = dcell * gate(1);
                } else {
                    const Sized<T> r = gate(0), z = gate(1), n = gate(2);
                    da[2] = d * (one - z) * (one - n * n);
                    da[1] = du[1] = d * (h - n) * z * (one - z);
                    da[0] = du[0] = da[2] * at(kept, now) * r * (one - r);
                    du[2] = da[2] * r;
                    dh_before[i] = dh_before[i] + d * z;
                }
                for (i64 k = 0; k < g; ++k) {
                    const i64 row = k * hidden + j;
                    eb_ih[row] = eb_ih[row] + da[k], eb_hh[row] = eb_hh[row] + du[k];
                    for (i64 l = 0; l < inputs; ++l) {
                        const i64 from = (time(step) * batch + b) * inputs + l, to = row * inputs + l;
                        ex[from] = ex[from] + da[k] * at(w_ih, to);
                        ew_ih[to] = ew_ih[to] + da[k] * at(x, from);
                    }
                    for (i64 l = 0; l < hidden; ++l) {
                        const i64 from = b * hidden + l, to = row * hidden + l;
                        dh_before[from] = dh_before[from] + du[k] * at(w_hh, to);
                        ew_hh[to] = ew_hh[to] + du[k] * before(y, h0, step, from);
                    }
                }
            }
        dh = dh_before;
    }
    // A sum over the gates at every step, and one over time and batch or over the gates at the end.
    const double passed_on = static_cast<double>((steps + 1) * (width + 20) + steps * batch);
    const auto compare = [&](const char* what, const Array<T>& got, const std::vector<Sized<T>>& expected) {
        for (i64 i = 0; i < got.size(); ++i)
            expect(got[i], expected[static_cast<std::size_t>(i)], passed_on,
                   [&] { return text(what)() + " at " + std::to_string(i); });
    };
    if (want_dx) compare("dx", dx, ex);
    compare("dh0", dh0, dh);
    if (kind == Kind::LSTM) compare("dc0", dc0, dc);
    compare("dw_ih", dw_ih, ew_ih);
    compare("dw_hh", dw_hh, ew_hh);
    compare("db_ih", db_ih, eb_ih);
    if (kind == Kind::GRU) compare("db_hh", db_hh, eb_hh);
}

}  // namespace

void target(Input& in) { in.flag() ? layer<float>(in) : layer<double>(in); }
