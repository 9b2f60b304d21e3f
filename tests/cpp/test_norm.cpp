#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "core/kernels.h"
#include "core/parallel.h"
#include "harness.h"

using namespace glassgrad;

namespace {

// Normalises over the group of every element: g(i) is its statistic's number, p(i) its parameter's.
template <class T, class G, class P, class Forward, class Backward>
void against_definition(i64 n, i64 groups, i64 parameters, G&& g, P&& p, Forward&& forward, Backward&& backward,
                        double tolerance) {
    std::vector<T> x(n), dy(n), w(parameters), b(parameters), y(n), dx(n), mean(groups), rstd(groups), dw(parameters),
        db(parameters);
    for (i64 i = 0; i < n; ++i) {
        x[i] = static_cast<T>(i * 7919 % 1009) / 100 + 50;
        dy[i] = static_cast<T>(i * 104729 % 997) / 500 - 1;
    }
    for (i64 j = 0; j < parameters; ++j) w[j] = static_cast<T>(j % 7) / 4 - 1, b[j] = static_cast<T>(j % 5);
    for (bool affine : {true, false}) {
        const T* wp = affine ? w.data() : nullptr;
        const T* bp = affine ? b.data() : nullptr;
        std::vector<double> count(groups), m(groups), v(groups), g1(groups), g2(groups), ew(parameters), eb(parameters);
        for (i64 i = 0; i < n; ++i) count[g(i)] += 1, m[g(i)] += x[i];
        for (i64 i = 0; i < groups; ++i) m[i] /= count[i];
        for (i64 i = 0; i < n; ++i) v[g(i)] += (x[i] - m[g(i)]) * (x[i] - m[g(i)]) / count[g(i)];
        const auto r = [&](i64 i) { return 1 / std::sqrt(v[g(i)] + 1e-3); };
        const auto h = [&](i64 i) { return (x[i] - m[g(i)]) * r(i); };
        const auto d = [&](i64 i) { return affine ? double(dy[i]) * w[p(i)] : double(dy[i]); };
        for (i64 i = 0; i < n; ++i) {
            g1[g(i)] += d(i) / count[g(i)];
            g2[g(i)] += d(i) * h(i) / count[g(i)];
            ew[p(i)] += dy[i] * h(i);
            eb[p(i)] += dy[i];
        }
        std::vector<T> first_dx, first_dw, first_y;
        for (int threads : {1, 2, 4}) {
            set_num_threads(threads);
            forward(y.data(), mean.data(), rstd.data(), x.data(), wp, bp);
            backward(dx.data(), dw.data(), db.data(), dy.data(), x.data(), wp, mean.data(), rstd.data());
            if (threads == 1) first_dx = dx, first_dw = dw, first_y = y;
            CHECK(dx == first_dx && dw == first_dw && y == first_y);
        }
        set_num_threads(1);
        for (i64 i = 0; i < n; ++i) {
            CHECK_CLOSE(y[i], affine ? h(i) * w[p(i)] + b[p(i)] : h(i), 100 * tolerance * (1 + r(i)));
            CHECK_CLOSE(dx[i], r(i) * (d(i) - g1[g(i)] - h(i) * g2[g(i)]), 100 * tolerance * (1 + r(i) * r(i)));
        }
        for (i64 j = 0; j < parameters; ++j) {
            const double size = static_cast<double>(n) / static_cast<double>(parameters);
            CHECK_CLOSE(dw[j], ew[j], 100 * tolerance * (1 + size));
            CHECK_CLOSE(db[j], eb[j], 10 * tolerance * (1 + size));
        }
    }
}

template <class T>
void layer_norms(double tolerance) {
    for (i64 rows : {0, 1, 5, 300})
        for (i64 cols : {1, 2, 7, 16, 33, 1025})
            against_definition<T>(
                rows * cols, rows, cols, [=](i64 i) { return i / cols; }, [=](i64 i) { return i % cols; },
                [=](auto... a) { layer_norm(a..., rows, cols, 1e-3); },
                [=](auto... a) { layer_norm_backward(a..., rows, cols); }, tolerance);
}
template <class T>
void batch_norms(double tolerance) {
    for (i64 n : {1, 3, 70})
        for (i64 c : {0, 1, 3, 65, 130})
            for (i64 spatial : {1, 2, 35, 1500}) {
                if (n * c * spatial > 200000) continue;
                const auto channel = [=](i64 i) { return i / spatial % c; };
                against_definition<T>(
                    n * c * spatial, c, c, channel, channel, [=](auto... a) { batch_norm(a..., n, c, spatial, 1e-3); },
                    [=](auto... a) { batch_norm_backward(a..., n, c, spatial); }, tolerance);
            }
}

}  // namespace

TEST(layer_norm_definition_float) { layer_norms<float>(4e-6); }
TEST(layer_norm_definition_double) { layer_norms<double>(1e-14); }
TEST(batch_norm_definition_float) { batch_norms<float>(4e-6); }
TEST(batch_norm_definition_double) { batch_norms<double>(1e-14); }
TEST(batch_norm_of_no_elements) {
    for (const auto& [n, spatial] : {std::pair<i64, i64>{0, 5}, {3, 0}, {0, 1}}) {
        float mean[2], rstd[2], dw[2] = {7, 7}, db[2] = {7, 7}, *none = nullptr;
        batch_norm(none, mean, rstd, none, none, none, n, i64{2}, spatial, 1e-5);
        CHECK(std::isnan(mean[0]) && std::isnan(rstd[1]));
        batch_norm_backward(none, dw, db, none, none, none, mean, rstd, n, i64{2}, spatial);
        CHECK(dw[0] == 0 && dw[1] == 0 && db[0] == 0 && db[1] == 0);
    }
}
TEST(batch_norm_eval_uses_what_it_is_given) {
    const float x[] = {1, 2, 3, 4}, mean[] = {1, 3}, var[] = {4, 0.25f}, w[] = {2, 1}, b[] = {0, 1};
    float y[4];
    batch_norm_eval(y, x, w, b, mean, var, i64{1}, i64{2}, i64{2}, 0.0);
    CHECK(y[0] == 0 && y[1] == 1 && y[2] == 1 && y[3] == 3);
}
TEST(batch_norm_of_an_infinity) {
    std::vector<float> x{1, -std::numeric_limits<float>::infinity(), 2, 3, 5, 4}, y(6), mean(2), rstd(2);
    const float* none = nullptr;
    batch_norm(y.data(), mean.data(), rstd.data(), x.data(), none, none, 3, 2, 1, 1e-5);
    CHECK_CLOSE(mean[0], 8.0 / 3, 1e-6);
    CHECK(mean[1] == -std::numeric_limits<float>::infinity());
    CHECK(rstd[1] != rstd[1]);
}
