#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "core/kernels.h"
#include "core/parallel.h"
#include "harness.h"

using namespace glassgrad;

namespace {

using Shape = std::vector<i64>;

constexpr double INF = std::numeric_limits<double>::infinity();
constexpr double NOT_A_NUMBER = std::numeric_limits<double>::quiet_NaN();

/// A view and the memory it lies in.
template <class T>
struct Layout {
    std::vector<T> memory;
    View<const T> view;
};

/// layout 0 is contiguous; the others permute the axes in memory, skip elements, run backwards, repeat an axis, and
/// start one element off.
template <class T>
Layout<T> make(const Shape& shape, int layout) {
    const int ndim = static_cast<int>(shape.size());
    Layout<T> result;
    result.view.ndim = ndim;
    std::vector<int> order(shape.size());
    std::iota(order.begin(), order.end(), 0);
    if (layout == 1) std::reverse(order.begin(), order.end());
    if (layout == 2) std::rotate(order.begin(), order.begin() + (ndim > 1), order.end());
    i64 step = layout == 3 ? 2 : 1, offset = layout == 2;
    for (int i = ndim; i-- > 0;) {
        const int d = order[i];
        const bool repeated = layout == 5 && d == 0, backwards = layout == 4 || (layout == 3 && d == ndim - 1);
        result.view.shape[d] = shape[d];
        result.view.stride[d] = repeated ? 0 : backwards ? -step : step;
        if (repeated || shape[d] == 0) continue;
        if (backwards) offset += (shape[d] - 1) * step;
        step *= shape[d];
    }
    result.memory.resize(static_cast<std::size_t>(step + 2));
    for (std::size_t i = 0; i < result.memory.size(); ++i)
        result.memory[i] = static_cast<T>(static_cast<double>(i * 7919 % 1009) / 250 - 1.7);
    result.view.data = result.memory.data() + offset;
    return result;
}

/// For each output, in order: its elements as double, in order.
template <class T>
std::vector<std::vector<double>> elements_of(const View<const T>& x, Axes axes) {
    i64 outputs = 1;
    for (int d = 0; d < x.ndim; ++d)
        if (!(axes >> d & 1)) outputs *= x.shape[d];
    std::vector<std::vector<double>> result(static_cast<std::size_t>(outputs));
    const i64 n = x.size();
    for (i64 i = 0; i < n; ++i) {
        i64 rest = i, from = 0, to = 0, to_step = 1;
        for (int d = x.ndim; d-- > 0; rest /= x.shape[d]) {
            const i64 index = rest % x.shape[d];
            from += index * x.stride[d];
            if (axes >> d & 1) continue;
            to += index * to_step;
            to_step *= x.shape[d];
        }
        result[static_cast<std::size_t>(to)].push_back(static_cast<double>(x.data[from]));
    }
    return result;
}

// The sums of the definition have 11 bits to spare over double.
template <class F>
double sum_of(const std::vector<double>& v, F&& f) {
    long double total = 0;
    for (double e : v) total += f(e);
    return static_cast<double>(total);
}
double sum_of(const std::vector<double>& v) {
    return sum_of(v, [](double e) { return e; });
}
double size_of(const std::vector<double>& v) {  // what the error of a sum is measured by
    return 1 + sum_of(v, [](double e) { return std::abs(e); });
}
double mean_of(const std::vector<double>& v) { return sum_of(v) / static_cast<double>(v.size()); }
double squares_of(const std::vector<double>& v) {
    return sum_of(v, [mean = mean_of(v)](double e) { return (e - mean) * (e - mean); });
}
double logsumexp_of(const std::vector<double>& v) {
    return std::log(sum_of(v, [](double e) { return std::exp(e); }));
}
double max_of(const std::vector<double>& v) { return *std::max_element(v.begin(), v.end()); }
double min_of(const std::vector<double>& v) { return *std::min_element(v.begin(), v.end()); }
/// kernel(y) for 1, 2 and 4 threads: the same bits. Returns y.
template <class Y>
std::vector<Y> on_any_threads(std::size_t outputs, const std::function<void(Y*)>& kernel) {
    std::vector<Y> first(outputs + 1), again(outputs + 1);
    first[outputs] = again[outputs] = Y(77);
    kernel(first.data());
    CHECK(first[outputs] == Y(77));  // nothing written beyond the end
    for (int threads : {2, 4}) {
        set_num_threads(threads);
        kernel(again.data());
        CHECK(std::memcmp(first.data(), again.data(), first.size() * sizeof(Y)) == 0);
    }
    set_num_threads(1);
    first.resize(outputs);
    return first;
}

template <class T>
void against_definition(const Shape& shape, double epsilon) {
    const int ndim = static_cast<int>(shape.size());
    for (int layout = 0; layout < 6; ++layout) {
        const Layout<T> held = make<T>(shape, layout);
        const View<const T>& x = held.view;
        for (Axes axes = 0; axes < Axes{1} << ndim; ++axes) {
            const auto elements = elements_of(x, axes);
            const std::size_t n = elements.size();
            const auto total = on_any_threads<T>(n, [&](T* y) { sum(y, x, axes); });
            const auto average = on_any_threads<T>(n, [&](T* y) { mean(y, x, axes); });
            const auto variance = on_any_threads<T>(n, [&](T* y) { var(y, x, axes, 1.0); });
            const auto lse = on_any_threads<T>(n, [&](T* y) { logsumexp(y, x, axes); });
            for (std::size_t i = 0; i < n; ++i) {
                const auto& v = elements[i];
                const double count = static_cast<double>(v.size());
                CHECK_CLOSE(total[i] / size_of(v), sum_of(v) / size_of(v), 12 * epsilon);
                if (v.empty()) {
                    CHECK(std::isnan(average[i]) && std::isnan(variance[i]) && lse[i] == -INF);
                    continue;
                }
                CHECK_CLOSE(average[i], mean_of(v), 12 * epsilon);
                CHECK_CLOSE(lse[i], logsumexp_of(v), 12 * epsilon);
                if (count > 1)
                    CHECK_CLOSE(variance[i], squares_of(v) / (count - 1), 32 * epsilon);
                else
                    CHECK(std::isnan(variance[i]));
            }
            if (axes && n && elements[0].empty()) continue;
            const auto largest = on_any_threads<T>(n, [&](T* y) { amax(y, x, axes); });
            const auto smallest = on_any_threads<T>(n, [&](T* y) { amin(y, x, axes); });
            for (std::size_t i = 0; i < n; ++i)
                CHECK(largest[i] == max_of(elements[i]) && smallest[i] == min_of(elements[i]));
        }
        for (int axis = 0; axis < ndim; ++axis) {
            if (shape[axis] == 0) continue;
            const auto elements = elements_of(x, Axes{1} << axis);
            const std::size_t n = elements.size();
            std::vector<T> largest(n), smallest(n);
            const auto above = on_any_threads<i64>(n, [&](i64* y) { argmax(y, x, axis); });
            const auto below = on_any_threads<i64>(n, [&](i64* y) { argmin(y, x, axis); });
            const auto above_too = on_any_threads<i64>(n, [&](i64* y) { max(largest.data(), y, x, axis); });
            const auto below_too = on_any_threads<i64>(n, [&](i64* y) { min(smallest.data(), y, x, axis); });
            CHECK(above == above_too && below == below_too);
            for (std::size_t i = 0; i < n; ++i) {
                const auto& v = elements[i];
                CHECK(above[i] == std::max_element(v.begin(), v.end()) - v.begin());
                CHECK(below[i] == std::min_element(v.begin(), v.end()) - v.begin());
                CHECK(largest[i] == max_of(v) && smallest[i] == min_of(v));
            }
        }
    }
}

template <class T>
void all_shapes(double epsilon) {
    against_definition<T>({}, epsilon);
    for (i64 n : {0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 1023, 1024, 1025, 3000, 70000})
        against_definition<T>({n}, epsilon);
    for (const Shape& shape :
         std::vector<Shape>{{0, 3},     {3, 0},    {1, 1},    {1, 5},     {5, 1},       {2, 3},      {8, 2},
                            {9, 2},     {33, 17},  {1000, 3}, {259, 65},  {3, 1500},    {1500, 3},   {20000, 5},
                            {300, 530}, {3, 4, 5}, {2, 0, 3}, {4, 1, 70}, {2, 300, 13}, {5, 3, 2, 7}})
        against_definition<T>(shape, epsilon);
}

/// A contiguous matrix of one column, or of one row repeated `cols` times as columns.
template <class T>
std::vector<View<const T>> both_shapes(std::vector<T>& column, std::vector<T>& wide, i64 cols) {
    const i64 n = static_cast<i64>(column.size());
    wide.resize(static_cast<std::size_t>(n * cols));
    for (i64 i = 0; i < n * cols; ++i) wide[static_cast<std::size_t>(i)] = column[static_cast<std::size_t>(i / cols)];
    View<const T> rows{column.data(), 2, {1, n}, {n, 1}}, columns{wide.data(), 2, {cols, n}, {1, cols}};
    return {rows, columns};
}

/// y[0] of a reduction of the axis 1.
template <class Y = float, class F>
Y first_of(const View<const float>& x, F&& kernel) {
    std::vector<Y> y(static_cast<std::size_t>(x.shape[0]));
    kernel(y.data(), x);
    for (const Y& e : y) CHECK(std::memcmp(&e, &y[0], sizeof e) == 0);
    return y[0];
}

template <class T>
void cumulative(double epsilon) {
    for (i64 outer : {0, 1, 3})
        for (i64 n : {0, 1, 17, 1000})
            for (i64 inner : {0, 1, 2, 33, 600}) {
                std::vector<T> x(static_cast<std::size_t>(outer * n * inner));
                for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(i * 7919 % 1009) / 250 - T(1.7);
                const auto y = on_any_threads<T>(x.size(), [&](T* y) { cumsum(y, x.data(), outer, n, inner); });
                for (i64 o = 0; o < outer; ++o)
                    for (i64 j = 0; j < inner; ++j) {
                        double total = 0;
                        for (i64 i = 0; i < n; ++i) {
                            const auto at = static_cast<std::size_t>((o * n + i) * inner + j);
                            total += static_cast<double>(x[at]);
                            CHECK_CLOSE(y[at], total, epsilon);
                        }
                    }
            }
}

}  // namespace

TEST(reduce_definition_float) { all_shapes<float>(std::numeric_limits<float>::epsilon()); }
TEST(reduce_definition_double) { all_shapes<double>(std::numeric_limits<double>::epsilon()); }

TEST(reduce_prod) {
    for (i64 n : {0, 1, 17, 100, 1500})
        for (int layout = 0; layout < 6; ++layout) {
            Layout<double> held = make<double>({n, 3}, layout);
            for (double& e : held.memory) e = 1 + e / 1000;
            for (Axes axes = 0; axes < 4; ++axes) {
                const auto elements = elements_of(held.view, axes);
                const auto y = on_any_threads<double>(elements.size(), [&](double* y) { prod(y, held.view, axes); });
                for (std::size_t i = 0; i < y.size(); ++i) {
                    double product = 1;
                    for (double e : elements[i]) product *= e;
                    CHECK_CLOSE(y[i], product, 1e-13);
                }
            }
        }
}

TEST(reduce_sums_stay_accurate) {
    // 10^7 times 0.1f: one float accumulator would be off by 9 %.
    const i64 n = 10000000;
    const float tenth = 0.1f;
    const View<const float> repeated{&tenth, 1, {n}, {0}};
    float y;
    sum(&y, repeated, 1);
    CHECK_CLOSE(y / (n * static_cast<double>(tenth)), 1.0, 1e-6);
    // A mean 10^5 times the deviation.
    std::vector<float> x(5000), wide;
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = 100000.0f + static_cast<float>(i % 5);
    for (const auto& view : both_shapes(x, wide, 70))
        CHECK_CLOSE(first_of(view, [](float* y, auto& v) { var(y, v, 2, 0.0); }), 2.0, 1e-6);
    std::fill(x.begin(), x.end(), 0.1f);
    for (const auto& view : both_shapes(x, wide, 70))
        CHECK(first_of(view, [](float* y, auto& v) { var(y, v, 2, 0.0); }) == 0);
}

TEST(reduce_var_divisor) {
    const float x[] = {1, 2, 4};
    const View<const float> view{x, 1, {3}, {1}};
    float y;
    var(&y, view, 1, 3.0);
    CHECK(y == INF);
    var(&y, view, 1, 5.0);
    CHECK(y == INF);
    const View<const float> one{x, 1, {1}, {1}};
    var(&y, one, 1, 0.0);
    CHECK(y == 0);
    var(&y, one, 1, 2.0);
    CHECK(std::isnan(y));
}

TEST(reduce_nan_and_infinity) {
    const float inf = static_cast<float>(INF), nan = static_cast<float>(NOT_A_NUMBER);
    for (const std::size_t n : {3, 40, 1100, 70000})
        for (const std::size_t at : {std::size_t{0}, n / 2, n - 1}) {
            std::vector<float> x(n, -2.0f), wide;
            const auto each = [&](auto&& f) {
                for (const auto& view : both_shapes(x, wide, n < 2000 ? 37 : 2)) f(view);
            };
            const auto index = static_cast<i64>(at);
            x[at] = nan;
            each([&](const View<const float>& v) {
                CHECK(std::isnan(first_of(v, [](float* y, auto& v) { sum(y, v, 2); })));
                CHECK(std::isnan(first_of(v, [](float* y, auto& v) { prod(y, v, 2); })));
                CHECK(std::isnan(first_of(v, [](float* y, auto& v) { amax(y, v, 2); })));
                CHECK(std::isnan(first_of(v, [](float* y, auto& v) { amin(y, v, 2); })));
                CHECK(std::isnan(first_of(v, [](float* y, auto& v) { logsumexp(y, v, 2); })));
                CHECK(std::isnan(first_of(v, [](float* y, auto& v) { var(y, v, 2, 1.0); })));
                CHECK(first_of<i64>(v, [](i64* y, auto& v) { argmax(y, v, 1); }) == index);
                CHECK(first_of<i64>(v, [](i64* y, auto& v) { argmin(y, v, 1); }) == index);
            });
            if (at + 1 < n) {  // a later NaN, a larger number: the first NaN still wins
                x[n - 1] = nan;
                if (at > 0) x[0] = inf;
                each([&](const View<const float>& v) {
                    CHECK(first_of<i64>(v, [](i64* y, auto& v) { argmax(y, v, 1); }) == index);
                    CHECK(first_of<i64>(v, [](i64* y, auto& v) { argmin(y, v, 1); }) == index);
                });
            }
            std::fill(x.begin(), x.end(), -2.0f);
            x[at] = inf;
            each([&](const View<const float>& v) {
                CHECK(first_of(v, [](float* y, auto& v) { sum(y, v, 2); }) == inf);
                CHECK(first_of(v, [](float* y, auto& v) { amax(y, v, 2); }) == inf);
                CHECK(first_of(v, [](float* y, auto& v) { logsumexp(y, v, 2); }) == inf);
                CHECK(std::isnan(first_of(v, [](float* y, auto& v) { var(y, v, 2, 1.0); })));
                CHECK(first_of<i64>(v, [](i64* y, auto& v) { argmax(y, v, 1); }) == index);
                CHECK(first_of<i64>(v, [](i64* y, auto& v) { argmin(y, v, 1); }) == (at == 0));
            });
            std::fill(x.begin(), x.end(), -inf);
            each([&](const View<const float>& v) {
                CHECK(first_of(v, [](float* y, auto& v) { amax(y, v, 2); }) == -inf);
                CHECK(first_of(v, [](float* y, auto& v) { logsumexp(y, v, 2); }) == -inf);
                CHECK(first_of<i64>(v, [](i64* y, auto& v) { argmax(y, v, 1); }) == 0);
                CHECK(first_of<i64>(v, [](i64* y, auto& v) { argmin(y, v, 1); }) == 0);
            });
            x[at] = -1000;
            each([&](const View<const float>& v) {
                CHECK(first_of(v, [](float* y, auto& v) { logsumexp(y, v, 2); }) == -1000);
            });
        }
}

TEST(reduce_first_of_equals_wins) {
    for (const std::size_t n : {2, 40, 1100, 70000}) {
        std::vector<float> x(n), wide;
        for (std::size_t i = 0; i < n; ++i) x[i] = i % 7 == 1 ? 5.0f : 1.0f;
        for (const auto& view : both_shapes(x, wide, n < 2000 ? 37 : 2)) {
            CHECK(first_of<i64>(view, [](i64* y, auto& v) { argmax(y, v, 1); }) == 1);
            CHECK(first_of<i64>(view, [](i64* y, auto& v) { argmin(y, v, 1); }) == 0);
        }
    }
}

TEST(reduce_of_nothing) {
    float y[3] = {5, 5, 5};
    const View<const float> empty{nullptr, 2, {3, 0}, {0, 1}};
    prod(y, empty, 2);
    CHECK(y[0] == 1 && y[2] == 1);
    sum(y, empty, 2);
    CHECK(y[0] == 0 && y[2] == 0);
    i64 index[3];
    int refused = 0;
    const auto refuses = [&](auto&& f) {
        try {
            f();
        } catch (const Error&) {
            ++refused;
        }
    };
    refuses([&] { amax(y, empty, 2); });
    refuses([&] { amin(y, empty, 2); });
    refuses([&] { argmax(index, empty, 1); });
    refuses([&] { min(y, index, empty, 1); });
    CHECK(refused == 4);
}

TEST(reduce_long_axis_to_no_outputs) {
    for (const auto& [shape, axes] :
         std::vector<std::pair<std::array<i64, 2>, Axes>>{{{0, 100000}, 2}, {{100000, 0}, 1}}) {
        const View<const float> view{nullptr, 2, {shape[0], shape[1]}, {shape[1], 1}};
        float* const none = nullptr;
        i64* const no_index = nullptr;
        sum(none, view, axes);
        prod(none, view, axes);
        amax(none, view, axes);
        logsumexp(none, view, axes);
        var(none, view, axes, 1.0);
        max(none, no_index, view, axes == 2 ? 1 : 0);
    }
}

TEST(reduce_variance_of_numbers_whose_squares_overflow) {
    const double x[] = {1e200, 1e300, -1e250, 1e200, 1e300, -1e250};
    double y[3] = {-1, -1, -1};
    var(y, View<const double>{x, 2, {2, 3}, {3, 1}}, Axes{1}, 1.0);
    for (double v : y) CHECK(v == 0);
    var(y, View<const double>{x, 1, {1}, {1}}, Axes{1}, 0.0);
    CHECK(y[0] == 0);
}

TEST(cumsum_definition) {
    cumulative<float>(std::numeric_limits<float>::epsilon());
    cumulative<double>(1e-12);
}
