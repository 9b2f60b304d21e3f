#include <cmath>
#include <limits>
#include <vector>

#include "core/kernels.h"
#include "core/parallel.h"
#include "harness.h"

using namespace glassgrad;

namespace {

template <class T>
void against_definition(double tolerance) {
    for (i64 rows : {0, 1, 3, 70})
        for (i64 cols : {0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 65, 1000}) {
            const i64 n = rows * cols;
            std::vector<T> x(n), dy(n), y(n), log_y(n), dx(n), log_dx(n), ce_dx(n), losses(rows), max(rows),
                log_sum(rows), up(rows);
            std::vector<i64> target(rows);
            for (i64 i = 0; i < n; ++i) {
                x[i] = static_cast<T>(i * 7919 % 1009) / 50 + (i / cols % 2 ? 1000 : 0);
                dy[i] = static_cast<T>(i * 104729 % 997) / 500 - 1;
            }
            for (i64 i = 0; i < rows; ++i) {
                target[i] = i % 3 == 2 || cols == 0 ? -100 : i * 31 % cols;
                up[i] = static_cast<T>(i % 5) - 2;
            }
            softmax(y.data(), x.data(), rows, cols, i64{1});
            log_softmax(log_y.data(), x.data(), rows, cols, i64{1});
            softmax_backward(dx.data(), dy.data(), y.data(), rows, cols, i64{1});
            log_softmax_backward(log_dx.data(), dy.data(), log_y.data(), rows, cols, i64{1});
            cross_entropy(losses.data(), max.data(), log_sum.data(), x.data(), target.data(), rows, cols, i64{-100},
                          Reduction::NONE);
            cross_entropy_backward(ce_dx.data(), up.data(), x.data(), max.data(), log_sum.data(), target.data(), rows,
                                   cols, i64{-100}, Reduction::NONE);
            for (i64 i = 0; i < rows; ++i) {
                double m = -std::numeric_limits<double>::infinity(), sum = 0, dot = 0, total = 0;
                for (i64 j = 0; j < cols; ++j) m = std::max(m, double(x[i * cols + j]));
                for (i64 j = 0; j < cols; ++j) sum += std::exp(x[i * cols + j] - m);
                for (i64 j = 0; j < cols; ++j) {
                    dot += dy[i * cols + j] * std::exp(x[i * cols + j] - m) / sum;
                    total += dy[i * cols + j];
                }
                for (i64 j = 0; j < cols; ++j) {
                    const i64 at = i * cols + j;
                    const double p = std::exp(x[at] - m) / sum;
                    CHECK_CLOSE(y[at], p, tolerance);
                    CHECK_CLOSE(log_y[at], x[at] - m - std::log(sum), 40 * tolerance);
                    CHECK_CLOSE(dx[at], p * (dy[at] - dot), 4 * tolerance);
                    CHECK_CLOSE(log_dx[at], dy[at] - p * total, 100 * tolerance);
                    const double expected = target[i] == -100 ? 0 : up[i] * (p - (j == target[i]));
                    CHECK_CLOSE(ce_dx[at], expected, 4 * tolerance);
                }
                const double loss = target[i] == -100 ? 0 : m - x[i * cols + target[i]] + std::log(sum);
                CHECK_CLOSE(losses[i], loss, 40 * tolerance);
            }
            T loss, mean_dx = 2;
            double total = 0, count = 0;
            for (i64 i = 0; i < rows; ++i) total += losses[i], count += target[i] != -100;
            for (const Reduction reduction : {Reduction::SUM, Reduction::MEAN}) {
                const double divisor = reduction == Reduction::MEAN ? count : 1;
                cross_entropy(&loss, max.data(), log_sum.data(), x.data(), target.data(), rows, cols, i64{-100},
                              reduction);
                CHECK(divisor == 0 ? std::isnan(loss)
                                   : std::abs(loss - total / divisor) <= 40 * tolerance * (1 + total));
                std::vector<T> one_dx(n);
                cross_entropy_backward(one_dx.data(), &mean_dx, x.data(), max.data(), log_sum.data(), target.data(),
                                       rows, cols, i64{-100}, reduction);
                for (i64 i = 0; i < n; ++i) {
                    const i64 r = i / cols;
                    if (target[r] == -100)
                        CHECK(one_dx[i] == 0);
                    else if (up[r] != 0)
                        CHECK_CLOSE(one_dx[i] * divisor, ce_dx[i] * 2 / up[r], 8 * tolerance);
                }
            }
            const auto first = y;
            for (int threads : {2, 4}) {
                set_num_threads(threads);
                softmax(y.data(), x.data(), rows, cols, i64{1});
                CHECK(y == first);
            }
            set_num_threads(1);
        }
}

/// What `kernel` makes of columns is what it makes of rows once they are copied side by side, within a tolerance and
/// `per_term` for each number of a row: sums of other order.
template <class T, class Kernel>
void columns_as_rows(T tolerance, T per_term, Kernel&& kernel) {
    for (i64 rows : {0, 1, 3})
        for (i64 cols : {0, 1, 3, 40, 5000})
            for (i64 inner : {0, 2, 8, 16, 17, 150}) {
                const i64 n = rows * cols * inner;
                std::vector<T> a(n), b(n), y(n), a_rows(n), b_rows(n), y_rows(n);
                const auto as_row = [=](i64 i) {
                    return i / (cols * inner) * cols * inner + i % inner * cols + i / inner % cols;
                };
                for (i64 i = 0; i < n; ++i) {
                    a_rows[as_row(i)] = a[i] = static_cast<T>(i * 7919 % 1009) / 50;
                    b_rows[as_row(i)] = b[i] = static_cast<T>(i * 104729 % 997) / 500 - 1;
                }
                kernel(y_rows.data(), a_rows.data(), b_rows.data(), rows * inner, cols, i64{1});
                for (int threads : {1, 4}) {
                    set_num_threads(threads);
                    kernel(y.data(), a.data(), b.data(), rows, cols, inner);
                    for (i64 i = 0; i < n; ++i) CHECK_CLOSE(y[i], y_rows[as_row(i)], tolerance + per_term * cols);
                }
                set_num_threads(1);
                kernel(b.data(), a.data(), b.data(), rows, cols, inner);  // in place
                CHECK(b == y || n == 0);
            }
}

template <class T>
void every_rung(double tolerance) {
    const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
    for (auto* rung : {softmax_naive<T>, softmax_online<T>, softmax_vectorised<T>}) {
        for (i64 rows : {0, 1, 5})
            for (i64 cols : {0, 1, 2, 15, 16, 17, 100}) {
                std::vector<T> x(rows * cols), y(x), expected(x);
                for (i64 i = 0; i < rows * cols; ++i) x[i] = static_cast<T>(i * 7919 % 1009) / 50 - 800 * (i % 7 == 3);
                softmax(expected.data(), x.data(), rows, cols, i64{1});
                rung(y.data(), x.data(), rows, cols);
                for (i64 i = 0; i < rows * cols; ++i) CHECK_CLOSE(y[i], expected[i], tolerance);
                rung(x.data(), x.data(), rows, cols);
                CHECK(x == y);
            }
        std::vector<T> x = {-inf, -inf, -inf, -inf, 0, 0, inf, 1, 2, nan, 1, 2, 1, 2, nan, 1, inf, inf}, y(x),
                       expected(x);
        rung(y.data(), x.data(), 6, 3);
        softmax(expected.data(), x.data(), i64{6}, i64{3}, i64{1});
        for (std::size_t i = 0; i < x.size(); ++i)
            CHECK(std::isnan(expected[i]) ? std::isnan(y[i]) : std::abs(y[i] - expected[i]) <= tolerance);
    }
}

}  // namespace

TEST(softmax_rungs_float) { every_rung<float>(2e-6); }
TEST(softmax_rungs_double) { every_rung<double>(1e-14); }
TEST(softmax_of_columns) {
    const auto all = []<class T>(T tolerance) {
        columns_as_rows(tolerance, T(0), [](T* y, const T*, const T* x, auto... n) { softmax(y, x, n...); });
        columns_as_rows(T(20) * tolerance, T(0),
                        [](T* y, const T*, const T* x, auto... n) { log_softmax(y, x, n...); });
        // Backward adds terms of up to 20, which cancel: half a rounding of 10 for each.
        const T per_term = 5 * std::numeric_limits<T>::epsilon();
        columns_as_rows(T(20) * tolerance, per_term,
                        [](T* dx, const T* dy, const T* y, auto... n) { softmax_backward(dx, dy, y, n...); });
        columns_as_rows(T(20) * tolerance, per_term,
                        [](T* dx, const T* dy, const T* y, auto... n) { log_softmax_backward(dx, dy, y, n...); });
    };
    all(1e-6f);
    all(1e-14);
}
TEST(softmax_definition_float) { against_definition<float>(1e-6); }
TEST(softmax_definition_double) { against_definition<double>(1e-14); }
TEST(softmax_infinities) {
    const float inf = std::numeric_limits<float>::infinity();
    std::vector<float> x = {-inf, -inf, -inf, -inf, 0, 0}, y(6);
    softmax(y.data(), x.data(), i64{2}, i64{3}, i64{1});
    CHECK(std::isnan(y[0]) && std::isnan(y[2]));
    CHECK(y[3] == 0 && y[4] == 0.5f && y[5] == 0.5f);
}
