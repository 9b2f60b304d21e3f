// Every reduction over any axes of any view, and cumsum.
#include "fuzz.h"

using namespace fuzz;
using namespace glassgrad;

namespace {

template <class T>
using Elements = std::vector<std::vector<T>>;

/// For each output, in order: its elements, in order.
template <class T>
Elements<T> elements_of(const View<const T>& x, Axes axes) {
    i64 outputs = 1;
    View<const T> to = x;  // where each element goes: stride 0 along the axes that are summed
    for (int d = x.ndim; d-- > 0;) {
        const bool kept = !(axes >> d & 1);
        to.stride[d] = kept ? outputs : 0;
        if (kept) outputs *= x.shape[d];
    }
    std::vector<i64> from;
    each_offset(x, [&](i64 o) { from.push_back(o); });
    Elements<T> result(static_cast<std::size_t>(outputs));
    std::size_t i = 0;
    each_offset(to, [&](i64 o) { result[static_cast<std::size_t>(o)].push_back(x.data[from[i++]]); });
    return result;
}

template <class T>
void reductions(Input& in) {
    using W = Wide<T>;
    std::vector<i64> shape(in.byte() % 5);
    i64 left = in.byte() % 16 ? 3000 : 80000;  // the rest of the runs are large enough for two threads
    for (i64& n : shape) {
        n = in.size(std::min<i64>(left, 60000));
        left /= std::max<i64>(1, n);
    }
    const int ndim = static_cast<int>(shape.size());
    const Axes axes = in.byte() % (1u << ndim);
    const auto held = strided<T>(in, shape);
    const View<const T>& x = held.view;
    const auto text = [&](const char* op) {
        return [&, op] {
            std::string t = std::string(op) + " of axes " + std::to_string(axes) + " of";
            for (int d = 0; d < ndim; ++d) t += " " + std::to_string(x.shape[d]) + ":" + std::to_string(x.stride[d]);
            return t;
        };
    };
    const auto elements = elements_of(x, axes);
    const i64 n = static_cast<i64>(elements.size());
    bool empty = false;
    for (int d = 0; d < ndim; ++d) empty |= (axes >> d & 1) && x.shape[d] == 0;
    const double correction = static_cast<double>(in.in(0, 3));
    const auto reduce = [&](const char* op, auto&& kernel, auto&& definition) {
        const auto y = output<T>(in, n, text(op), kernel);
        for (i64 i = 0; i < n; ++i)
            definition(y[i], elements[static_cast<std::size_t>(i)],
                       [&] { return text(op)() + " at " + std::to_string(i); });
    };
    const auto sums = [](const std::vector<T>& v) {
        W sum = 0, size = 0;
        for (T e : v) sum += e, size += std::abs(W(e));
        return std::pair(sum, size);
    };
    const auto count_of = [](const std::vector<T>& v) { return static_cast<W>(v.size()); };

    switch (in.byte() % 8) {
        case 0:
            // Short blocks in T, these in double: far fewer roundings than elements.
            reduce(
                "sum", [&](T* y) { sum(y, x, axes); },
                [&](T y, const auto& v, auto&& here) { expect<T>(y, sums(v).first, sums(v).second, 80, here); });
            break;
        case 1:
            reduce(
                "mean", [&](T* y) { mean(y, x, axes); },
                [&](T y, const auto& v, auto&& here) {
                    const auto [sum, size] = sums(v);
                    expect<T>(y, sum / count_of(v), size, 80, here);
                });
            break;
        case 2:
            reduce(
                "prod", [&](T* y) { prod(y, x, axes); },
                [&](T y, const auto& v, auto&& here) {
                    W product = 1, least = 1, most = 1;
                    for (T e : v) {
                        product *= e;
                        if (e != 0) least *= std::min<W>(1, std::abs(W(e))), most *= std::max<W>(1, std::abs(W(e)));
                    }
                    // Parts of the product that leave T's range leave nothing to compare.
                    if (least < std::numeric_limits<T>::min() || most > std::numeric_limits<T>::max()) return;
                    expect<T>(y, product, std::abs(product), static_cast<double>(v.size()) + 2, here);
                });
            break;
        case 3:
            reduce(
                "var", [&](T* y) { var(y, x, axes, correction); },
                [&](T y, const auto& v, auto&& here) {
                    const auto [sum, size] = sums(v);
                    const W count = count_of(v), mean = sum / count;
                    W squares = 0;
                    for (T e : v) squares += (e - mean) * (e - mean);
                    const W divisor = std::max<W>(0, count - correction);
                    if (divisor == 0) {  // 0 / 0 where the rounded squares are 0
                        if (std::isfinite(y)) fail(here() + ": finite");
                        return;
                    }
                    if (may_overflow<T>(size)) return;
                    const W off = 80 * std::numeric_limits<T>::epsilon() * size / count;  // of the mean
                    expect<T>(y, squares / divisor, squares + count * off * off, 90, here);
                });
            break;
        case 4: {
            const auto extremes = [&](auto&& largest, auto&& smallest) {
                const auto y = output<T>(in, n, text("amax"), largest), z = output<T>(in, n, text("amin"), smallest);
                for (i64 i = 0; i < n; ++i) {
                    const auto& v = elements[static_cast<std::size_t>(i)];
                    T high = v[0], low = v[0];
                    for (T e : v) {
                        if (e > high || std::isnan(e)) high = e;
                        if (e < low || std::isnan(e)) low = e;
                    }
                    expect<T>(y[i], high, 0, 0, [&] { return text("amax")() + " at " + std::to_string(i); });
                    expect<T>(z[i], low, 0, 0, [&] { return text("amin")() + " at " + std::to_string(i); });
                }
            };
            if (!empty) extremes([&](T* y) { amax(y, x, axes); }, [&](T* y) { amin(y, x, axes); });
            break;
        }
        case 5:
            reduce(
                "logsumexp", [&](T* y) { logsumexp(y, x, axes); },
                [&](T y, const auto& v, auto&& here) {
                    W m = -std::numeric_limits<W>::infinity(), sum = 0, spread = 0;
                    for (T e : v) m = std::isnan(e) ? W(e) : e > m ? W(e) : m;
                    const W shift = std::isinf(m) ? W(0) : m;
                    for (T e : v) {
                        sum += std::exp(e - shift);
                        if (std::isfinite(e)) spread += std::exp(e - shift) * (shift - e);
                    }
                    const W expected = std::isinf(m) && m > 0 ? (std::isnan(sum) ? sum : m) : shift + std::log(sum);
                    spread = sum > 0 && std::isfinite(sum) ? spread / sum : 0;
                    expect<T>(y, expected, std::abs(shift) + std::abs(expected) + 1, 90 + static_cast<double>(spread),
                              here);
                });
            break;
        case 6: {
            if (ndim == 0) return;
            const int axis = static_cast<int>(in.byte() % static_cast<unsigned>(ndim));
            if (x.shape[axis] == 0) return;
            const auto along = elements_of(x, Axes{1} << axis);
            const i64 outputs = static_cast<i64>(along.size());
            const bool smallest = in.flag();
            const auto name = text(smallest ? "argmin" : "argmax");
            const auto index =
                output<i64>(in, outputs, name, [&](i64* y) { smallest ? argmin(y, x, axis) : argmax(y, x, axis); });
            const Array<i64> index_too(in, outputs);
            const auto y = output<T>(in, outputs, name, [&](T* y) {
                smallest ? min(y, index_too.get(), x, axis) : max(y, index_too.get(), x, axis);
            });
            expect_same_bits(index, index_too, name);
            for (i64 i = 0; i < outputs; ++i) {
                const auto& v = along[static_cast<std::size_t>(i)];
                std::size_t best = 0;
                for (std::size_t j = 0; j < v.size(); ++j)
                    if (!std::isnan(v[best]) && (std::isnan(v[j]) || (smallest ? v[j] < v[best] : v[j] > v[best])))
                        best = j;
                const auto here = [&] {
                    return name() + " of axis " + std::to_string(axis) + " at " + std::to_string(i);
                };
                if (index[i] != static_cast<i64>(best)) fail(here() + ": " + std::to_string(index[i]));
                expect<T>(y[i], v[best], 0, 0, here);
            }
            break;
        }
        case 7: {
            i64 outer = in.size(70), length = in.size(2000), inner = in.size(700);
            limit(40000, {&outer, &length, &inner});
            const auto from = numbers<T>(in, outer * length * inner);
            const auto name = [&] { return "cumsum" + list({outer, length, inner}); };
            const auto y = output<T>(in, from.size(), name, [&](T* y) { cumsum(y, from.get(), outer, length, inner); });
            for (i64 o = 0; o < outer; ++o)
                for (i64 j = 0; j < inner; ++j) {
                    W sum = 0, size = 0;
                    for (i64 i = 0; i < length; ++i) {
                        const i64 at = (o * length + i) * inner + j;
                        sum += from[at];
                        size += std::abs(W(from[at]));
                        // In double, whatever T is.
                        expect<T>(y[at], sum, size, std::is_same_v<T, float> ? 1.01 : static_cast<double>(i + 1),
                                  [&] { return name() + " at " + list({o, i, j}); });
                    }
                }
            const Array<T> in_place = from.copy();
            cumsum(in_place.get(), static_cast<const T*>(in_place.get()), outer, length, inner);
            expect_same_bits(in_place, y, name);
        }
    }
}

}  // namespace

void target(Input& in) { in.flag() ? reductions<float>(in) : reductions<double>(in); }
