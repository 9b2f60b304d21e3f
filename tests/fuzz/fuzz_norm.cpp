// layer_norm and batch_norm with their gradients, against the formulas in wider arithmetic.
#include "fuzz.h"

using namespace fuzz;
using namespace glassgrad;

namespace {

/// One call: which statistic (group) and which parameter an element of x belongs to.
struct Layout {
    std::string name;
    i64 size, groups, parameters, count;  // count elements of each group
    i64 cols, spatial;
    bool by_rows;
    i64 group(i64 i) const { return by_rows ? i / cols : i / spatial % groups; }
    i64 parameter(i64 i) const { return by_rows ? i % cols : group(i); }
};

template <class T, class Forward, class Backward>
void check(Input& in, const Layout& l, double eps, Forward&& forward, Backward&& backward) {
    using W = Wide<T>;
    const auto x = numbers<T>(in, l.size), dy = numbers<T>(in, l.size, true);
    const auto weight = numbers<T>(in, l.parameters, true), bias = numbers<T>(in, l.parameters, true);
    const unsigned have = in.byte();
    const T *w = have & 1 ? weight.get() : nullptr, *b = have & 2 ? bias.get() : nullptr;
    const auto text = [&](const char* what) { return [&, what] { return l.name + " " + what; }; };

    const Array<T> mean(in, l.groups), rstd(in, l.groups);
    const auto y = output<T>(in, l.size, text("y"), [&](T* y) { forward(y, mean.get(), rstd.get(), x.get(), w, b); });
    const Array<T> memory = x.copy();
    forward(memory.get(), mean.get(), rstd.get(), static_cast<const T*>(memory.get()), w, b);
    expect_same_bits(memory, y, text("y in place"));

    std::vector<W> m(l.groups), size(l.groups), squares(l.groups), r(l.groups);
    for (i64 i = 0; i < l.size; ++i) m[l.group(i)] += x[i], size[l.group(i)] += std::abs(W(x[i]));
    for (i64 g = 0; g < l.groups; ++g) m[g] /= static_cast<W>(l.count);
    for (i64 i = 0; i < l.size; ++i) squares[l.group(i)] += (x[i] - m[l.group(i)]) * (x[i] - m[l.group(i)]);
    const W unit = std::numeric_limits<T>::epsilon(), roundings = 80;
    std::vector<W> off(l.groups), blur(l.groups);  // what the mean and, relatively, rstd may be off by
    std::vector<char> comparable(l.groups);
    for (i64 g = 0; g < l.groups; ++g) {
        const W variance = squares[g] / static_cast<W>(l.count);
        r[g] = 1 / std::sqrt(variance + W(eps));
        off[g] = roundings * unit * size[g] / static_cast<W>(std::max<i64>(1, l.count));
        blur[g] = (roundings * unit * variance + off[g] * off[g] + std::numeric_limits<T>::min()) * r[g] * r[g];
        // Nothing to say where the squares may leave the range of T, or where rounding is all there is.
        const bool special = std::isnan(m[g]) || std::isinf(m[g]);
        comparable[g] = special || (squares[g] < std::numeric_limits<T>::max() / 8 && blur[g] < 0.1 &&
                                    r[g] < std::sqrt(std::numeric_limits<T>::max()) && size[g] < 1e30);
        if (!comparable[g]) continue;
        const auto here = [&](const char* what) {
            return [&, what] { return text(what)() + " at " + std::to_string(g); };
        };
        expect<T>(mean[g], m[g], size[g] / static_cast<W>(std::max<i64>(1, l.count)), 80, here("mean"));
        if (special)
            expect<T>(rstd[g], std::numeric_limits<W>::quiet_NaN(), 0, 0, here("rstd"));
        else
            expect<T>(rstd[g], r[g], r[g] * (1 + blur[g] / unit), 4, here("rstd"));
    }
    for (i64 i = 0; i < l.size; ++i) {
        const i64 g = l.group(i), p = l.parameter(i);
        if (!comparable[g]) continue;
        const W d = x[i] - m[g], a = w ? w[p] : T(1), c = b ? b[p] : T(0);
        const W h = d * r[g];
        if (may_overflow<T>(std::abs(a) * r[g])) continue;
        expect<T>(y[i], h * a + c,
                  std::abs(a) * r[g] * (std::abs(d) * (1 + blur[g] / unit) + off[g] / unit) + std::abs(c) +
                      std::abs(d) * std::numeric_limits<T>::denorm_min() / unit,
                  8, [&] { return text("y")() + " at " + std::to_string(i); });
    }

    // Backward from the statistics that forward gave: its errors are its own.
    const bool want_weight = have & 4, want_bias = have & 8;
    const Array<T> dw(in, l.parameters), db(in, l.parameters);
    const Array<T> dw_again = dw.twin(), db_again = db.twin(), dx(in, l.size), dx_again = dx.twin();
    const auto run = [&](const Array<T>& dx, const Array<T>& dw, const Array<T>& db, const T* dy) {
        backward(dx.get(), want_weight ? dw.get() : nullptr, want_bias ? db.get() : nullptr, dy, x.get(), w, mean.get(),
                 rstd.get());
    };
    one_thread_then_two([&] { run(dx, dw, db, dy.get()); }, [&] { run(dx_again, dw_again, db_again, dy.get()); });
    expect_same_bits(dx, dx_again, text("dx, one thread and two"));
    expect_same_bits(dw, dw_again, text("dweight, one thread and two"));
    expect_same_bits(db, db_again, text("dbias, one thread and two"));
    if (l.by_rows) {
        const Array<T> in_place = dy.copy();
        run(in_place, dw_again, db_again, in_place.get());
        expect_same_bits(dx, in_place, text("dx in place"));
    }
    std::vector<W> g1(l.groups), g1_size(l.groups), g2(l.groups), g2_size(l.groups), largest(l.groups);
    std::vector<W> ew(l.parameters), ew_size(l.parameters), eb(l.parameters), eb_size(l.parameters);
    for (i64 i = 0; i < l.size; ++i) {
        const i64 g = l.group(i), p = l.parameter(i);
        const W h = (W(x[i]) - mean[g]) * rstd[g], scale = w ? w[p] : T(1), a = W(dy[i]) * scale;
        g1[g] += a, g1_size[g] += std::abs(a);
        g2[g] += a * h, g2_size[g] += std::abs(a * h);
        largest[g] =
            std::max({largest[g], std::abs(W(dy[i])), std::abs(a), std::abs(W(x[i])), W(rstd[g]), std::abs(scale)});
        ew[p] += dy[i] * h, ew_size[p] += std::abs(dy[i] * h);
        eb[p] += dy[i], eb_size[p] += std::abs(W(dy[i]));
    }
    std::vector<char> summable(l.parameters, 1);
    const W count = static_cast<W>(l.count),
            huge =
                std::sqrt(std::sqrt(W(std::numeric_limits<T>::max())));  // products of three and their sums stay finite
    for (i64 i = 0; i < l.size; ++i) {
        const i64 g = l.group(i), p = l.parameter(i);
        const W h = (W(x[i]) - mean[g]) * rstd[g], a = W(dy[i]) * (w ? w[p] : T(1));
        if (!comparable[g] || largest[g] > huge) continue;
        // Tiny numbers: a product that underflows is off by up to the least number, times what follows it.
        const W under = std::numeric_limits<T>::min() * (1 + std::abs(h)) * (1 + rstd[g] + 1 / W(rstd[g]));
        expect<T>(dx[i], rstd[g] * (a - g1[g] / count - h * g2[g] / count),
                  rstd[g] * (std::abs(a) + g1_size[g] / count + std::abs(h) * g2_size[g] / count + under / unit), 100,
                  [&] { return text("dx")() + " at " + std::to_string(i); });
    }
    for (i64 i = 0; i < l.size; ++i)
        if (!comparable[l.group(i)] || largest[l.group(i)] > huge) summable[l.parameter(i)] = 0;
    for (i64 p = 0; p < l.parameters; ++p) {
        if (!summable[p]) continue;
        const auto here = [&](const char* what) {
            return [&, what] { return text(what)() + " at " + std::to_string(p); };
        };
        const double terms = static_cast<double>(l.size / l.parameters) + 90;
        if (want_weight)
            expect<T>(dw[p], ew[p], ew_size[p] + std::numeric_limits<T>::min() / unit, terms, here("dweight"));
        if (want_bias) expect<T>(db[p], eb[p], eb_size[p], terms, here("dbias"));
    }
}

template <class T>
void norms(Input& in) {
    const double eps = in.one_of({1e-5, 1e-3, 0.0, 1.0});
    const i64 most = in.byte() % 16 ? 2000 : 60000;  // a large one is shared out
    if (in.flag()) {
        i64 rows = in.size(400), cols = in.size(3000);
        limit(most, {&rows, &cols});
        const Layout l{"layer_norm" + list({rows, cols}), rows * cols, rows, cols, cols, cols, 1, true};
        check<T>(
            in, l, eps, [&](auto... a) { layer_norm(a..., rows, cols, eps); },
            [&](auto... a) { layer_norm_backward(a..., rows, cols); });
        return;
    }
    i64 n = in.size(300), c = in.size(150), spatial = in.flag() ? 1 : in.size(1500);
    limit(most, {&n, &c, &spatial});
    const Layout l{
        "batch_norm" + list({n, c, spatial}), n * c * spatial, c, c, n * spatial, 1, std::max<i64>(1, spatial), false};
    check<T>(
        in, l, eps, [&](auto... a) { batch_norm(a..., n, c, spatial, eps); },
        [&](auto... a) { batch_norm_backward(a..., n, c, spatial); });
}

}  // namespace

void target(Input& in) { in.flag() ? norms<float>(in) : norms<double>(in); }
