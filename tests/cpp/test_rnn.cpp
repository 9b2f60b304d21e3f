#include <cmath>
#include <vector>

#include "core/kernels.h"
#include "core/parallel.h"
#include "harness.h"

using namespace glassgrad;

namespace {

/// A buffer of exactly n numbers: the address sanitizer sees what is read or written beyond.
template <class T>
std::vector<T> numbers(i64 n, double scale, i64 seed) {
    std::vector<T> v(static_cast<std::size_t>(n));
    for (i64 i = 0; i < n; ++i)
        v[static_cast<std::size_t>(i)] = static_cast<T>(scale * std::sin(0.7 * (i + seed) * (i % 5 + 1)));
    return v;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

enum class Kind { RNN, LSTM, GRU };
constexpr i64 gates_of(Kind kind) { return kind == Kind::RNN ? 1 : kind == Kind::LSTM ? 4 : 3; }

template <class T>
struct Layer {
    Kind kind;
    RecurrentShape s;
    i64 width = gates_of(kind) * s.hidden, states = s.steps * s.batch * s.hidden, state = s.batch * s.hidden;
    std::vector<T> x = numbers<T>(s.steps * s.batch * s.inputs, 1, 1);
    std::vector<T> h0 = numbers<T>(state, 0.9, 2), c0 = numbers<T>(state, 0.9, 3);
    std::vector<T> w_ih = numbers<T>(width * s.inputs, 0.4, 4), w_hh = numbers<T>(width * s.hidden, 0.2, 5);
    std::vector<T> b_ih = numbers<T>(width, 0.3, 6), b_hh = numbers<T>(width, 0.3, 7);
    std::vector<T> y = std::vector<T>(states), h_n = std::vector<T>(state), c_n = std::vector<T>(state);
    std::vector<T> gates = std::vector<T>(states * gates_of(kind)), extra = std::vector<T>(states);

    void forward(bool bias = true, bool saves = true) {
        T *kept = saves ? gates.data() : nullptr, *more = saves ? extra.data() : nullptr;
        const T *bi = bias ? b_ih.data() : nullptr, *bh = bias ? b_hh.data() : nullptr;
        if (kind == Kind::RNN)
            rnn_layer(y.data(), h_n.data(), x.data(), h0.data(), w_ih.data(), w_hh.data(), bi, bh, false, s);
        else if (kind == Kind::LSTM)
            lstm_layer(y.data(), h_n.data(), c_n.data(), kept, more, x.data(), h0.data(), c0.data(), w_ih.data(),
                       w_hh.data(), bi, bh, s);
        else
            gru_layer(y.data(), h_n.data(), kept, more, x.data(), h0.data(), w_ih.data(), w_hh.data(), bi, bh, s);
    }

    /// dx, dh0, dc0, dw_ih, dw_hh, db_ih, db_hh of sum(dy y) + sum(dh_n h_n) + sum(dc_n c_n).
    std::vector<std::vector<T>> backward() const {
        const auto unwritten = [](const std::vector<T>& like) { return std::vector<T>(like.size(), T(77)); };
        auto dx = unwritten(x), dh0 = unwritten(h0), dc0 = unwritten(c0), dw_ih = unwritten(w_ih);
        auto dw_hh = unwritten(w_hh), db_ih = unwritten(b_ih), db_hh = unwritten(b_hh);
        const auto dy = numbers<T>(states, 1, 8), dh_n = numbers<T>(state, 1, 9), dc_n = numbers<T>(state, 1, 10);
        if (kind == Kind::RNN)
            rnn_layer_backward(dx.data(), dh0.data(), dw_ih.data(), dw_hh.data(), db_ih.data(), dy.data(), dh_n.data(),
                               x.data(), h0.data(), w_ih.data(), w_hh.data(), y.data(), false, s);
        else if (kind == Kind::LSTM)
            lstm_layer_backward(dx.data(), dh0.data(), dc0.data(), dw_ih.data(), dw_hh.data(), db_ih.data(), dy.data(),
                                dh_n.data(), dc_n.data(), x.data(), h0.data(), c0.data(), w_ih.data(), w_hh.data(),
                                y.data(), gates.data(), extra.data(), s);
        else
            gru_layer_backward(dx.data(), dh0.data(), dw_ih.data(), dw_hh.data(), db_ih.data(), db_hh.data(), dy.data(),
                               dh_n.data(), x.data(), h0.data(), w_ih.data(), w_hh.data(), y.data(), gates.data(),
                               extra.data(), s);
        return {dx, dh0, dc0, dw_ih, dw_hh, db_ih, db_hh};
    }

    double loss() {
        forward();
        const auto dy = numbers<T>(states, 1, 8), dh_n = numbers<T>(state, 1, 9), dc_n = numbers<T>(state, 1, 10);
        double sum = 0;
        for (std::size_t i = 0; i < y.size(); ++i) sum += static_cast<double>(dy[i]) * y[i];
        for (std::size_t i = 0; i < h_n.size(); ++i) sum += static_cast<double>(dh_n[i]) * h_n[i];
        if (kind == Kind::LSTM)
            for (std::size_t i = 0; i < c_n.size(); ++i) sum += static_cast<double>(dc_n[i]) * c_n[i];
        return sum;
    }

    /// y by the definition, one number after the other.
    std::vector<double> defined(bool bias) const {
        std::vector<double> out(y.size()), h(h0.begin(), h0.end()), c(c0.begin(), c0.end());
        for (i64 step = 0; step < s.steps; ++step) {
            const i64 t = s.reverse ? s.steps - 1 - step : step;
            std::vector<double> next = h;
            for (i64 b = 0; b < s.batch; ++b)
                for (i64 j = 0; j < s.hidden; ++j) {
                    double a[4] = {}, u[4] = {};
                    for (i64 g = 0; g < gates_of(kind); ++g) {
                        const i64 row = g * s.hidden + j;
                        if (bias) a[g] = b_ih[row], u[g] = b_hh[row];
                        for (i64 l = 0; l < s.inputs; ++l)
                            a[g] += static_cast<double>(w_ih[row * s.inputs + l]) * x[(t * s.batch + b) * s.inputs + l];
                        for (i64 l = 0; l < s.hidden; ++l)
                            u[g] += static_cast<double>(w_hh[row * s.hidden + l]) * h[b * s.hidden + l];
                    }
                    double &state = next[b * s.hidden + j], &cell = c[b * s.hidden + j];
                    if (kind == Kind::RNN) {
                        state = std::tanh(a[0] + u[0]);
                    } else if (kind == Kind::LSTM) {
                        cell = sigmoid(a[1] + u[1]) * cell + sigmoid(a[0] + u[0]) * std::tanh(a[2] + u[2]);
                        state = sigmoid(a[3] + u[3]) * std::tanh(cell);
                    } else {
                        const double z = sigmoid(a[1] + u[1]);
                        state = (1 - z) * std::tanh(a[2] + sigmoid(a[0] + u[0]) * u[2]) + z * state;
                    }
                    out[(t * s.batch + b) * s.hidden + j] = state;
                }
            h = next;
        }
        return out;
    }
};

template <class T>
void against_definition(double tolerance) {
    for (Kind kind : {Kind::RNN, Kind::LSTM, Kind::GRU})
        for (i64 steps : {0, 1, 3})
            for (i64 batch : {0, 1, 2, 7, 33})
                for (i64 inputs : {0, 1, 5})
                    for (i64 hidden : {0, 1, 3, 8, 16, 17, 33}) {
                        Layer<T> layer{kind, {steps, batch, inputs, hidden, batch % 2 == 1}};
                        for (bool bias : {false, true}) {
                            layer.forward(bias);
                            const auto expected = layer.defined(bias);
                            for (std::size_t i = 0; i < expected.size(); ++i)
                                CHECK_CLOSE(layer.y[i], expected[i], tolerance);
                        }
                        layer.backward();  // within its buffers
                        const auto y = layer.y, c_n = layer.c_n;
                        layer.forward(true, false);
                        CHECK(layer.y == y && layer.c_n == c_n);
                    }
}

}  // namespace

TEST(rnn_definition_float) { against_definition<float>(2e-6); }
TEST(rnn_definition_double) { against_definition<double>(1e-14); }
TEST(rnn_threads) {  // enough work for each row that the batch is split
    for (Kind kind : {Kind::RNN, Kind::LSTM, Kind::GRU}) {
        Layer<float> layer{kind, {60, 37, 50, 50, true}};
        layer.forward();
        const auto y = layer.y;
        const auto gradients = layer.backward();
        for (int threads : {2, 3, 8}) {
            set_num_threads(threads);
            layer.forward();
            CHECK(layer.y == y);
            CHECK(layer.backward() == gradients);
        }
        set_num_threads(1);
    }
}
TEST(rnn_many_terms) {  // more than one block of terms, in either pass
    for (Kind kind : {Kind::RNN, Kind::LSTM, Kind::GRU}) {
        Layer<double> layer{kind, {2, 3, 300, 290, false}};
        layer.forward();
        const auto expected = layer.defined(true);
        for (std::size_t i = 0; i < expected.size(); ++i) CHECK_CLOSE(layer.y[i], expected[i], 1e-12);
    }
}
TEST(rnn_gradients) {
    for (Kind kind : {Kind::RNN, Kind::LSTM, Kind::GRU})
        for (bool reverse : {false, true})
            for (i64 hidden : {3, 9}) {
                Layer<double> layer{kind, {4, 3, 2, hidden, reverse}};
                layer.forward();
                const auto gradients = layer.backward();
                std::vector<double>* inputs[] = {&layer.x,    &layer.h0,   &layer.c0,  &layer.w_ih,
                                                 &layer.w_hh, &layer.b_ih, &layer.b_hh};
                for (int k = 0; k < 7; ++k) {
                    if ((k == 2 && kind != Kind::LSTM) || (k == 6 && kind != Kind::GRU)) continue;
                    for (std::size_t i = 0; i < inputs[k]->size(); ++i) {
                        double& at = (*inputs[k])[i];
                        const double kept = at, step = 1e-6;
                        at = kept + step;
                        const double above = layer.loss();
                        at = kept - step;
                        const double below = layer.loss();
                        at = kept;
                        CHECK_CLOSE(gradients[k][i], (above - below) / (2 * step), 1e-7);
                    }
                }
            }
}
TEST(rnn_without_hidden_units_or_batch_has_gradients_of_zero) {
    for (Kind kind : {Kind::RNN, Kind::LSTM, Kind::GRU})
        for (const RecurrentShape& s : {RecurrentShape{3, 2, 4, 0, false}, RecurrentShape{3, 0, 4, 5, false}}) {
            Layer<float> layer{kind, s};
            layer.forward();
            const auto gradients = layer.backward();
            for (int k = 0; k < 7; ++k)
                if ((k != 2 || kind == Kind::LSTM) && (k != 6 || kind == Kind::GRU))
                    for (float d : gradients[k]) CHECK(d == 0);
        }
}
TEST(rnn_absent_gradients_are_zeros) {
    Layer<float> layer{Kind::LSTM, {3, 2, 4, 5, false}};
    layer.forward();
    std::vector<float> zeros(layer.states), none(layer.state), dy = numbers<float>(layer.states, 1, 8);
    const auto run = [&](const float* dy, const float* dh_n, const float* dc_n) {
        std::vector<float> dh0(layer.state), dc0(layer.state), dw_ih(layer.w_ih.size()), dw_hh(layer.w_hh.size());
        std::vector<float> db(layer.width);
        lstm_layer_backward(static_cast<float*>(nullptr), dh0.data(), dc0.data(), dw_ih.data(), dw_hh.data(), db.data(),
                            dy, dh_n, dc_n, layer.x.data(), layer.h0.data(), layer.c0.data(), layer.w_ih.data(),
                            layer.w_hh.data(), layer.y.data(), layer.gates.data(), layer.extra.data(), layer.s);
        return std::vector<std::vector<float>>{dh0, dc0, dw_ih, dw_hh, db};
    };
    CHECK(run(dy.data(), nullptr, nullptr) == run(dy.data(), none.data(), none.data()));
    CHECK(run(nullptr, dy.data(), nullptr) == run(zeros.data(), dy.data(), none.data()));
}
