// Kernels large enough to be shared out: ThreadSanitizer runs these, with all tests whose names hold "threads".
#include <cstring>
#include <vector>

#include "core/kernels.h"
#include "core/parallel.h"
#include "harness.h"

using namespace glassgrad;

namespace {

using Floats = std::vector<float>;

Floats numbers(i64 n) {
    Floats x(static_cast<std::size_t>(n));
    for (i64 i = 0; i < n; ++i) x[static_cast<std::size_t>(i)] = static_cast<float>(i * 7919 % 1009) / 504 - 1;
    return x;
}
/// kernel(y) on one thread, then on four: the same bits.
template <class Kernel>
void same_on_four(i64 n, Kernel&& kernel) {
    Floats one(static_cast<std::size_t>(n)), four(one.size());
    set_num_threads(1);
    kernel(one.data());
    set_num_threads(4);
    for (int round = 0; round < 3; ++round) {
        kernel(four.data());
        CHECK(std::memcmp(one.data(), four.data(), one.size() * sizeof(float)) == 0);
    }
    set_num_threads(1);
}

}  // namespace

TEST(threads_share_softmax) {
    const i64 rows = 200, cols = 501;
    const Floats x = numbers(rows * cols), dy = numbers(rows * cols);
    same_on_four(rows * cols, [&](float* y) { softmax(y, x.data(), rows, cols, 1); });
    same_on_four(rows * cols, [&](float* dx) { softmax_backward(dx, dy.data(), x.data(), rows, cols, 1); });
}
TEST(threads_share_conv2d) {
    const Conv2dShape s{4, 24, 20, 21, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1, 20, 21};
    const Floats x = numbers(s.n * s.c * s.h * s.w), w = numbers(s.k * s.c * 9), dy = numbers(s.n * s.k * s.oh * s.ow);
    const i64 inputs = static_cast<i64>(x.size()), weights = static_cast<i64>(w.size());
    same_on_four(static_cast<i64>(dy.size()), [&](float* y) { conv2d<float>(y, x.data(), w.data(), nullptr, s); });
    same_on_four(inputs, [&](float* dx) { conv2d_backward_input(dx, dy.data(), w.data(), s); });
    same_on_four(weights, [&](float* dw) { conv2d_backward_weight(dw, dy.data(), x.data(), s); });
}
TEST(threads_share_layer_norm) {
    const i64 rows = 300, cols = 501;
    const Floats x = numbers(rows * cols), dy = numbers(rows * cols), weight = numbers(cols);
    Floats mean(rows), rstd(rows), dweight(cols), dbias(cols), dx(x.size());
    same_on_four(rows * cols, [&](float* y) {
        layer_norm(y, mean.data(), rstd.data(), x.data(), weight.data(), weight.data(), rows, cols, 1e-5);
    });
    same_on_four(cols, [&](float* dw) {
        layer_norm_backward(dx.data(), dw, dbias.data(), dy.data(), x.data(), weight.data(), mean.data(), rstd.data(),
                            rows, cols);
    });
}
TEST(threads_share_sum) {
    const Floats x = numbers(400 * 701);
    const View<const float> view{x.data(), 2, {400, 701}, {701, 1}};
    for (Axes axes : {1u, 2u, 3u})
        same_on_four(axes == 1 ? 701 : axes == 2 ? 400 : 1, [&](float* y) { sum(y, view, axes); });
}
