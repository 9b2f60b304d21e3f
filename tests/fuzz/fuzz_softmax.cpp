// softmax, log_softmax and cross_entropy with their gradients, against the formulas in wider arithmetic.
//
// exp(x - m) inherits |x - m| roundings from its argument; a sum of cols terms adds cols of its own.
#include "fuzz.h"

using namespace fuzz;
using namespace glassgrad;

namespace {

template <class T>
void rows(Input& in) {
    i64 rows = in.size(600), cols = in.size(2000);
    limit(in.byte() % 16 ? 1500 : 40000, {&rows, &cols});  // a large one is shared out
    const i64 n = rows * cols;
    const auto text = [&](const char* op) { return [=] { return op + list({rows, cols}); }; };
    const auto x = numbers<T>(in, n), dy = numbers<T>(in, n, true), dlosses = numbers<T>(in, rows, true);
    Array<i64> target(in, rows);
    const i64 ignored = in.flag() ? -100 : 0;
    for (i64 i = 0; i < rows; ++i) target[i] = cols == 0 || in.byte() % 4 == 0 ? ignored : in.byte() % cols;

    const auto y = output<T>(in, n, text("softmax"), [&](T* y) { softmax(y, x.get(), rows, cols); });
    const auto log_y = output<T>(in, n, text("log_softmax"), [&](T* y) { log_softmax(y, x.get(), rows, cols); });
    const auto dx =
        output<T>(in, n, text("softmax_backward"), [&](T* dx) { softmax_backward(dx, dy.get(), y.get(), rows, cols); });
    const auto log_dx = output<T>(in, n, text("log_softmax_backward"),
                                  [&](T* dx) { log_softmax_backward(dx, dy.get(), log_y.get(), rows, cols); });
    const Array<T> losses(in, rows), again = losses.twin(), lse(in, rows), lse_again = lse.twin();
    one_thread_then_two(
        [&] { cross_entropy(losses.get(), lse.get(), x.get(), target.get(), rows, cols, ignored); },
        [&] { cross_entropy(again.get(), lse_again.get(), x.get(), target.get(), rows, cols, ignored); });
    expect_same_bits(losses, again, text("cross_entropy"));
    expect_same_bits(lse, lse_again, text("cross_entropy"));
    const auto ce_dx = output<T>(in, n, text("cross_entropy_backward"), [&](T* dx) {
        cross_entropy_backward(dx, dlosses.get(), x.get(), lse.get(), target.get(), rows, cols, ignored);
    });

    // In place: the same bits.
    const auto in_place = [&](const char* op, const Array<T>& from, const Array<T>& expected, auto&& kernel) {
        const Array<T> memory = from.copy();
        kernel(memory.get());
        expect_same_bits(memory, expected, [&] { return text(op)() + " in place"; });
    };
    in_place("softmax", x, y, [&](T* p) { softmax(p, static_cast<const T*>(p), rows, cols); });
    in_place("log_softmax", x, log_y, [&](T* p) { log_softmax(p, static_cast<const T*>(p), rows, cols); });
    in_place("softmax_backward", dy, dx,
             [&](T* p) { softmax_backward(p, static_cast<const T*>(p), y.get(), rows, cols); });
    in_place("softmax_backward", y, dx,
             [&](T* p) { softmax_backward(p, dy.get(), static_cast<const T*>(p), rows, cols); });
    in_place("log_softmax_backward", dy, log_dx,
             [&](T* p) { log_softmax_backward(p, static_cast<const T*>(p), log_y.get(), rows, cols); });
    in_place("log_softmax_backward", log_y, log_dx,
             [&](T* p) { log_softmax_backward(p, dy.get(), static_cast<const T*>(p), rows, cols); });

    using W = Wide<T>;
    const W infinity = std::numeric_limits<W>::infinity();
    for (i64 i = 0; i < rows; ++i) {
        const T* xi = x.get() + i * cols;
        W m = -infinity, sum = 0, spread = 0, dot = 0, dot_size = 0, total = 0, total_size = 0;
        for (i64 j = 0; j < cols; ++j) m = std::isnan(xi[j]) ? W(xi[j]) : xi[j] > m ? W(xi[j]) : m;
        for (i64 j = 0; j < cols; ++j) {
            const W d = xi[j] - m;
            sum += std::exp(d);
            if (std::isfinite(d)) spread += std::exp(d) * -d;
        }
        spread = sum > 0 ? spread / sum : 0;
        const double base = static_cast<double>(cols) + 8;
        const W log_sum = std::log(sum);
        for (i64 j = 0; j < cols; ++j) {
            const i64 at = i * cols + j;
            const auto here = [&](const char* op) { return [=] { return text(op)() + " at " + list({i, j}); }; };
            const W d = xi[j] - m, p = std::exp(d) / sum;
            expect<T>(y[at], p, p, base + static_cast<double>(spread + (p > 0 ? -d : W(0))), here("softmax"));
            expect<T>(log_y[at], d - log_sum, std::abs(d) + std::abs(log_sum) + 1, base + static_cast<double>(spread),
                      here("log_softmax"));
            dot += W(dy[at]) * y[at];
            dot_size += std::abs(W(dy[at]) * y[at]);
            total += dy[at];
            total_size += std::abs(W(dy[at]));
        }
        for (i64 j = 0; j < cols; ++j) {
            const i64 at = i * cols + j;
            const auto here = [&](const char* op) { return [=] { return text(op)() + " at " + list({i, j}); }; };
            if (!may_overflow<T>(dot_size))
                expect<T>(dx[at], y[at] * (dy[at] - dot), std::abs(W(y[at])) * (std::abs(W(dy[at])) + dot_size), base,
                          here("softmax_backward"));
            const W p = std::exp(W(log_y[at])), least = std::numeric_limits<T>::denorm_min();  // p may underflow
            if (!may_overflow<T>(total_size))
                expect<T>(log_dx[at], dy[at] - p * total,
                          std::abs(W(dy[at])) + (p + least / std::numeric_limits<T>::epsilon()) * total_size, base,
                          here("log_softmax_backward"));
            if (target[i] == ignored) {
                if (ce_dx[at] != 0) fail(here("cross_entropy_backward")() + ": not 0 where ignored");
                continue;
            }
            const W d = W(xi[j]) - lse[i], up = dlosses[i];
            const W slope = j == target[i] ? std::expm1(d) : std::exp(d);
            // The rounding of x - lse moves exp by d exp(d), which may underflow.
            const W moved = std::isfinite(d) ? std::abs(d) * std::exp(d) : W(0);
            expect<T>(ce_dx[at], slope * up,
                      std::abs(up) * (std::abs(slope) + moved + least / std::numeric_limits<T>::epsilon()), 16,
                      here("cross_entropy_backward"));
        }
        const auto here = [&] { return text("cross_entropy")() + " at " + list({i}); };
        if (target[i] == ignored) {
            if (losses[i] != 0) fail(here() + ": not 0 where ignored");
        } else {
            const W d = m - xi[target[i]];
            expect<T>(losses[i], d + log_sum, std::abs(d) + std::abs(log_sum) + 1, base + static_cast<double>(spread),
                      here);
        }
        if (cols)
            expect<T>(lse[i], m + log_sum, std::abs(m) + std::abs(log_sum) + 1, base + static_cast<double>(spread),
                      here);
    }
}

}  // namespace

void target(Input& in) { in.flag() ? rows<float>(in) : rows<double>(in); }
