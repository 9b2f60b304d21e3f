#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "core/kernels.h"
#include "core/parallel.h"
#include "core/scalar_ops.h"
#include "harness.h"

using namespace glassgrad;

namespace {

/// Distance in units of the last place of T at the true value; 0 for two NaNs or equal infinities.
template <class T>
double ulps(T got, long double truth) {
    if (std::isnan(truth)) return std::isnan(got) ? 0 : 1e30;
    const T rounded = static_cast<T>(truth);
    if (got == rounded) return 0;
    if (std::isinf(rounded) || !std::isfinite(got)) return 1e30;
    const T size = std::abs(rounded);
    const long double gap = std::nextafter(size, std::numeric_limits<T>::infinity()) - size;
    return static_cast<double>(std::abs(static_cast<long double>(got) - truth) / gap);
}

// Every STEP-th float: a prime, so that all exponents and many mantissas occur. 1 is the exhaustive run: minutes.
#ifndef STEP
#define STEP 2003
#endif

/// Largest error of Op over the floats, against the C library's double function.
template <class Op, class F>
double worst_float(F&& truth, float* where) {
    double worst = 0;
    constexpr int N = 4096;
    std::vector<float> x(N), y(N);
    for (std::uint64_t first = 0; first < (std::uint64_t{1} << 32); first += std::uint64_t{STEP} * N) {
        for (int i = 0; i < N; ++i) {
            const std::uint64_t pattern = first + std::uint64_t{STEP} * i;
            x[i] = std::bit_cast<float>(static_cast<std::uint32_t>(std::min<std::uint64_t>(pattern, 0xffffffff)));
        }
        unary<Op>(y.data(), x.data(), i64{N});
        for (int i = 0; i < N; ++i)
            if (const double error = ulps<float>(y[i], truth(static_cast<double>(x[i]))); error > worst) {
                worst = error;
                *where = x[i];
            }
    }
    return worst;
}
template <class Op, class F>
void within(double bound, const char* name, F&& truth) {
    float where = 0;
    const double worst = worst_float<Op>(truth, &where);
    std::printf("  %-8s float   %.3f ulp at %.9g\n", name, worst, static_cast<double>(where));
    CHECK(worst <= bound);
}
template <class Op, class F>
void within_double(double bound, const char* name, double low, double high, F&& truth) {
    std::mt19937_64 random(1);
    std::vector<double> x(200000), y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double u = static_cast<double>(random() >> 11) * 0x1p-53;
        x[i] = i % 2 ? low + u * (high - low) : std::ldexp(2 * u - 1, static_cast<int>(random() % 40) - 30);
        if (x[i] < low || x[i] > high) x[i] = low + u * (high - low);
    }
    unary<Op>(y.data(), x.data(), static_cast<i64>(x.size()));
    double worst = 0, where = 0;
    for (std::size_t i = 0; i < x.size(); ++i)
        if (const double error = ulps<double>(y[i], truth(static_cast<long double>(x[i]))); error > worst)
            worst = error, where = x[i];
    std::printf("  %-8s double  %.3f ulp at %.17g\n", name, worst, where);
    CHECK(worst <= bound);
}

template <class T>
std::vector<T> numbers(i64 n, T low = -3, T high = 3) {
    std::vector<T> x(static_cast<std::size_t>(n));
    for (i64 i = 0; i < n; ++i) x[i] = low + (high - low) * static_cast<T>(i * 7919 % 1009) / 1009;
    return x;
}
template <class T>
View<const T> view_of(const T* data, std::initializer_list<i64> shape, std::initializer_list<i64> stride) {
    View<const T> v;
    v.data = data;
    for (i64 extent : shape) v.shape[v.ndim++] = extent;
    int d = 0;
    for (i64 s : stride) v.stride[d++] = s;
    return v;
}

}  // namespace

TEST(elementwise_functions_within_2_ulp) {
    using namespace scalar;
    within<Exp>(2, "exp", [](double x) { return std::exp(x); });
    within<Log>(2, "log", [](double x) { return std::log(x); });
    within<Log1p>(2, "log1p", [](double x) { return std::log1p(x); });
    within<Tanh>(2, "tanh", [](double x) { return std::tanh(x); });
    within<Erf>(2, "erf", [](double x) { return std::erf(x); });
    within<Sin>(2, "sin", [](double x) { return std::sin(x); });
    within<Cos>(2, "cos", [](double x) { return std::cos(x); });
    within<Sqrt>(0.51, "sqrt", [](double x) { return std::sqrt(x); });
    within<Sigmoid>(3, "sigmoid", [](double x) { return 1 / (1 + std::exp(-x)); });
    within<Floor>(0, "floor", [](double x) { return std::floor(x); });
    within<Ceil>(0, "ceil", [](double x) { return std::ceil(x); });
    within<Round>(0, "round", [](double x) { return std::nearbyint(x); });
    within<Abs>(0, "abs", [](double x) { return std::fabs(x); });
    within_double<Exp>(2, "exp", -750, 720, [](long double x) { return std::exp(x); });
    within_double<Log>(2, "log", 1e-300, 1e6, [](long double x) { return std::log(x); });
    within_double<Log1p>(2.5, "log1p", -0.999, 1e3, [](long double x) { return std::log1p(x); });
    within_double<Tanh>(3, "tanh", -25, 25, [](long double x) { return std::tanh(x); });
    within_double<Erf>(2, "erf", -7, 7, [](long double x) { return std::erf(x); });
    within_double<Sin>(2, "sin", -1000, 1000, [](long double x) { return std::sin(x); });
    within_double<Cos>(2, "cos", -1000, 1000, [](long double x) { return std::cos(x); });
}

TEST(elementwise_expm1_keeps_its_digits_near_0) {
    for (float x = 1e-30f; x < 80; x *= 1.07f)
        for (float s : {x, -x}) CHECK(ulps<float>(math::expm1(s), std::expm1(static_cast<double>(s))) <= 2);
}

template <class T>
static void same_value_everywhere() {
    // The same numbers at every offset and length, in exact buffers: registers, tails and threads must agree.
    for (i64 n : {0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 65, 70001}) {
        const std::vector<T> x = numbers<T>(n);
        std::vector<T> y(n), again(n);
        unary<scalar::Exp>(y.data(), x.data(), n);
        for (i64 i = 0; i < std::min<i64>(n, 70); ++i) {
            T alone;
            unary<scalar::Exp>(&alone, x.data() + i, i64{1});
            CHECK(alone == y[i]);
        }
        for (int threads : {2, 4}) {
            set_num_threads(threads);
            unary<scalar::Exp>(again.data(), x.data(), n);
            CHECK(again == y);
        }
        set_num_threads(1);
        unary<scalar::Exp>(again.data(), again.data(), i64{0});
        std::vector<T> in_place = x;
        unary<scalar::Exp>(in_place.data(), in_place.data(), n);
        CHECK(in_place == y);
    }
}
TEST(elementwise_same_value_everywhere_float) { same_value_everywhere<float>(); }
TEST(elementwise_same_value_everywhere_double) { same_value_everywhere<double>(); }

template <class T>
static void every_broadcast() {
    const i64 m = 5, k = 3, n = 19;
    const std::vector<T> a = numbers<T>(m * k * n * 2), b = numbers<T>(m * k * n * 2, T(1), T(9));
    struct Layout {
        std::initializer_list<i64> stride;
        i64 offset;
    };
    const Layout layouts[] = {{{k * n, n, 1}, 0},  {{0, n, 1}, 0}, {{n, 0, 1}, 0},       {{k, 1, 0}, 0}, {{0, 0, 0}, 0},
                              {{1, m, m * k}, 0},  {{0, 0, 1}, 0}, {{-k * n, -n, -1}, m * k * n - 1},
                              {{2 * k * n, 2 * n, 2}, 0}};
    for (const Layout& p : layouts)
        for (const Layout& q : layouts) {
            const auto u = view_of(a.data() + p.offset, {m, k, n}, p.stride), v = view_of(b.data() + q.offset, {m, k, n}, q.stride);
            std::vector<T> y(m * k * n), chosen(y.size());
            std::vector<char> less(y.size()), mask(y.size());
            binary<scalar::Sub>(y.data(), u, v);
            compare<scalar::Lt>(reinterpret_cast<bool*>(less.data()), u, v);
            for (i64 i = 0; i < m * k * n; ++i) mask[i] = i % 3 == 0;
            where(chosen.data(), view_of(reinterpret_cast<const bool*>(mask.data()), {m, k, n}, {k * n, n, 1}), u, v);
            i64 at = 0;
            for (i64 i = 0; i < m; ++i)
                for (i64 j = 0; j < k; ++j)
                    for (i64 l = 0; l < n; ++l, ++at) {
                        const T left = u.data[i * u.stride[0] + j * u.stride[1] + l * u.stride[2]];
                        const T right = v.data[i * v.stride[0] + j * v.stride[1] + l * v.stride[2]];
                        CHECK(y[at] == left - right);
                        CHECK((less[at] != 0) == (left < right));
                        CHECK(chosen[at] == (at % 3 == 0 ? left : right));
                    }
        }
}
TEST(elementwise_every_broadcast_float) { every_broadcast<float>(); }
TEST(elementwise_every_broadcast_double) { every_broadcast<double>(); }

TEST(elementwise_long_rows_and_columns_are_shared_out) {
    const i64 rows = 70, cols = 3000;
    const std::vector<float> a = numbers<float>(rows * cols), row = numbers<float>(cols), column = numbers<float>(rows);
    std::vector<float> first(rows * cols), y(rows * cols);
    for (const bool by_row : {true, false}) {
        const auto v = by_row ? view_of(row.data(), {rows, cols}, {0, 1}) : view_of(column.data(), {rows, cols}, {1, 0});
        for (int threads : {1, 2, 4}) {
            set_num_threads(threads);
            binary<scalar::Mul>(y.data(), view_of(a.data(), {rows, cols}, {cols, 1}), v);
            if (threads == 1) first = y;
            CHECK(y == first);
        }
        set_num_threads(1);
        for (i64 i = 0; i < rows * cols; ++i) CHECK(y[i] == a[i] * (by_row ? row[i % cols] : column[i / cols]));
    }
}

TEST(elementwise_nan_and_zero) {
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    const std::vector<float> x = {nan, -0.0f, inf, -inf};
    std::vector<float> y(4);
    const auto all_nan_first = [&] { CHECK(std::isnan(y[0])); };
    unary<scalar::Relu>(y.data(), x.data(), i64{4});
    all_nan_first();
    CHECK(y[1] == 0 && y[2] == inf && y[3] == 0);
    unary<scalar::Sign>(y.data(), x.data(), i64{4});
    all_nan_first();
    CHECK(y[1] == 0 && y[2] == 1 && y[3] == -1);
    unary<scalar::Tanh>(y.data(), x.data(), i64{4});
    all_nan_first();
    CHECK(y[1] == 0 && std::signbit(y[1]) && y[2] == 1 && y[3] == -1);
    unary<scalar::Floor>(y.data(), x.data(), i64{4});
    all_nan_first();
    CHECK(std::signbit(y[1]) && y[2] == inf);
    const auto u = view_of(x.data(), {4}, {1});
    const auto one = std::vector<float>{1};
    binary<scalar::Maximum>(y.data(), u, view_of(one.data(), {4}, {0}));
    all_nan_first();
    binary<scalar::Minimum>(y.data(), view_of(one.data(), {4}, {0}), u);
    all_nan_first();
}

template <class Op, class T>
static void slope_of(T low, T high, bool keeps_output) {
    const std::vector<T> x = numbers<T>(101, low, high), dy = numbers<T>(101);
    std::vector<T> y(101), above(101), below(101), up(101), down(101), dx(101);
    const T h = T(1e-5);
    for (int i = 0; i < 101; ++i) up[i] = x[i] + h, down[i] = x[i] - h;
    unary<Op>(y.data(), x.data(), i64{101});
    unary<Op>(above.data(), up.data(), i64{101});
    unary<Op>(below.data(), down.data(), i64{101});
    unary_backward<Op>(dx.data(), dy.data(), keeps_output ? y.data() : x.data(), i64{101});
    for (int i = 0; i < 101; ++i) CHECK_CLOSE(dx[i], dy[i] * (above[i] - below[i]) / (2 * h), 1e-7);
}
TEST(elementwise_slopes) {
    using namespace scalar;
    slope_of<Exp>(-2.0, 2.0, true);
    slope_of<Log>(0.5, 3.0, false);
    slope_of<Log1p>(-0.5, 3.0, false);
    slope_of<Sqrt>(0.5, 3.0, true);
    slope_of<Rsqrt>(0.5, 3.0, true);
    slope_of<Square>(-2.0, 3.0, false);
    slope_of<Reciprocal>(0.5, 3.0, true);
    slope_of<Sin>(-4.0, 4.0, false);
    slope_of<Cos>(-4.0, 4.0, false);
    slope_of<Tanh>(-2.0, 2.0, true);
    slope_of<Sigmoid>(-4.0, 4.0, true);
    slope_of<Erf>(-2.0, 2.0, false);
    slope_of<Silu>(-4.0, 4.0, false);
    slope_of<Softplus>(-4.0, 4.0, false);
    slope_of<Logsigmoid>(-4.0, 4.0, false);
    slope_of<Gelu>(-4.0, 4.0, false);
    slope_of<GeluTanh>(-4.0, 4.0, false);
}
