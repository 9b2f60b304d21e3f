// Runs one kernel of the list, named by the argument; without one, prints the names. benchmarks/instructions.py counts
// the instructions between the beginning and the end of `counted`, under callgrind.
#include <cstdio>
#include <cstring>
#include <functional>
#include <vector>

#include "core/kernels.h"
#include "core/parallel.h"

using namespace glassgrad;

/// The name that callgrind looks for. The first call, which allocates, goes another way.
extern "C" __attribute__((noinline)) void counted(const std::function<void()>& kernel) { kernel(); }

namespace {

/// n numbers between -1 and 1, the same in every run.
std::vector<float> numbers(i64 n) {
    std::vector<float> x(static_cast<std::size_t>(n));
    unsigned state = 1;
    for (float& e : x) e = static_cast<float>(static_cast<int>(state = state * 1664525u + 1013904223u)) / 2147483648.0f;
    return x;
}

struct Kernel {
    const char* name;
    std::function<void()> run;
};

Kernel product(const char* name, i64 m, i64 n, i64 k) {
    return {name, [=, a = numbers(m * k), b = numbers(k * n), c = numbers(m * n)]() mutable {
                matmul(c.data(), a.data(), b.data(), static_cast<float*>(nullptr), {m, n, k, k, 1, n, 1});
            }};
}

std::vector<Kernel> kernels() {
    constexpr i64 ROWS = 64, COLS = 130, N = ROWS * COLS;
    constexpr Conv2dShape IMAGE{2, 16, 14, 14, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 14, 14};
    const auto image = numbers(2 * 16 * 14 * 14), weight = numbers(16 * 16 * 9), x = numbers(N), row = numbers(COLS);
    return {
        product("matmul 64 x 64 x 64", 64, 64, 64),
        product("matmul 67 x 45 x 129", 67, 45, 129),
        product("matmul 1 x 512 x 256", 1, 512, 256),
        {"conv2d 3x3, 16 to 16 channels",
         [=, y = image]() mutable {
             conv2d(y.data(), image.data(), weight.data(), static_cast<float*>(nullptr), IMAGE);
         }},
        {"conv2d_backward_input 3x3",
         [=, dx = image]() mutable { conv2d_backward_input(dx.data(), image.data(), weight.data(), IMAGE); }},
        {"conv2d_backward_weight 3x3",
         [=, dw = weight]() mutable { conv2d_backward_weight(dw.data(), image.data(), image.data(), IMAGE); }},
        {"softmax 64 x 130", [=, y = x]() mutable { softmax(y.data(), x.data(), ROWS, COLS); }},
        {"log_softmax 64 x 130", [=, y = x]() mutable { log_softmax(y.data(), x.data(), ROWS, COLS); }},
        {"layer_norm 64 x 130",
         [=, y = x, mean = row, rstd = row]() mutable {
             layer_norm(y.data(), mean.data(), rstd.data(), x.data(), row.data(), row.data(), ROWS, COLS, 1e-5);
         }},
        {"adam_step 8320",
         [=, p = x, m = x, v = std::vector<float>(N, 1.0f)]() mutable {
             const AdamParameter<float> parameter{p.data(), x.data(), m.data(), v.data(), nullptr, N, 1};
             adam_step(&parameter, 1, {1e-3, 0.9, 0.999, 1e-8, 0.01, true, false});
         }},
    };
}

}  // namespace

int main(int argc, char** argv) {
    set_num_threads(1);
    for (const Kernel& kernel : kernels()) {
        if (argc < 2) std::puts(kernel.name);
        if (argc > 1 && !std::strcmp(argv[1], kernel.name)) {
            kernel.run();
            counted(kernel.run);
            return 0;
        }
    }
    return argc > 1;
}
