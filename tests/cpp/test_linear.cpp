#include <array>
#include <limits>
#include <vector>

#include "core/kernels.h"
#include "core/parallel.h"
#include "harness.h"

using namespace glassgrad;

namespace {

/// A buffer of exactly n numbers in [-1, 1): the address sanitizer sees what is read or written beyond.
template <class T>
std::vector<T> numbers(i64 n, i64 seed) {
    std::vector<T> v(static_cast<std::size_t>(n));
    for (i64 i = 0; i < n; ++i) v[static_cast<std::size_t>(i)] = static_cast<T>((i + 1) * seed % 1009) / 505 - 1;
    return v;
}

template <class T>
struct Layer {
    i64 rows, in, out;
    std::vector<T> dy = numbers<T>(rows * out, 7919), x = numbers<T>(rows * in, 104729), w = numbers<T>(out * in, 6007);
    std::vector<T> dx = std::vector<T>(x.size(), T(77)), dw = std::vector<T>(w.size(), T(77)), db = bias();

    std::vector<T> bias() const { return std::vector<T>(static_cast<std::size_t>(out), T(77)); }
    void backward(bool want_dx = true, bool want_dw = true, bool want_db = true) {
        linear_backward(want_dx ? dx.data() : nullptr, want_dw ? dw.data() : nullptr, want_db ? db.data() : nullptr,
                        dy.data(), x.data(), w.data(), rows, in, out);
    }
    void check(double tolerance) const {
        std::vector<double> dx_sum(dx.size()), dw_sum(dw.size()), db_sum(db.size());
        for (i64 r = 0; r < rows; ++r)
            for (i64 o = 0; o < out; ++o) {
                const double d = dy[r * out + o];
                db_sum[o] += d;
                for (i64 i = 0; i < in; ++i) dx_sum[r * in + i] += d * w[o * in + i];
                for (i64 i = 0; i < in; ++i) dw_sum[o * in + i] += d * x[r * in + i];
            }
        for (std::size_t i = 0; i < dx.size(); ++i) CHECK_CLOSE(dx[i], dx_sum[i], tolerance * (1 + out));
        for (std::size_t i = 0; i < dw.size(); ++i) CHECK_CLOSE(dw[i], dw_sum[i], tolerance * (1 + rows));
        for (std::size_t i = 0; i < db.size(); ++i) CHECK_CLOSE(db[i], db_sum[i], tolerance * (1 + rows));
    }
};

/// The tolerance: a rounding for each term, of sums of numbers below 1.
template <class T>
void against_definition(double rounding) {
    for (i64 rows : {0, 1, 2, 7, 33, 130})
        for (i64 in : {0, 1, 3, 16, 65})
            for (i64 out : {0, 1, 5, 17, 48}) {
                Layer<T> layer{rows, in, out};
                layer.backward();
                layer.check(rounding);
                for (int wanted = 0; wanted < 8; ++wanted) {
                    const bool dx = wanted & 1, dw = wanted & 2, db = wanted & 4;
                    Layer<T> some{rows, in, out};
                    const auto untouched = some;
                    some.backward(dx, dw, db);
                    CHECK(some.dx == (dx ? layer.dx : untouched.dx));
                    CHECK(some.dw == (dw ? layer.dw : untouched.dw));
                    CHECK(some.db == (db ? layer.db : untouched.db));
                }
            }
}

}  // namespace

TEST(linear_backward_definition_float) { against_definition<float>(1e-7); }
TEST(linear_backward_definition_double) { against_definition<double>(2e-16); }
TEST(linear_backward_threads) {  // enough work that every one of the three is shared out
    Layer<float> one{700, 190, 170};
    one.backward();
    one.check(1e-7);
    for (int threads : {2, 3, 8}) {
        set_num_threads(threads);
        Layer<float> many{700, 190, 170};
        many.backward();
        CHECK(many.dx == one.dx && many.dw == one.dw && many.db == one.db);
    }
    set_num_threads(1);
}

namespace {

/// What relu makes of a product, and of the gradients: the same bits as in two steps.
template <class T>
void relu_in_two_steps() {
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    // rows, in, out: few rows, tiles with edges, no sums, k in several passes, and k cut into parts
    const std::vector<std::array<i64, 3>> shapes{{0, 3, 2},    {2, 0, 3},      {1, 5, 9},
                                                 {33, 17, 70}, {20, 1100, 40}, {8, 100000, 8}};
    for (const auto& [rows, in, out] : shapes)
        for (bool biased : {false, true}) {
            Layer<T> layer{rows, in, out};
            if (rows * in > 4) layer.x[static_cast<std::size_t>(rows * in) - 1] = nan;
            const std::vector<T> b = numbers<T>(out, 31);
            const T* bias = biased ? b.data() : nullptr;
            const MatmulShape s{rows, out, in, in, 1, 1, in};
            std::vector<T> y(static_cast<std::size_t>(rows * out)), expected(y.size());
            matmul_relu(y.data(), layer.x.data(), layer.w.data(), bias, s);
            matmul(expected.data(), layer.x.data(), layer.w.data(), bias, s);
            for (std::size_t i = 0; i < y.size(); ++i) {
                if (expected[i] < 0) expected[i] = 0;
                CHECK(y[i] == expected[i] || (y[i] != y[i] && expected[i] != expected[i]));
            }
            Layer<T> masked = layer;
            for (std::size_t i = 0; i < y.size(); ++i)
                if (!(y[i] > 0)) masked.dy[i] *= 0;
            masked.x = layer.x = numbers<T>(rows * in, 104729);
            masked.backward();
            linear_relu_backward(layer.dx.data(), layer.dw.data(), layer.db.data(), layer.dy.data(), y.data(),
                                 layer.x.data(), layer.w.data(), rows, in, out);
            CHECK(layer.dx == masked.dx && layer.dw == masked.dw && layer.db == masked.db);
        }
}

}  // namespace

TEST(linear_relu_in_two_steps_float) { relu_in_two_steps<float>(); }
TEST(linear_relu_in_two_steps_double) { relu_in_two_steps<double>(); }
