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
            softmax(y.data(), x.data(), rows, cols);
            log_softmax(log_y.data(), x.data(), rows, cols);
            softmax_backward(dx.data(), dy.data(), y.data(), rows, cols);
            log_softmax_backward(log_dx.data(), dy.data(), log_y.data(), rows, cols);
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
                softmax(y.data(), x.data(), rows, cols);
                CHECK(y == first);
            }
            set_num_threads(1);
        }
}

}  // namespace

TEST(softmax_definition_float) { against_definition<float>(1e-6); }
TEST(softmax_definition_double) { against_definition<double>(1e-14); }
TEST(softmax_infinities) {
    const float inf = std::numeric_limits<float>::infinity();
    std::vector<float> x = {-inf, -inf, -inf, -inf, 0, 0}, y(6);
    softmax(y.data(), x.data(), i64{2}, i64{3});
    CHECK(std::isnan(y[0]) && std::isnan(y[2]));
    CHECK(y[3] == 0 && y[4] == 0.5f && y[5] == 0.5f);
}
