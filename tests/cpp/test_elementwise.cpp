#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "core/kernels.h"
#include "core/parallel.h"
#include "core/scalar_ops.h"
#include "harness.h"

using namespace glassgrad;

namespace {

/// Distance in units of the last place of T at the true value; 0 for two NaNs or equal infinities. Zeros have signs.
template <class T>
double ulps(T got, long double truth) {
    if (std::isnan(truth)) return std::isnan(got) ? 0 : 1e30;
    const T rounded = static_cast<T>(truth);
    if (got == rounded) return got != 0 || std::signbit(got) == std::signbit(rounded) ? 0 : 1e30;
    if (std::isinf(rounded) || !std::isfinite(got)) return 1e30;
    const T size = std::min(std::abs(rounded), std::numeric_limits<T>::max() / 2);
    const long double gap = std::nextafter(size, std::numeric_limits<T>::infinity()) - size;
    return static_cast<double>(std::abs(static_cast<long double>(got) - truth) / gap);
}

template <class T>
View<const T> view_of(const T* data, std::initializer_list<i64> shape, std::initializer_list<i64> stride) {
    View<const T> v;
    v.data = data;
    for (i64 extent : shape) v.shape[v.ndim++] = extent;
    std::copy(stride.begin(), stride.end(), v.stride);
    return v;
}
template <class T>
View<const T> row(const T* data, i64 n) {
    return view_of(data, {n}, {1});
}
template <class T>
View<const T> row(const std::vector<T>& x) {
    return row(x.data(), static_cast<i64>(x.size()));
}

template <class T>
std::vector<T> numbers(i64 n, T low = -3, T high = 3) {
    std::vector<T> x(static_cast<std::size_t>(n));
    for (i64 i = 0; i < n; ++i) x[i] = low + (high - low) * static_cast<T>(i * 7919 % 1009) / 1009;
    return x;
}
/// The same bits, which == denies to NaN.
template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// ---- values ---------------------------------------------------------------------------------------------------------

// Every STEP-th float: a prime, so that all exponents and many mantissas occur. 1 is the exhaustive run: an hour.
#ifndef STEP
#define STEP 2003
#endif

/// Largest error of Op over the floats, against a double function of the C library.
template <class Op, class Truth>
void float_within(double bound, const char* name, Truth&& truth) {
    constexpr int N = 4096;
    double worst = 0;
    float where = 0;
    std::vector<float> x(N), y(N);
    for (std::uint64_t first = 0; first < (std::uint64_t{1} << 32); first += std::uint64_t{STEP} * N) {
        for (int i = 0; i < N; ++i) {
            const std::uint64_t pattern = first + std::uint64_t{STEP} * static_cast<std::uint64_t>(i);
            x[i] = std::bit_cast<float>(static_cast<std::uint32_t>(std::min<std::uint64_t>(pattern, 0xffffffff)));
        }
        unary<Op>(y.data(), row(x));
        for (int i = 0; i < N; ++i)
            if (const double error = ulps<float>(y[i], truth(static_cast<double>(x[i]))); error > worst)
                worst = error, where = x[i];
    }
    if (!(worst <= bound)) std::printf("  %s(%.9gf) is off by %.3f ulp\n", name, static_cast<double>(where), worst);
    CHECK(worst <= bound);
}
/// Half of the numbers even in [low, high], half of them in their exponents.
template <class Op, class Truth>
void double_within(double bound, const char* name, double low, double high, Truth&& truth) {
    std::mt19937_64 random(1);
    std::vector<double> x(100000), y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double u = static_cast<double>(random() >> 11) * 0x1p-53;
        const double wide = std::ldexp(2 * u - 1, static_cast<int>(random() % 1100) - 1060);
        x[i] = i % 2 && wide >= low && wide <= high ? wide : low + u * (high - low);
    }
    unary<Op>(y.data(), row(x));
    double worst = 0, where = 0;
    for (std::size_t i = 0; i < x.size(); ++i)
        if (const double error = ulps<double>(y[i], truth(static_cast<long double>(x[i]))); error > worst)
            worst = error, where = x[i];
    if (!(worst <= bound)) std::printf("  %s(%.17g) is off by %.3f ulp\n", name, where, worst);
    CHECK(worst <= bound);
}

}  // namespace

#define FLOAT_WITHIN(bound, op, truth) float_within<scalar::op>(bound, #op, [](double x) -> double { return truth; })
#define DOUBLE_WITHIN(bound, op, low, high, truth) \
    double_within<scalar::op>(bound, #op, low, high, [](long double x) -> long double { return truth; })

TEST(elementwise_float_functions_within_2_ulp) {
    FLOAT_WITHIN(2, exp, std::exp(x));
    FLOAT_WITHIN(2, log, std::log(x));
    FLOAT_WITHIN(2, log1p, std::log1p(x));
    FLOAT_WITHIN(2, tanh, std::tanh(x));
    FLOAT_WITHIN(2, erf, std::erf(x));
    FLOAT_WITHIN(2, sin, std::sin(x));
    FLOAT_WITHIN(2, cos, std::cos(x));
    FLOAT_WITHIN(2, rsqrt, 1 / std::sqrt(x));
    FLOAT_WITHIN(2.5, sigmoid, 1 / (1 + std::exp(-x)));
    FLOAT_WITHIN(3, gelu_tanh, x / (1 + std::exp(-1.59576912160573071176 * (x + 0.044715 * x * x * x))));
    FLOAT_WITHIN(2, softplus, x > 20 ? x : std::log1p(std::exp(x)));
    FLOAT_WITHIN(2, logsigmoid, x < 0 ? x - std::log1p(std::exp(x)) : -std::log1p(std::exp(-x)));
    FLOAT_WITHIN(0, sqrt, std::sqrt(x));
    FLOAT_WITHIN(0, square, x * x);
    FLOAT_WITHIN(0, abs, std::fabs(x));
    FLOAT_WITHIN(0, floor, std::floor(x));
    FLOAT_WITHIN(0, ceil, std::ceil(x));
    FLOAT_WITHIN(0, round, std::nearbyint(x));
}
TEST(elementwise_double_functions_within_2_ulp) {
    DOUBLE_WITHIN(2, exp, -750, 720, std::exp(x));
    DOUBLE_WITHIN(2, log, 0, 1e6, std::log(x));
    DOUBLE_WITHIN(2, log1p, -1, 1e3, std::log1p(x));
    DOUBLE_WITHIN(2, tanh, -25, 25, std::tanh(x));
    DOUBLE_WITHIN(2, erf, -7, 7, std::erf(x));
    DOUBLE_WITHIN(2, sin, -1e6, 1e6, std::sin(x));
    DOUBLE_WITHIN(2, cos, -1e6, 1e6, std::cos(x));
    DOUBLE_WITHIN(2, sin, -4, 4, std::sin(x));
    DOUBLE_WITHIN(2, cos, -4, 4, std::cos(x));
    DOUBLE_WITHIN(2.5, sigmoid, -30, 30, 1 / (1 + std::exp(-x)));
    DOUBLE_WITHIN(6, gelu, -20, 8, x * std::erfc(-x * std::sqrt(0.5L)) / 2);
    DOUBLE_WITHIN(0, floor, -1e16, 1e16, std::floor(x));
    DOUBLE_WITHIN(0, ceil, -1e16, 1e16, std::ceil(x));
    DOUBLE_WITHIN(0, round, -1e16, 1e16, std::nearbyint(x));
}

TEST(elementwise_expm1_keeps_its_digits_near_0) {
    for (float x = 1e-44f; x < 90; x = x * 1.07f + 1e-44f)
        for (float s : {x, -x}) {
            CHECK(ulps<float>(math::expm1(s), std::expm1(static_cast<double>(s))) <= 2);
            CHECK(ulps<double>(math::expm1(s * 7.77), std::expm1(static_cast<long double>(s * 7.77))) <= 2);
        }
}

TEST(elementwise_gelu_keeps_its_digits_in_the_tail) {
    for (float x = -12; x < 9; x += 0.0037f) {
        float y;
        unary<scalar::gelu>(&y, row(&x, 1));
        CHECK(ulps<float>(y, x * std::erfc(-x * std::sqrt(0.5)) / 2) <= 6);
    }
}

template <class T>
static void powers() {
    const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
    std::vector<T> bases = {0, -T(0), 1, -1, 2, -2, T(0.5), T(-0.5), 3, inf, -inf, nan, T(1e-30), T(1e30), T(-1.5), 10};
    const std::vector<T> exponents = {0,       -T(0),  1,   -1,   2,   -2, 3,       -3, T(0.5),
                                      T(-0.5), T(2.5), inf, -inf, nan, 31, T(1e30), -8};
    for (const T b : exponents) {
        std::vector<T> y(bases.size());
        binary<scalar::pow>(y.data(), row(bases), view_of(&b, {static_cast<i64>(bases.size())}, {0}));
        for (std::size_t i = 0; i < bases.size(); ++i)
            CHECK(ulps<T>(y[i], std::pow(static_cast<long double>(bases[i]), static_cast<long double>(b))) <= 1.5);
    }
}
TEST(elementwise_pow_float) { powers<float>(); }
TEST(elementwise_pow_double) { powers<double>(); }

TEST(elementwise_nan_infinity_and_zero) {
    const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    const std::vector<float> x = {nan, -0.0f, inf, -inf, 2.5f, -0.5f};
    const auto gives = [&]<class Op>(Op, const std::vector<float>& expected) {
        std::vector<float> y(x.size());
        unary<Op>(y.data(), row(x));
        CHECK(std::isnan(y[0]) && std::isnan(expected[0]));
        for (std::size_t i = 1; i < x.size(); ++i)
            CHECK(y[i] == expected[i] || (std::isnan(y[i]) && std::isnan(expected[i])));
    };
    gives(scalar::relu{}, {nan, 0, inf, 0, 2.5f, 0});
    gives(scalar::sign{}, {nan, 0, 1, -1, 1, -1});
    gives(scalar::neg{}, {nan, 0, -inf, inf, -2.5f, 0.5f});
    gives(scalar::round{}, {nan, 0, inf, -inf, 2, 0});
    gives(scalar::reciprocal{}, {nan, -inf, 0, 0, 0.4f, -2});
    gives(scalar::gelu{}, {nan, 0, inf, nan, 2.5f * 0.99379033f, -0.5f * 0.30853754f});
    gives(scalar::sigmoid{}, {nan, 0.5f, 1, 0, 0.92414182f, 0.37754067f});
    std::vector<float> y(x.size());
    const float one = 1;
    const auto ones = view_of(&one, {6}, {0});
    binary<scalar::maximum>(y.data(), row(x), ones);
    CHECK(std::isnan(y[0]) && y[2] == inf && y[3] == 1);
    binary<scalar::minimum>(y.data(), ones, row(x));
    CHECK(std::isnan(y[0]) && y[2] == 1 && y[3] == -inf);
    std::array<bool, 6> b;
    predicate<scalar::isnan>(b.data(), row(x));
    CHECK((b == std::array{true, false, false, false, false, false}));
    predicate<scalar::isinf>(b.data(), row(x));
    CHECK((b == std::array{false, false, true, true, false, false}));
    predicate<scalar::isfinite>(b.data(), row(x));
    CHECK((b == std::array{false, true, false, false, true, true}));
    predicate<scalar::logical_not>(b.data(), row(x));
    CHECK((b == std::array{false, true, false, false, false, false}));
    compare<scalar::ne>(b.data(), row(x), row(x));
    CHECK((b == std::array{true, false, false, false, false, false}));
    compare<scalar::logical_xor>(b.data(), row(x), ones);
    CHECK((b == std::array{false, true, false, false, false, false}));
}

// ---- places ---------------------------------------------------------------------------------------------------------

/// f(y) for a buffer of exactly n elements that starts `shift` bytes beyond an aligned address.
template <class T, class F>
static std::vector<T> shifted_result(i64 n, std::size_t shift, F&& f) {
    const auto bytes = static_cast<std::size_t>(n) * sizeof(T);
    const std::unique_ptr<char[]> memory(new char[bytes + shift]);
    f(reinterpret_cast<T*>(memory.get() + shift));
    std::vector<T> y(static_cast<std::size_t>(n));
    if (n) std::memcpy(y.data(), memory.get() + shift, bytes);
    return y;
}

// The same numbers at every offset and length, in exact buffers: registers, tails, blocks and threads must agree.
template <class Op, class T>
static void same_value_everywhere() {
    for (i64 n : {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 70001}) {
        const std::vector<T> x = numbers<T>(n);
        std::vector<T> y(x.size()), again(x.size());
        unary<Op>(y.data(), row(x));
        for (i64 i = 0; i < std::min<i64>(n, 70); ++i) {
            T alone;
            unary<Op>(&alone, row(x.data() + i, 1));
            CHECK(std::memcmp(&alone, &y[i], sizeof alone) == 0);
        }
        for (int threads : {2, 4}) {
            set_num_threads(threads);
            unary<Op>(again.data(), row(x));
            CHECK(same(again, y));
        }
        set_num_threads(1);
        const auto memory = shifted_result<T>(n, 3, [&](T* from) {
            if (n) std::memcpy(from, x.data(), x.size() * sizeof(T));
            CHECK(same(shifted_result<T>(n, 1, [&](T* to) { unary<Op>(to, row(from, n)); }), y));
            unary<Op>(from, row(from, n));
        });
        CHECK(same(memory, y));  // in place
        std::vector<T> apart(2 * x.size() + 1);
        for (i64 i = 0; i < n; ++i) apart[2 * i] = x[n - 1 - i];
        unary<Op>(again.data(), view_of(apart.data() + 2 * (n - 1) * (n > 0), {n}, {-2}));
        CHECK(same(again, y));
    }
}
TEST(elementwise_same_value_everywhere) {
    same_value_everywhere<scalar::exp, float>();
    same_value_everywhere<scalar::exp, double>();
    same_value_everywhere<scalar::gelu, float>();
    same_value_everywhere<scalar::gelu, double>();
    same_value_everywhere<scalar::sin, float>();
    same_value_everywhere<scalar::log1p, double>();
}
TEST(elementwise_huge_angles_leave_their_neighbours_alone) {
    std::vector<float> x = numbers<float>(64), y(64), with_huge(64);
    unary<scalar::sin>(y.data(), row(x));
    for (int i = 0; i < 64; i += 5) x[i] = 3e7f;
    unary<scalar::sin>(with_huge.data(), row(x));
    for (int i = 0; i < 64; ++i) CHECK(with_huge[i] == (i % 5 ? y[i] : std::sin(3e7f)));
}

struct Layout {
    std::initializer_list<i64> stride;
    i64 offset;
};
template <class T>
static void every_broadcast(i64 m, i64 k, i64 n) {
    const std::vector<T> a = numbers<T>(m * k * n * 2 + 1), b = numbers<T>(m * k * n * 2 + 1, T(1), T(9));
    const Layout layouts[] = {{{k * n, n, 1}, 0},
                              {{0, n, 1}, 0},
                              {{n, 0, 1}, 0},
                              {{k, 1, 0}, 0},
                              {{0, 0, 0}, 0},
                              {{1, m, m * k}, 0},
                              {{k * n, 1, k}, 0},
                              {{0, 0, 1}, 0},
                              {{-k * n, -n, -1}, std::max<i64>(0, m * k * n - 1)},
                              {{n, m * n, -1}, n - 1},
                              {{2 * k * n, 2 * n, 2}, 0}};
    const i64 size = m * k * n;
    const auto at = [&](const View<const T>& v, i64 i) {
        return v.data[i / (k * n) * v.stride[0] + i / n % k * v.stride[1] + i % n * v.stride[2]];
    };
    std::vector<char> bits(static_cast<std::size_t>(2 * size + 1)), less(static_cast<std::size_t>(size));
    for (i64 i = 0; i < 2 * size; ++i) bits[i] = i * 7919 % 101 < 40;
    std::vector<T> y(static_cast<std::size_t>(size)), chosen(y), slope(y), root(y);
    for (const Layout& p : layouts)
        for (const Layout& q : layouts) {
            const auto u = view_of(a.data() + p.offset, {m, k, n}, p.stride);
            const auto v = view_of(b.data() + q.offset, {m, k, n}, q.stride);
            // The mask lies as `a` does.
            const auto mask = view_of(reinterpret_cast<const bool*>(bits.data()) + p.offset, {m, k, n}, p.stride);
            binary<scalar::sub>(y.data(), u, v);
            compare<scalar::lt>(reinterpret_cast<bool*>(less.data()), u, v);
            where(chosen.data(), mask, u, v);
            unary_backward<scalar::square>(slope.data(), u, v);
            unary<scalar::sqrt>(root.data(), v);
            for (i64 i = 0; i < size; ++i) {
                const T left = at(u, i), right = at(v, i);
                CHECK(y[i] == left - right);
                CHECK((less[i] != 0) == (left < right));
                const i64 bit = i / (k * n) * mask.stride[0] + i / n % k * mask.stride[1] + i % n * mask.stride[2];
                CHECK(chosen[i] == (mask.data[bit] ? left : right));
                CHECK(slope[i] == left * (right + right));
                CHECK(root[i] == std::sqrt(right));
            }
        }
}
TEST(elementwise_every_broadcast) {
    every_broadcast<float>(5, 3, 19);
    every_broadcast<float>(3, 50, 40);  // larger than a block, and no multiple of one
    every_broadcast<float>(70, 1, 2);
    every_broadcast<float>(2, 0, 3);
    every_broadcast<double>(5, 3, 19);
    every_broadcast<double>(2, 37, 5);
}

TEST(elementwise_any_number_of_threads) {
    const i64 rows = 300, cols = 701;
    const std::vector<float> a = numbers<float>(rows * cols), b = numbers<float>(rows * cols);
    const auto plain = view_of(a.data(), {rows, cols}, {cols, 1});
    for (const auto& v : {view_of(b.data(), {rows, cols}, {0, 1}), view_of(b.data(), {rows, cols}, {1, 0}),
                          view_of(b.data(), {rows, cols}, {1, rows}), view_of(b.data(), {rows, cols}, {cols, 1})}) {
        std::vector<float> first(rows * cols), y(rows * cols);
        for (int threads : {1, 2, 4}) {
            set_num_threads(threads);
            binary<scalar::pow>(y.data(), plain, v);
            if (threads == 1) first = y;
            CHECK(same(y, first));
        }
        set_num_threads(1);
    }
}

/// The formulas for one number, which the CUDA simulator runs.
template <class Op, class T>
static void one_number_as_a_register() {
    const std::vector<T> x = numbers<T>(200, T(-4), T(30));
    std::vector<T> y(x.size());
    unary<Op>(y.data(), row(x));
    for (std::size_t i = 0; i < x.size(); ++i) CHECK(ulps<T>(Op::f(x[i]), y[i]) <= 2);
}
TEST(elementwise_one_number_as_a_register) {
#define AS_A_REGISTER(op)                          \
    one_number_as_a_register<scalar::op, float>(); \
    one_number_as_a_register<scalar::op, double>();
    GLASSGRAD_UNARY(AS_A_REGISTER)
#undef AS_A_REGISTER
    CHECK(scalar::pow::f(2.0f, 0.5f) == std::sqrt(2.0f) && scalar::pow::f(-2.0, 3.0) == -8);
    CHECK(scalar::isnan::f(std::sqrt(-1.0)) && scalar::le::f(1.0f, 1.0f) && !scalar::isfinite::f(HUGE_VAL));
}

// ---- derivatives ----------------------------------------------------------------------------------------------------

template <class Op>
static void slope_of(double low, double high, bool keeps_output) {
    const std::vector<double> x = numbers<double>(101, low, high), dy = numbers<double>(101);
    std::vector<double> y(101), above(101), below(101), up(101), down(101), dx(101);
    const double h = 1e-5;
    for (int i = 0; i < 101; ++i) up[i] = x[i] + h, down[i] = x[i] - h;
    unary<Op>(y.data(), row(x));
    unary<Op>(above.data(), row(up));
    unary<Op>(below.data(), row(down));
    unary_backward<Op>(dx.data(), row(dy), row(keeps_output ? y : x));
    for (int i = 0; i < 101; ++i) CHECK_CLOSE(dx[i], dy[i] * (above[i] - below[i]) / (2 * h), 1e-7);
}
TEST(elementwise_slopes) {
    slope_of<scalar::abs>(0.5, 2, false);
    slope_of<scalar::square>(-2, 3, false);
    slope_of<scalar::reciprocal>(0.5, 3, true);
    slope_of<scalar::sqrt>(0.5, 3, true);
    slope_of<scalar::rsqrt>(0.5, 3, true);
    slope_of<scalar::exp>(-2, 2, true);
    slope_of<scalar::log>(0.5, 3, false);
    slope_of<scalar::log1p>(-0.5, 3, false);
    slope_of<scalar::sin>(-4, 4, false);
    slope_of<scalar::cos>(-4, 4, false);
    slope_of<scalar::tanh>(-2, 2, true);
    slope_of<scalar::sigmoid>(-4, 4, true);
    slope_of<scalar::erf>(-2, 2, false);
    slope_of<scalar::relu>(0.5, 3, true);
    slope_of<scalar::silu>(-4, 4, false);
    slope_of<scalar::softplus>(-4, 4, false);
    slope_of<scalar::logsigmoid>(-4, 4, false);
    slope_of<scalar::gelu>(-4, 4, false);
    slope_of<scalar::gelu_tanh>(-4, 4, false);
}
