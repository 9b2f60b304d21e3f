// softmax, log_softmax and cross_entropy with their gradients, against the formulas in wider arithmetic.
//
// exp(x - m) inherits |x - m| roundings from its argument; a sum of cols terms adds cols of its own.
#include "fuzz.h"

using namespace fuzz;
using namespace glassgrad;

namespace {

/// What underflows in T is off by so many roundings of its factor.
template <class T>
constexpr Wide<T> LEAST = std::numeric_limits<T>::min();

/// The maximum of a row and the sum of exponentials below it, as the formulas have them.
template <class T>
struct Row {
    template <class At>
    Row(i64 cols, At&& at) {
        for (i64 j = 0; j < cols; ++j) max = std::isnan(at(j)) ? Wide<T>(at(j)) : at(j) > max ? Wide<T>(at(j)) : max;
        for (i64 j = 0; j < cols; ++j) {
            const Wide<T> d = at(j) - max;
            sum += std::exp(d);
            if (std::isfinite(d)) spread += std::exp(d) * -d;
        }
        spread = sum > 0 ? spread / sum : 0;
        log_sum = std::log(sum);
    }
    Wide<T> max = -std::numeric_limits<T>::infinity(), sum = 0, log_sum;
    Wide<T> spread = 0;  // the mean of what the rounding of x - max moves the sum by, relatively
};

template <class T>
constexpr std::pair<const char*, void (*)(T*, const T*, i64, i64)> RUNGS[] = {
    {"softmax_naive", softmax_naive<T>},
    {"softmax_online", softmax_online<T>},
    {"softmax_vectorised", softmax_vectorised<T>},
};

template <class T>
void softmaxes(Input& in) {
    i64 rows = in.size(600), cols = in.size(2000);
    limit(in.byte() % 16 ? 1500 : 40000, {&rows, &cols});  // a large one is shared out
    const bool columns = in.flag();                        // a row of the formula lies in a column of x
    const i64 n = rows * cols, outer = columns ? 1 : rows, inner = columns ? rows : 1;
    const auto text = [&](const char* op) { return [=] { return op + list({outer, cols, inner}); }; };
    const auto x = numbers<T>(in, n), dy = numbers<T>(in, n, true);

    const auto y = output<T>(in, n, text("softmax"), [&](T* y) { softmax(y, x.get(), outer, cols, inner); });
    const auto log_y =
        output<T>(in, n, text("log_softmax"), [&](T* y) { log_softmax(y, x.get(), outer, cols, inner); });
    const auto dx = output<T>(in, n, text("softmax_backward"),
                              [&](T* dx) { softmax_backward(dx, dy.get(), y.get(), outer, cols, inner); });
    const auto log_dx = output<T>(in, n, text("log_softmax_backward"),
                                  [&](T* dx) { log_softmax_backward(dx, dy.get(), log_y.get(), outer, cols, inner); });
    const auto& [name, kernel] = RUNGS<T>[in.byte() % std::size(RUNGS<T>)];
    const Array<T> of_rung(in, n);
    if (!columns) kernel(of_rung.get(), x.get(), rows, cols);

    // In place: the same bits.
    const auto in_place = [&](const char* op, const Array<T>& from, const Array<T>& expected, auto&& kernel) {
        const Array<T> memory = from.copy();
        kernel(memory.get());
        expect_same_bits(memory, expected, [&] { return text(op)() + " in place"; });
    };
    in_place("softmax", x, y, [&](T* p) { softmax(p, static_cast<const T*>(p), outer, cols, inner); });
    in_place("log_softmax", x, log_y, [&](T* p) { log_softmax(p, static_cast<const T*>(p), outer, cols, inner); });
    in_place("softmax_backward", dy, dx,
             [&](T* p) { softmax_backward(p, static_cast<const T*>(p), y.get(), outer, cols, inner); });
    in_place("softmax_backward", y, dx,
             [&](T* p) { softmax_backward(p, dy.get(), static_cast<const T*>(p), outer, cols, inner); });
    in_place("log_softmax_backward", dy, log_dx,
             [&](T* p) { log_softmax_backward(p, static_cast<const T*>(p), log_y.get(), outer, cols, inner); });
    in_place("log_softmax_backward", log_y, log_dx,
             [&](T* p) { log_softmax_backward(p, dy.get(), static_cast<const T*>(p), outer, cols, inner); });

    using W = Wide<T>;
    for (i64 i = 0; i < rows; ++i) {
        const auto place = [&](i64 j) { return columns ? j * rows + i : i * cols + j; };
        const Row<T> row(cols, [&](i64 j) { return x[place(j)]; });
        const double base = static_cast<double>(cols) + 8, spread = static_cast<double>(row.spread);
        W dot = 0, dot_size = 0, total = 0, total_size = 0;
        for (i64 j = 0; j < cols; ++j) {
            const i64 at = place(j);
            const auto here = [&](const char* op) { return [=] { return text(op)() + " at " + list({i, j}); }; };
            const W d = x[at] - row.max, p = std::exp(d) / row.sum;
            const double roundings = base + spread + static_cast<double>(p > 0 ? -d : W(0));
            expect<T>(y[at], p, p, roundings, here("softmax"));
            // Online, the sum is scaled down at each new maximum: a factor of exp, and a rounding, for each.
            if (!columns) expect<T>(of_rung[at], p, p, 3 * roundings, here(name));
            expect<T>(log_y[at], d - row.log_sum, std::abs(d) + std::abs(row.log_sum) + 1, base + spread,
                      here("log_softmax"));
            dot += W(dy[at]) * y[at];
            dot_size += std::abs(W(dy[at]) * y[at]);
            total += dy[at];
            total_size += std::abs(W(dy[at]));
        }
        for (i64 j = 0; j < cols; ++j) {
            const i64 at = place(j);
            const auto here = [&](const char* op) { return [=] { return text(op)() + " at " + list({i, j}); }; };
            if (!may_overflow<T>(dot_size))
                expect<T>(dx[at], y[at] * (dy[at] - dot), std::abs(W(y[at])) * (std::abs(W(dy[at])) + dot_size), base,
                          here("softmax_backward"));
            const W p = std::exp(W(log_y[at]));
            if (!may_overflow<T>(total_size))
                expect<T>(log_dx[at], dy[at] - p * total, std::abs(W(dy[at])) + (p + LEAST<T>)*total_size, base,
                          here("log_softmax_backward"));
        }
    }
}

template <class T>
void cross_entropies(Input& in) {
    using W = Wide<T>;
    i64 rows = in.size(600), cols = in.size(2000);
    limit(in.byte() % 16 ? 1500 : 40000, {&rows, &cols});
    const auto reduction = in.one_of({Reduction::NONE, Reduction::MEAN, Reduction::SUM});
    const bool reduced = reduction != Reduction::NONE;
    const auto text = [&](const char* op) { return [=] { return op + list({rows, cols}); }; };
    const auto x = numbers<T>(in, rows * cols), dlosses = numbers<T>(in, reduced ? 1 : rows, true);
    const i64 ignored = in.flag() ? -100 : 0;
    const Array<i64> target(in, rows);
    i64 count = 0;
    for (i64 i = 0; i < rows; ++i) {
        target[i] = cols == 0 || in.byte() % 4 == 0 ? ignored : in.byte() % cols;
        count += target[i] != ignored;
    }

    const Array<T> losses(in, rows), max(in, rows), log_sum(in, rows), loss(in, 1);
    same_on_two({&losses, &max, &log_sum}, text("cross_entropy"), [&](T* losses, T* max, T* log_sum) {
        cross_entropy<T>(losses, max, log_sum, x, target, rows, cols, ignored, Reduction::NONE);
    });
    const auto dx = output<T>(in, rows * cols, text("cross_entropy_backward"), [&](T* dx) {
        cross_entropy_backward<T>(dx, dlosses, x, max, log_sum, target, rows, cols, ignored, reduction);
    });
    if (reduced) {
        same_on_two({&loss, &max, &log_sum}, text("cross_entropy to one number"), [&](T* loss, T* max, T* log_sum) {
            cross_entropy<T>(loss, max, log_sum, x, target, rows, cols, ignored, reduction);
        });
        W total = 0, size = 0;
        for (i64 i = 0; i < rows; ++i) total += losses[i], size += std::abs(W(losses[i]));
        expect<T>(loss[0], reduction == Reduction::MEAN ? total / static_cast<W>(count) : total, size,
                  static_cast<double>(rows) + 2, text("cross_entropy to one number"));
    }

    for (i64 i = 0; i < rows; ++i) {
        const auto here = [&](const char* op, i64 j) { return [=] { return text(op)() + " at " + list({i, j}); }; };
        const Row<T> row(cols, [&](i64 j) { return x[i * cols + j]; });
        const double roundings = static_cast<double>(cols) + 8 + static_cast<double>(row.spread);
        const W up = dlosses[reduced ? 0 : i] / (reduction == Reduction::MEAN ? static_cast<W>(count) : W(1));
        if (cols) {
            // In a row that holds a NaN the maximum may be that of the rest: the sum is NaN.
            if (!std::isnan(row.max)) expect<T>(max[i], row.max, 0, 0, here("row maximum", 0));
            expect<T>(log_sum[i], row.log_sum, std::abs(row.log_sum) + 1, roundings, here("log of the sum", 0));
        }
        if (target[i] == ignored) {
            if (losses[i] != 0) fail(here("cross_entropy", 0)() + ": not 0 where ignored");
            for (i64 j = 0; j < cols; ++j)
                if (dx[i * cols + j] != 0) fail(here("cross_entropy_backward", j)() + ": not 0 where ignored");
            continue;
        }
        const W d = row.max - x[i * cols + target[i]];
        expect<T>(losses[i], d + row.log_sum, std::abs(d) + std::abs(row.log_sum) + 1, roundings,
                  here("cross_entropy", target[i]));
        for (i64 j = 0; j < cols; ++j) {
            const W below = W(x[i * cols + j]) - max[i] - log_sum[i];
            const W slope = j == target[i] ? std::expm1(below) : std::exp(below);
            // The rounding of the argument moves exp by |argument| exp, which may underflow.
            const W moved = std::isfinite(below) ? std::abs(below) * std::exp(below) : W(0);
            expect<T>(dx[i * cols + j], slope * up, std::abs(up) * (std::abs(slope) + moved + LEAST<T>), 16,
                      here("cross_entropy_backward", j));
        }
    }
}

template <class T>
void any(Input& in) {
    in.flag() ? softmaxes<T>(in) : cross_entropies<T>(in);
}

}  // namespace

void target(Input& in) { in.flag() ? any<float>(in) : any<double>(in); }
