// The ceiling of the ladder: multiply-adds of numbers that never leave the registers.
//
// Sums in flight: 2 multipliers * 4 cycles of latency = 8 (5 cycles on some CPUs: 10); 12 leave room. They are unrolled
// 4 times, so that counting costs 2 of 50 instructions.
#include <algorithm>
#include <chrono>

#include "core/kernels.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace glassgrad {

namespace {

constexpr int SUMS = 12, UNROLL = 4;

/// `steps` rounds of UNROLL * SUMS vector multiply-adds. Not inlined: in its own function the sums stay in registers.
template <class T>
__attribute__((noinline)) void multiply_add(Vec<T>& result, i64 steps) {
    Vec<T> sum[SUMS], factor = broadcast(T(0.999)), term = broadcast(T(1e-3));
#pragma GCC unroll 12
    for (int i = 0; i < SUMS; ++i) sum[i] = broadcast(static_cast<T>(i));
    for (i64 step = 0; step < steps; ++step)
#pragma GCC unroll 4
        for (int u = 0; u < UNROLL; ++u)
#pragma GCC unroll 12
            for (int i = 0; i < SUMS; ++i) sum[i] = sum[i] * factor + term;
    result = sum[0];
#pragma GCC unroll 12
    for (int i = 1; i < SUMS; ++i) result += sum[i];
}

}  // namespace

template <class T>
double fma_ceiling(double seconds) {
    using Clock = std::chrono::steady_clock;
    const auto elapsed = [](Clock::time_point from) {
        return std::chrono::duration<double>(Clock::now() - from).count();
    };
    constexpr i64 STEPS =
        150'000;  // 7.2 million vector multiply-adds, 1 ms and more: shorter bursts run at clocks that do not last
    const auto start = Clock::now();
    double best = 0;
    do {
        Vec<T> result;
        const auto from = Clock::now();
        multiply_add<T>(result, STEPS);
        const double flops = 2.0 * W<T> * SUMS * UNROLL * STEPS;
        best = std::max(best, flops / elapsed(from) * 1e-9);
        [[maybe_unused]] const volatile T used = result[0];  // or the loop could be left out
        poll_interrupt();
    } while (elapsed(start) < seconds);
    return best;
}

#define INSTANTIATE(T) template double fma_ceiling<T>(double);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
