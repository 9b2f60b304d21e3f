// exp, log, tanh, erf, sin ...: each written once over V, which is float, double or a register of either.
//
// All reduce the argument to a short interval, where a series of known remainder does: no table, and no branch that
// depends on the data but for sines of huge angles. So a number gives the same result in every lane of every register.
// Errors stay within 2 ulp (sigmoid 2.5, gelu_tanh 3; normal_distribution 6, in the lower tail): docs/accuracy.md.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/simd.h"

namespace glassgrad::math {

// ---- bits -----------------------------------------------------------------------------------------------------------

template <class V>
inline constexpr bool SINGLE = std::is_same_v<Element<V>, float>;
template <class V>
inline constexpr int MANTISSA = SINGLE<V> ? 23 : 52;  // bits after the point
template <class V>
inline constexpr int BIAS = SINGLE<V> ? 127 : 1023;  // of the exponent

template <class V>
struct IntegerOf {
    using type = Mask<Element<V>>;
};
template <>
struct IntegerOf<float> {
    using type = std::int32_t;
};
template <>
struct IntegerOf<double> {
    using type = std::int64_t;
};
/// As many signed integers as V has numbers, of the same width.
template <class V>
using Integer = typename IntegerOf<V>::type;
template <class V>
using ScalarInteger = Integer<Element<V>>;

template <class V>
inline Integer<V> bits(const V& v) {
    return std::bit_cast<Integer<V>>(v);
}
template <class V>
inline V from_bits(const Integer<V>& i) {
    return std::bit_cast<V>(i);
}

template <class V>
inline V absolute(const V& x) {
    return from_bits<V>(bits(x) & std::numeric_limits<ScalarInteger<V>>::max());
}
/// |magnitude| with the sign of `sign`.
template <class V>
inline V copy_sign(const V& magnitude, const V& sign) {
    using Limits = std::numeric_limits<ScalarInteger<V>>;
    return from_bits<V>((bits(magnitude) & Limits::max()) | (bits(sign) & Limits::min()));
}
/// x brought into [low, high]; NaN stays.
template <class V>
inline V clamp(const V& x, double low, double high) {
    const V above = select(x < constant<V>(low), constant<V>(low), x);
    return select(above > constant<V>(high), constant<V>(high), above);
}

/// Added to a number below 2^(MANTISSA - 1), this rounds it to an integer, which the low bits of the sum then hold.
template <class V>
inline constexpr double ROUNDER = SINGLE<V> ? 0x1.8p23 : 0x1.8p52;
/// An integer as V. AVX2 converts no 64-bit integers; an addition does.
template <class V>
inline V to_floating(const Integer<V>& i) {
    const V rounder = constant<V>(ROUNDER<V>);
    return from_bits<V>(i + bits(rounder)) - rounder;
}
/// 2^n for -BIAS < n <= BIAS; 0 for n = -BIAS.
template <class V>
inline V power_of_two(const Integer<V>& n) {
    return from_bits<V>((n + BIAS<V>) << MANTISSA<V>);
}

// ---- lanes ----------------------------------------------------------------------------------------------------------

/// f of each number by itself, where `mask` says so; y elsewhere.
template <class V, class M, class F, class... X>
inline V each_lane(const M& mask, const V& y, F&& f, const X&... x) {
    if constexpr (std::is_floating_point_v<V>) {
        return mask ? f(x...) : y;
    } else {
        V z = y;
        if (any(mask))
            for (int i = 0; i < W<Element<V>>; ++i)
                if (mask[i]) z[i] = f(x[i]...);
        return z;
    }
}

/// f() where `mask` says so; y elsewhere. f is not called where no lane asks for it.
template <class V, class M, class F>
inline V where_needed(const M& mask, const V& y, F&& f) {
    if constexpr (std::is_floating_point_v<V>)
        return mask ? f() : y;
    else
        return any(mask) ? select(mask, f(), y) : y;
}

/// f, a function of doubles, for V of either type: a register of floats makes two of doubles.
template <class F, class V, class... More>
inline V in_double(F&& f, const V& x, const More&... more) {
    if constexpr (!SINGLE<V>) {
        return f(x, more...);
    } else if constexpr (std::is_floating_point_v<V>) {
        return static_cast<V>(f(static_cast<double>(x), static_cast<double>(more)...));
    } else {
        typedef float Half __attribute__((vector_size(VECTOR_BYTES / 2)));
        return [&]<int... I>(std::integer_sequence<int, I...>) -> V {
            const auto low = [](const V& v) {
                return __builtin_convertvector(__builtin_shufflevector(v, v, I...), Vec<double>);
            };
            const auto high = [](const V& v) {
                return __builtin_convertvector(__builtin_shufflevector(v, v, I + W<double>...), Vec<double>);
            };
            const Half first = __builtin_convertvector(f(low(x), low(more)...), Half);
            const Half second = __builtin_convertvector(f(high(x), high(more)...), Half);
            return __builtin_shufflevector(first, second, I..., I + W<double>...);
        }(std::make_integer_sequence<int, W<double>>{});
    }
}

// ---- twice the digits -----------------------------------------------------------------------------------------------

/// A number as value + error, |error| being at most half an ulp of value.
template <class V>
struct Exact {
    V value, error;
};
/// a b + c, rounded once, as no compiler may then write it anew. Slow where the hardware does not fuse.
template <class V>
inline V fused(const V& a, const V& b, const V& c) {
    if constexpr (std::is_floating_point_v<V>) {
        return std::fma(a, b, c);
    } else {
        using T = Element<V>;
        T x[W<T>], y[W<T>], z[W<T>];
        store(x, a), store(y, b), store(z, c);
        for (int i = 0; i < W<T>; ++i) z[i] = std::fma(x[i], y[i], z[i]);  // one instruction for all
        return load(z);
    }
}
/// a b without error, unless it underflows. Without fusing, by Dekker 1971: halves of numbers have exact products.
template <class V>
inline Exact<V> exact_product(const V& a, const V& b) {
    const V p = a * b;
    if constexpr (FUSED) {
        return {p, fused<V>(a, b, -p)};
    } else {
        constexpr int LOWER = SINGLE<V> ? 12 : 27;
        const auto upper = [](const V& x) { return from_bits<V>(bits(x) & -(ScalarInteger<V>{1} << LOWER)); };
        const V a_upper = upper(a), b_upper = upper(b), a_lower = a - a_upper, b_lower = b - b_upper;
        return {p, ((a_upper * b_upper - p) + (a_upper * b_lower + a_lower * b_upper)) + a_lower * b_lower};
    }
}
/// a + b without error (Knuth 1969).
template <class V>
inline Exact<V> exact_sum(const V& a, const V& b) {
    const V sum = a + b, from_b = sum - a;
    return {sum, (a - (sum - from_b)) + (b - from_b)};
}
/// A constant, with what its Element rounds off.
template <class V>
inline Exact<V> exact_constant(long double x) {
    const auto rounded = static_cast<Element<V>>(x);
    return {constant<V>(static_cast<double>(rounded)), constant<V>(static_cast<double>(x - rounded))};
}

// ---- series ---------------------------------------------------------------------------------------------------------

/// c[0] + c[1] x + c[2] x^2 + ... by Horner's rule, whose steps wait 4 cycles each for the one before. From seven terms
/// on, those above x are two shorter sums, of the even and of the odd powers; the first two, which decide the rounding,
/// stay as they are.
template <class V, std::size_t N>
inline V polynomial(const V& x, const std::array<double, N>& c) {
    constexpr std::size_t FIRST = N < 7 ? 0 : 2, STEP = N < 7 ? 1 : 2;
    const auto horner = [&](const V& z, std::size_t last, std::size_t first) {
        V sum = constant<V>(c[last]);
#pragma GCC unroll 32
        for (std::size_t k = last; k > first; k -= STEP) sum = sum * z + constant<V>(c[k - STEP]);
        return sum;
    };
    if constexpr (STEP == 1) {
        return horner(x, N - 1, FIRST);
    } else {
        const V z = x * x, even = horner(z, N - 1 - (N + 1) % 2, FIRST), odd = horner(z, N - 1 - N % 2, FIRST + 1);
        return ((odd * x + even) * x + constant<V>(c[1])) * x + constant<V>(c[0]);
    }
}
/// The sum of term(k) x^k for k < N; the compiler computes the coefficients.
template <int N, class V, class Term>
inline V series(const V& x, Term) {
    static constexpr auto COEFFICIENTS = [] {
        std::array<double, N> c{};
        for (int k = 0; k < N; ++k) c[static_cast<std::size_t>(k)] = Term{}(k);
        return c;
    }();
    return polynomial(x, COEFFICIENTS);
}
constexpr double inverse_factorial(int n) {
    double f = 1;
    for (int k = 2; k <= n; ++k) f *= k;
    return 1 / f;
}
constexpr double alternating(int k) { return k % 2 ? -1 : 1; }

// ---- exponentials ---------------------------------------------------------------------------------------------------

namespace detail {

inline constexpr double LOG2_E = 1.44269504088896340736;
// ln 2 in two parts, the first of 15 or 41 bits: n times it is exact, so that x - n ln 2 keeps its digits.
template <class V>
inline constexpr double LN2_HIGH = SINGLE<V> ? 0x1.62e4p-1 : 0x1.62e42fefa38p-1;
template <class V>
inline constexpr double LN2_LOW = SINGLE<V> ? 0x1.7f7d1cf79abcap-20 : 0x1.ef35793c7673p-45;

template <class V>
struct Reduced {
    V r;           // |r| <= ln 2 / 2
    Integer<V> n;  // x - low = n ln 2 + r
};
template <class V>
inline Reduced<V> reduce_exp(const V& x, const V& low) {
    const V rounder = constant<V>(ROUNDER<V>);
    const V shifted = x * constant<V>(LOG2_E) + rounder, n = shifted - rounder;
    return {((x - n * constant<V>(LN2_HIGH<V>)) - low) - n * constant<V>(LN2_LOW<V>), bits(shifted) - bits(rounder)};
}

/// factor e^(x - low) with |low| < 0.1, for what would lose digits if it were one number; where e^x alone would be
/// denormal, the factor comes in before it loses them.
template <class V>
inline V times_exp(const V& factor, const V& x, const V& low) {
    // Beyond these e^x is infinite, or rounds to 0; inside them n fits the two factors of 2^n below. A product that
    // underflows takes 150 cycles: what becomes 0, as missing lanes of -inf do, is computed as e^0.
    const V high = constant<V>(SINGLE<V> ? 89 : 710), zero{};
    const auto vanishes = x < constant<V>(SINGLE<V> ? -106 : -749);
    const auto [r, n] = reduce_exp(select(vanishes, zero, select(x > high, high, x)), select(vanishes, zero, low));
    const V p = series<SINGLE<V> ? 9 : 14>(r, [](int k) { return inverse_factorial(k); });
    const Integer<V> half = n >> 1;  // in two steps, since 2^n itself may be denormal or infinite
    const V scale = select(vanishes, zero, power_of_two<V>(half));  // an infinite factor times 0 is NaN
    return factor * p * scale * power_of_two<V>(n - half);
}

}  // namespace detail

/// e^x = 2^n e^r. Series to r^8 (float, remainder 2e-10) or r^13 (double, 4e-18).
template <class V>
inline V exp(const V& x) {
    return detail::times_exp(constant<V>(1), x, V{});
}

/// e^x for x <= 0 (or a little above), where a result below 2^-126 (double: 2^-1022) may as well be 0: a softmax's.
/// One clamp and one factor 2^n instead of two: 17 instructions instead of 26.
template <class V>
inline V exp_nonpositive(const V& x) {
    const V low = constant<V>(SINGLE<V> ? -88 : -709.2);  // n is -BIAS there, and 2^n 0
    const auto [r, n] = detail::reduce_exp(V(select(x < low, low, x)), V{});
    return series<SINGLE<V> ? 8 : 14>(r, [](int k) { return inverse_factorial(k); }) * power_of_two<V>(n);
}

/// e^x - 1 = 2^n (e^r - 1) + (2^n - 1), without the cancellation near 0. Series as in exp.
template <class V>
inline V expm1(const V& x) {
    const auto [r, n] = detail::reduce_exp(clamp(x, SINGLE<V> ? -30 : -50, SINGLE<V> ? 89 : 710), V{});
    const V p = r + r * r * series<SINGLE<V> ? 7 : 13>(r, [](int k) { return inverse_factorial(k + 2); });
    const V scale = power_of_two<V>(n - 1);  // half of 2^n, which may be infinite where e^x - 1 is not
    const V y = (scale * p + (scale - constant<V>(0.5))) * constant<V>(2);
    return select(x == V{}, x, select(n == 0, p, y));  // -0.0 stays
}

// ---- logarithms -----------------------------------------------------------------------------------------------------

namespace detail {

template <class V>
struct Parts {
    V f;  // |x| = 2^e (1 + f), f in [sqrt(1/2) - 1, sqrt(2) - 1]
    Integer<V> e;
};
template <class V>
inline Parts<V> split(const V& x) {
    constexpr auto ROOT_HALF = std::bit_cast<ScalarInteger<V>>(static_cast<Element<V>>(0.70710678118654752440));
    const Integer<V> i = bits(absolute(x)), e = (i - ROOT_HALF) >> MANTISSA<V>;
    return {from_bits<V>(i - (e << MANTISSA<V>)) - constant<V>(1), e};
}
/// e ln 2 + ln(1 + f). With s = f / (2 + f): ln(1 + f) = f - (f^2/2 - s (f^2/2 + R)), R = 2/3 s^2 + 2/5 s^4 + ...;
/// |s| < 0.172, so that after N terms of R the remainder is 2e-10 (5), 2e-13 (7) or 3e-19 (11) of f.
template <class V>
inline constexpr int LOG_TERMS = SINGLE<V> ? 5 : 11;
template <int N, class V>
inline V log_of_parts(const V& f, const V& e) {
    const V s = f / (constant<V>(2) + f), z = s * s, square = f * f * constant<V>(0.5);
    const V r = z * series<N>(z, [](int k) { return 2.0 / (2 * k + 3); });
    return e * constant<V>(LN2_HIGH<V>) - ((square - (s * (square + r) + e * constant<V>(LN2_LOW<V>))) - f);
}

}  // namespace detail

/// -inf at 0, NaN below.
template <class V>
inline V log(const V& x) {
    using Limits = std::numeric_limits<Element<V>>;
    constexpr double SCALE = SINGLE<V> ? 0x1p23 : 0x1p52;
    const auto tiny = x < constant<V>(Limits::min());  // denormal: scaled up, its exponent corrected
    const auto [f, scaled] = detail::split(select(tiny, x * constant<V>(SCALE), x));
    const V e = to_floating<V>(scaled) - select(tiny, constant<V>(MANTISSA<V>), V{});
    const V y = detail::log_of_parts<detail::LOG_TERMS<V>>(f, e);
    const V special =
        select(x == V{}, constant<V>(-Limits::infinity()), select(x < V{}, constant<V>(Limits::quiet_NaN()), x));
    return select((x > V{}) & (x < constant<V>(Limits::infinity())), y, special);
}

/// ln(1 + x), with the digits of x that 1 + x rounds off added to f. -inf at -1, NaN below.
template <class V>
inline V log1p(const V& x) {
    using Limits = std::numeric_limits<Element<V>>;
    const V one = constant<V>(1), u = one + x;
    const auto [f, e] = detail::split(u);
    const V lost = select(x < one, x - (u - one), one - (u - x));
    // 2^-e in two steps: it is denormal at the largest x. Where e = 0, the sum is x itself.
    const V y = detail::log_of_parts<detail::LOG_TERMS<V>>(f + lost * constant<V>(0.5) * power_of_two<V>(1 - e),
                                                           to_floating<V>(e));
    const V special =
        select(x < -one, constant<V>(Limits::quiet_NaN()), select(x == -one, constant<V>(-Limits::infinity()), x));
    return select((x > -one) & (x < constant<V>(Limits::infinity())) & (x != V{}), y, special);  // -0.0 stays
}

// ---- sigmoids -------------------------------------------------------------------------------------------------------

namespace detail {

/// tanh x = sum_k c_k x^(2k+1). tanh' = 1 - tanh^2 gives (2k + 3) c_(k+1) = -sum_(i+j=k) c_i c_j.
constexpr double tanh_coefficient(int n) {
    double c[16] = {1};
    for (int k = 0; k < n; ++k) {
        for (int i = 0; i <= k; ++i) c[k + 1] -= c[i] * c[k - i];
        c[k + 1] /= 2 * k + 3;
    }
    return c[n];
}

/// tanh a for 0 <= a < 0.3: series to a^13 (float, remainder 2e-9) or a^25 (double, 4e-18).
template <class V>
inline V tanh_near_0(const V& a) {
    const V z = a * a;
    return a + a * z * series<SINGLE<V> ? 6 : 12>(z, [](int k) { return tanh_coefficient(k + 1); });
}

}  // namespace detail

/// Near 0 the series: the quotient would round three times. Beyond, (e^2a - 1) / (e^2a + 1) with a = |x|, which is 1 to
/// the last digit from a = 10 (float) or 20 (double) on.
template <class V>
inline V tanh(const V& x) {
    const V a = clamp(absolute(x), 0, SINGLE<V> ? 10 : 20), t = expm1<V>(a + a);
    return copy_sign(select(a < constant<V>(0.3), detail::tanh_near_0(a), t / (t + constant<V>(2))), x);
}

namespace detail {

/// factor / (1 + e^-(x + low)), by e^-|x|, which cannot overflow. What 1 + e rounds off is worth half an ulp: the
/// quotient gets it back.
template <class V>
inline V times_sigmoid(const V& factor, const V& x, const V& low) {
    const V one = constant<V>(1), minus = -absolute(x), rest = select(x < V{}, -low, low);
    const V e = times_exp<V>(one, minus, rest), d = one + e, lost = e - (d - one), t = one / d;
    return select(x < V{}, times_exp<V>(factor, minus, rest), factor) * (t - t * (t * lost));
}

}  // namespace detail

/// 1 / (1 + e^-x).
template <class V>
inline V sigmoid(const V& x) {
    return detail::times_sigmoid(constant<V>(1), x, V{});
}
/// x sigmoid(x).
template <class V>
inline V silu(const V& x) {
    return detail::times_sigmoid(x, x, V{});
}

/// factor sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), gelu's approximation of the normal distribution. The argument is
/// computed with twice the digits: at x = -9 it is -66, and half an ulp of it would be 30 of the result.
template <class V>
inline V times_sigmoid_of_cubic(const V& factor, const V& x) {
    constexpr long double SLOPE = 1.59576912160573071176L;
    const Exact<V> first = exact_constant<V>(SLOPE), third = exact_constant<V>(SLOPE * 0.044715L);
    const Exact<V> square = exact_product(x, x), product = exact_product(square.value, third.value);
    const Exact<V> sum = exact_sum(first.value, product.value), cubic = exact_product(sum.value, x);
    const V rest = sum.error + (product.error + square.error * third.value + square.value * third.error + first.error);
    return detail::times_sigmoid(factor, cubic.value, V(cubic.error + rest * x));
}

/// ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|).
template <class V>
inline V softplus(const V& x) {
    return maximum(x, V{}) + log1p(exp<V>(-absolute(x)));
}

// ---- the normal distribution ----------------------------------------------------------------------------------------

namespace detail {

/// erf a = 2/sqrt(pi) (a - a^3/3 + a^5/10 - ...) for a <= 0.9; remainder 2e-9 (float) or 2e-18 (double).
template <class V>
inline V erf_near_0(const V& a) {
    const V rest = series<SINGLE<V> ? 10 : 17>(a * a, [](int k) {
        const double c = alternating(k) * inverse_factorial(k) / (2 * k + 1) * 1.12837916709551257390;
        return k == 0 ? c - 1 : c;  // a is added by itself: what is added to it rounds three bits later
    });
    return a + a * rest;
}

/// e^(a^2) erfc(a) = P((a - K) / (a + K)) / (a + K) for a in [0.69, 10.1] (float) or [0.69, 27.5] (double). P is the
/// minimax polynomial: of degree 8 with K = 2.5, error 2^-29.8; of degree 20 with K = 3, 2^-57.8.
template <class V>
inline V scaled_erfc(const V& a) {
    constexpr double K = SINGLE<V> ? 2.5 : 3;
    static constexpr std::array<double, 9> P8 = {
        1.05403185,   -0.804651856,   0.453914225,     -0.171250463,   0.0283590183,
        0.0083849933, -0.00479624467, -0.000403415354, 0.000619828526,
    };
    static constexpr std::array<double, 21> P20 = {
        1.0740069070883398,     -0.8833944531698837,     0.5902283571041023,     -0.3104672619005436,
        0.11952776128725214,    -0.02682723462548703,    -0.001212416625734821,  0.0030340620202555227,
        -0.0005483097204590912, -0.00027677803841256386, 0.00010756180186824532, 3.0399272382270616e-05,
        -1.747262972948527e-05, -4.7529004183981685e-06, 2.7735939986384448e-06, 1.0051745491900825e-06,
        -4.274053648244502e-07, -2.3614311871455763e-07, 7.147062626244997e-08,  4.346130233851604e-08,
        -1.556395372244908e-08,
    };
    const V t = constant<V>(1) / (a + constant<V>(K)), q = (a - constant<V>(K)) * t;
    if constexpr (SINGLE<V>)
        return t * polynomial(q, P8);
    else
        return t * polynomial(q, P20);
}
/// factor e^(-a^2 scale), scale being 1 or 1/2: a^2 as one number would be off by a^2 / 2 ulp.
template <class V>
inline V times_exp_of_square(const V& factor, const V& a, double scale) {
    const Exact<V> square = exact_product(a, a);
    return times_exp<V>(factor, square.value * constant<V>(-scale), square.error * constant<V>(scale));
}

}  // namespace detail

/// 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x.
template <class V>
inline V erf(const V& x) {
    const V a = clamp(absolute(x), 0, SINGLE<V> ? 4 : 6);  // 1 to the last digit from there on
    const V far = constant<V>(1) - detail::times_exp_of_square(detail::scaled_erfc(a), a, 1);
    return copy_sign(select(a < constant<V>(0.9), detail::erf_near_0(a), far), x);
}

/// factor times the distribution function of the standard normal, erfc(-x / sqrt(2)) / 2: in the lower tail without the
/// cancellation of 1 + erf.
template <class V>
inline V times_normal_distribution(const V& factor, const V& x) {
    const V one = constant<V>(1), half = constant<V>(0.5);
    const V size = clamp(absolute(x), 0, SINGLE<V> ? 15 : 39), a = size * constant<V>(0.70710678118654752440);
    // The upper tail is taken from 1; beyond the clamp either is 0.
    const V in_tail = select(x < V{}, factor, one) * half;
    const V tail = detail::times_exp_of_square<V>(in_tail * detail::scaled_erfc(a), size, 0.5);
    const V near = half + copy_sign(half * detail::erf_near_0(a), x);
    return select(a < constant<V>(0.7), factor * near, select(x < V{}, tail, factor * (one - tail)));
}
template <class V>
inline V normal_distribution(const V& x) {
    return times_normal_distribution(constant<V>(1), x);
}
/// Its density, e^(-x^2 / 2) / sqrt(2 pi).
template <class V>
inline V normal_density(const V& x) {
    return exp<V>(x * x * constant<V>(-0.5)) * constant<V>(0.39894228040143267794);
}

// ---- trigonometry ---------------------------------------------------------------------------------------------------

namespace detail {

/// sin(x + quarters pi/2) by Cody and Waite: x = n pi/2 + r, |r| <= pi/4. N terms of either series: 4 for a float, with
/// remainder 2e-9; 8 for a double, with 8e-20. `lost` is what r lacks.
template <int N, class V>
inline V sine_of(const V& r, const V& lost, const Integer<V>& quarters) {
    const V one = constant<V>(1), z = r * r, half = z * constant<V>(0.5), near_cos = one - half;
    V sin = r * z * series<N>(z, [](int k) { return -alternating(k) * inverse_factorial(2 * k + 3); });
    V cos = z * z * series<N>(z, [](int k) { return alternating(k) * inverse_factorial(2 * k + 4); });
    if constexpr (N > 4) {  // what r and near_cos lost to rounding: 1 ulp together
        sin += lost;
        cos += ((one - near_cos) - half) - r * lost;
    }
    const V y = select((quarters & 1) != 0, near_cos + cos, r + sin);
    return select((quarters & 2) != 0, -y, y);
}
inline constexpr double TWO_OVER_PI = 0.63661977236758134308;

/// Below 2^20: pi/2 in parts of 33, 33 and 53 bits; n times the first two is exact.
inline constexpr double LIMIT = 0x1p20;
template <int N, class V>
inline V sine(const V& x, int quarters) {
    const V rounder = constant<V>(ROUNDER<V>), shifted = x * constant<V>(TWO_OVER_PI) + rounder;
    const V n = shifted - rounder;
    const V second = n * constant<V>(0x1.0b4611a6p-34), third = n * constant<V>(0x1.3198a2e037073p-69);
    const V u = x - n * constant<V>(0x1.921fb544p+0), v = u - second, r = v - third;
    return sine_of<N>(r, V(((u - v) - second) + ((v - r) - third)), Integer<V>(bits(shifted) + quarters));
}
/// In double for float too: the result is all but correctly rounded.
template <class V>
inline V sine_in_double(const V& x, int quarters) {
    return in_double([=](const auto& v) { return sine<SINGLE<V> ? 4 : 8>(v, quarters); }, x);
}

/// Of floats below 2^13, where each product of n with a part of pi/2 is rounded only together with its difference: the
/// first difference is exact, the others lose less than their last digit.
inline constexpr double FLOAT_LIMIT = 0x1p13;
template <class V>
inline V sine_in_float(const V& x, int quarters) {
    const V rounder = constant<V>(ROUNDER<V>), shifted = x * constant<V>(TWO_OVER_PI) + rounder;
    const V n = shifted - rounder;
    const V u = fused<V>(n, constant<V>(-0x1.921fb6p+0), x), v = fused<V>(n, constant<V>(0x1.777a5cp-25), u);
    const V r = fused<V>(n, constant<V>(0x1.ee59dap-50), v);
    return sine_of<4>(r, V{}, Integer<V>(bits(shifted) + quarters));
}

template <class V>
inline V sine_of_any(const V& x, int quarters) {
    if constexpr (SINGLE<V> && FUSED)
        return where_needed(absolute(x) > constant<V>(FLOAT_LIMIT), sine_in_float(x, quarters),
                            [&] { return sine_in_double(x, quarters); });
    else
        return sine_in_double(x, quarters);
}

}  // namespace detail

/// Beyond 2^20, where n pi/2 needs more digits, the C library's.
template <class V>
inline V sin(const V& x) {
    const V y = select(x == V{}, x, detail::sine_of_any(x, 0));  // -0.0 stays
    return each_lane(absolute(x) > constant<V>(detail::LIMIT), y, [](auto v) { return std::sin(v); }, x);
}
template <class V>
inline V cos(const V& x) {
    const V y = detail::sine_of_any(x, 1);
    return each_lane(absolute(x) > constant<V>(detail::LIMIT), y, [](auto v) { return std::cos(v); }, x);
}

// ---- roots, powers, integers ----------------------------------------------------------------------------------------

template <class V>
inline V sqrt(const V& x) {
    if constexpr (std::is_floating_point_v<V>) {
        return std::sqrt(x);
    } else {
        using T = Element<V>;
        T lanes[W<T>];
        store(lanes, x);
        for (T& v : lanes) v = std::sqrt(v);  // one instruction for all, with -fno-math-errno
        return load(lanes);
    }
}

/// -1, 0 or 1; NaN stays.
template <class V>
inline V sign(const V& x) {
    return select(x > V{}, constant<V>(1), select(x < V{}, constant<V>(-1), select(x == V{}, V{}, x)));
}
/// Halves to even. Exact: what is 2^MANTISSA or more has no fraction.
template <class V>
inline V round(const V& x) {
    const V a = absolute(x), rounder = constant<V>(SINGLE<V> ? 0x1p23 : 0x1p52);
    return select(a < rounder, copy_sign((a + rounder) - rounder, x), x);
}
template <class V>
inline V floor(const V& x) {
    const V n = round(x);
    return copy_sign(select(n > x, n - constant<V>(1), n), x);
}
template <class V>
inline V ceil(const V& x) {
    const V n = round(x);
    return copy_sign(select(n < x, n + constant<V>(1), n), x);
}

namespace detail {

/// |a|^b for a and b that were floats, as e^(b ln |a|): in double, whose 2^-53 leaves 2^-37 of the exponent's 128, with
/// series that end there. Any number for a = 0.
template <class V>
inline V power_of_floats(const V& a, const V& b) {
    const auto [f, e] = split(a);
    const auto [r, n] = reduce_exp(clamp(V(b * log_of_parts<7>(f, to_floating<V>(e))), -150, 150), V{});
    return series<9>(r, [](int k) { return inverse_factorial(k); }) * power_of_two<V>(n);
}

/// a^b from y = |a|^b, with the special cases of C99.
template <class V>
inline V signed_power(const V& a, const V& b, const V& y) {
    const V one = constant<V>(1), size = absolute(a), infinity = constant<V>(HUGE_VAL);
    const V whole = round(b), halves = round<V>(b * constant<V>(0.5));
    const auto odd = (whole == b) & (halves + halves != b), edge = (size == V{}) | (size == infinity);
    const V of_edge = select((size == V{}) == (b < V{}), infinity, V{});  // 0 and infinity change places where b < 0
    const V positive = select(edge, of_edge, y);
    const V negative = select(
        odd, -positive, select((whole == b) | edge, positive, constant<V>(std::numeric_limits<double>::quiet_NaN())));
    const V signed_y = select(copy_sign(one, a) < V{}, negative, positive);
    return select((b == V{}) | (a == one) | ((size == one) & (absolute(b) == infinity)), one,
                  select((a != a) | (b != b), a + b, signed_y));
}

}  // namespace detail

/// a^b, for floats in double; for doubles the C library's. Squares and cubes, the most common by far, are products.
template <class V>
inline V pow(const V& a, const V& b) {
    const auto square = b == constant<V>(2), cube = b == constant<V>(3);
    const V product = a * a * select(cube, a, constant<V>(1));
    if constexpr (SINGLE<V>)
        return where_needed(!(square | cube), product, [&] {
            return detail::signed_power(
                a, b, in_double([](const auto& u, const auto& v) { return detail::power_of_floats(u, v); }, a, b));
        });
    else
        return each_lane(!(square | cube), product, [](double u, double v) { return std::pow(u, v); }, a, b);
}

}  // namespace glassgrad::math
