// exp, log, tanh, erf, sin, cos ... for a whole register, or for one number: each is written once over V.
//
// All reduce the argument to a short interval, where a Taylor series of known remainder does: no table, no branch that
// depends on the data. Measured over all 2^32 floats the error stays below 2 ulp (tests/cpp/test_elementwise.cpp).
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "core/simd.h"

namespace glassgrad::math {

// ---- bits -------------------------------------------------------------------------------------------------------------

template <class T>
struct Format;
template <>
struct Format<float> {
    static constexpr int MANTISSA = 23, BIAS = 127;
    using Int = std::int32_t;
};
template <>
struct Format<double> {
    static constexpr int MANTISSA = 52, BIAS = 1023;
    using Int = std::int64_t;
};

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
/// As many integers as V has numbers, of the same width.
template <class V>
using Integer = typename IntegerOf<V>::type;

template <class V>
inline Integer<V> bits(const V& v) {
    return std::bit_cast<Integer<V>>(v);
}
template <class V>
inline V from_bits(const Integer<V>& i) {
    return std::bit_cast<V>(i);
}
/// 2^n for -BIAS < n <= BIAS.
template <class V>
inline V power_of_two(const Integer<V>& n) {
    using F = Format<Element<V>>;
    return from_bits<V>((n + F::BIAS) << F::MANTISSA);
}
/// Added to and taken from a number below 2^(MANTISSA - 1), this rounds it to an integer, which its low bits then hold.
template <class V>
inline constexpr double ROUNDER = std::is_same_v<Element<V>, float> ? 12582912.0 : 6755399441055744.0;  // 1.5 * 2^MANTISSA

template <class V>
inline V absolute(const V& x) {
    using I = typename Format<Element<V>>::Int;
    return from_bits<V>(bits(x) & std::numeric_limits<I>::max());
}
/// |magnitude| with the sign of `sign`.
template <class V>
inline V copy_sign(const V& magnitude, const V& sign) {
    using I = typename Format<Element<V>>::Int;
    return from_bits<V>((bits(magnitude) & std::numeric_limits<I>::max()) | (bits(sign) & std::numeric_limits<I>::min()));
}
template <class V, class F>
inline V each_lane(const V& x, F&& f) {
    if constexpr (std::is_floating_point_v<V>) {
        return f(x);
    } else {
        V y;
        for (int i = 0; i < W<Element<V>>; ++i) y[i] = f(x[i]);
        return y;
    }
}

// ---- series -----------------------------------------------------------------------------------------------------------

/// sum_k C(k) x^k for k in [0, N), by Horner's rule; the coefficients are computed by the compiler.
template <int N, class V, class C>
inline V series(const V& x, C) {
    static constexpr auto c = [] {
        std::array<double, N> all{};
        for (int k = 0; k < N; ++k) all[k] = C{}(k);
        return all;
    }();
    V sum = constant<V>(c[N - 1]);
#pragma GCC unroll 32
    for (int k = N - 2; k >= 0; --k) sum = sum * x + constant<V>(c[k]);
    return sum;
}
constexpr double inverse_factorial(int n) {
    double f = 1;
    for (int k = 2; k <= n; ++k) f *= k;
    return 1 / f;
}
template <class V>
inline constexpr bool SINGLE = std::is_same_v<Element<V>, float>;

// ---- exponentials -------------------------------------------------------------------------------------------------------

namespace detail {

inline constexpr double LOG2_E = 1.44269504088896340736, LN_2 = 0.69314718055994530942;
// ln 2 in two parts: n * LN2_HIGH is exact for the n that occur, so that x - n ln 2 keeps its digits.
template <class V>
inline constexpr double LN2_HIGH = SINGLE<V> ? 0.693145751953125 : 0x1.62e42fefa38p-1;
template <class V>
inline constexpr double LN2_LOW = SINGLE<V> ? 1.42860682030941723212e-6 : 0x1.ef35793c7673p-45;

template <class V>
struct Reduced {
    V r;           // |r| <= ln 2 / 2
    Integer<V> n;  // x = n ln 2 + r
};
template <class V>
inline Reduced<V> reduce_exp(const V& x) {
    const V rounder = constant<V>(ROUNDER<V>);
    const V shifted = x * constant<V>(LOG2_E) + rounder;
    const V n = shifted - rounder;
    return {x - n * constant<V>(LN2_HIGH<V>) - n * constant<V>(LN2_LOW<V>), bits(shifted) - bits(rounder)};
}

}  // namespace detail

/// e^x = 2^n e^r. Series to r^7 (float, remainder 5e-9) or r^13 (double, 4e-18).
template <class V>
inline V exp(const V& x) {
    // Beyond these e^x is infinite, or rounds to 0; inside them n fits the two factors of 2^n below.
    const V clamped = minimum(maximum(x, constant<V>(SINGLE<V> ? -104.0 : -746.0)), constant<V>(SINGLE<V> ? 89.0 : 710.0));
    const auto [r, n] = detail::reduce_exp(clamped);
    const V p = series<SINGLE<V> ? 8 : 14>(r, [](int k) { return inverse_factorial(k); });
    const Integer<V> half = n >> 1;  // in two steps, since 2^n itself may be denormal or infinite
    return p * power_of_two<V>(half) * power_of_two<V>(n - half);
}

/// e^x - 1 = 2^n (e^r - 1) + (2^n - 1), without the cancellation near 0.
template <class V>
inline V expm1(const V& x) {
    const V clamped = minimum(maximum(x, constant<V>(SINGLE<V> ? -30.0 : -50.0)), constant<V>(SINGLE<V> ? 89.0 : 710.0));
    const auto [r, n] = detail::reduce_exp(clamped);
    const V p = r + r * r * series<SINGLE<V> ? 7 : 13>(r, [](int k) { return inverse_factorial(k + 2); });
    const V scale = power_of_two<V>(n - 1);  // half of 2^n, which may be infinite where e^x - 1 is not
    const V y = (scale * p + (scale - constant<V>(0.5))) * constant<V>(2);
    return select((x == V{}) | (n == 0), select(x == V{}, x, p), y);
}

// ---- logarithms ---------------------------------------------------------------------------------------------------------

namespace detail {

/// ln(2^e (1 + f)) + correction for f in [sqrt(1/2) - 1, sqrt(2) - 1]. With s = f / (2 + f):
/// ln(1 + f) = f - (f^2/2 - s (f^2/2 + R)), R = 2/3 s^2 + 2/5 s^4 + ...; |s| < 0.172, remainder 1e-9 or 1e-19 of f.
template <class V>
inline V log_reduced(const V& f, const V& e, const V& correction) {
    const V s = f / (constant<V>(2) + f), z = s * s, square = f * f * constant<V>(0.5);
    const V r = z * series<SINGLE<V> ? 5 : 11>(z, [](int k) { return 2.0 / (2 * k + 3); });
    return e * constant<V>(LN2_HIGH<V>) - ((square - (s * (square + r) + (e * constant<V>(LN2_LOW<V>) + correction))) - f);
}
template <class V>
struct Parts {
    V f, e;  // x = 2^e (1 + f)
};
template <class V>
inline V to_floating(const Integer<V>& i) {
    if constexpr (std::is_floating_point_v<V>)
        return static_cast<V>(i);
    else
        return __builtin_convertvector(i, V);
}
template <class V>
inline Parts<V> split(const V& x) {
    using F = Format<Element<V>>;
    const Integer<V> i = bits(x);
    const auto root_half = std::bit_cast<typename F::Int>(static_cast<Element<V>>(0.70710678118654752440));
    const Integer<V> e = (i - root_half) >> F::MANTISSA;
    return {from_bits<V>(i - (e << F::MANTISSA)) - constant<V>(1), to_floating<V>(e)};
}

}  // namespace detail

template <class V>
inline V log(const V& x) {
    using T = Element<V>;
    using L = std::numeric_limits<T>;
    const auto tiny = x < constant<V>(L::min());  // denormal: scaled up, its exponent corrected
    const V scaled = select(tiny, x * constant<V>(SINGLE<V> ? 0x1p23 : 0x1p52), x);
    auto [f, e] = detail::split(scaled);
    e = select(tiny, e - constant<V>(Format<T>::MANTISSA), e);
    const V y = detail::log_reduced(f, e, V{});
    const V special = select(x == V{}, constant<V>(-L::infinity()), select(x < V{}, constant<V>(L::quiet_NaN()), x));
    return select((x > V{}) & (x < constant<V>(L::infinity())), y, special);
}

template <class V>
inline V log1p(const V& x) {
    using L = std::numeric_limits<Element<V>>;
    const V one = constant<V>(1), u = one + x;
    auto [f, e] = detail::split(u);
    const auto near = e == V{};  // then f = u - 1 has lost digits that x still has
    // What 1 + x lost to rounding, relative to u.
    const V lost = select(x < one, x - (u - one), one - (u - x)) / u;
    const V y = detail::log_reduced(select(near, x, f), e, select(near, V{}, lost));
    const V special =
        select(x == constant<V>(-1), constant<V>(-L::infinity()), select(x < constant<V>(-1), constant<V>(L::quiet_NaN()), x));
    return select((x > constant<V>(-1)) & (x < constant<V>(L::infinity())) & (x != V{}), y, special);
}

// ---- sigmoids -----------------------------------------------------------------------------------------------------------

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

}  // namespace detail

/// Near 0 the series to x^13 (float, remainder 2e-9) or x^25 (double, 4e-18): the quotient would round three times.
/// Beyond, (e^2a - 1) / (e^2a + 1) with a = |x|, which is 1 to the last digit from a = 10 (float) or 20 (double) on.
template <class V>
inline V tanh(const V& x) {
    const V a = minimum(absolute(x), constant<V>(SINGLE<V> ? 10 : 20)), z = a * a;
    const V near = a + a * z * series<SINGLE<V> ? 6 : 12>(z, [](int k) { return detail::tanh_coefficient(k + 1); });
    const V t = expm1<V>(a + a);
    return copy_sign(select(a < constant<V>(0.3), near, t / (t + constant<V>(2))), x);
}

/// 1 / (1 + e^-x), by e^-|x|, which cannot overflow.
template <class V>
inline V sigmoid(const V& x) {
    const V e = exp(-absolute(x));
    return select(x >= V{}, constant<V>(1), e) / (constant<V>(1) + e);
}

/// ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|).
template <class V>
inline V softplus(const V& x) {
    return maximum(x, V{}) + log1p(exp(-absolute(x)));
}

/// |x| < 1: 2/sqrt(pi) (x - x^3/3 + x^5/10 - ...), remainder 1e-10 (float). Beyond: 1 - e^(-x^2) P(1/(1 + x/2)), with P
/// fitted to 1e-9 of erfc, which is all a float needs there; 1 from 4 on. double: the C library's, lane by lane.
template <class V>
inline V erf(const V& x) {
    if constexpr (!SINGLE<V>) {
        return each_lane(x, [](double v) { return std::erf(v); });
    } else {
        const V a = minimum(absolute(x), constant<V>(4.2)), z = a * a;
        const V inner = a + a * series<12>(z, [](int k) {  // a by itself: what is added rounds eight digits later
                            const double c = inverse_factorial(k) / (2 * k + 1) * 1.12837916709551257390;
                            return (k % 2 ? -c : c) - (k == 0);
                        });
        static constexpr double P[] = {-0.0001474439914, 0.2848161159, 0.2602731423,  0.3458455853,
                                -0.09972076203,   0.5586678766, -0.4682033444, 0.1185193261};
        const V t = constant<V>(1) / (constant<V>(1) + a * constant<V>(0.5));
        const V outer = constant<V>(1) - exp(-z) * series<8>(t, [](int k) { return P[k]; });
        return copy_sign(select(a < constant<V>(1), inner, outer), x);
    }
}

// ---- trigonometry -------------------------------------------------------------------------------------------------------

namespace detail {

#if defined(__FMA__) || defined(__aarch64__)
inline constexpr bool FUSED = true;
#else
inline constexpr bool FUSED = false;  // n A would be rounded before it is subtracted: no reduction then
#endif
// pi/2 in three parts of 24 (53) bits; with fused multiply-adds n times each is subtracted without loss.
template <class V>
struct HalfPi;
template <class V>
    requires SINGLE<V>
struct HalfPi<V> {
    static constexpr double A = 1.57079637050628662109375, B = -4.37113900018624283e-8, C = -1.71512451004834e-15;
    static constexpr double LIMIT = FUSED ? 8192 : 0.78;  // n < 2^13: n A and x then share their last digit
};
template <class V>
    requires(!SINGLE<V>)
struct HalfPi<V> {
    static constexpr double A = 1.57079632679489655800e+00, B = 6.12323399573676603587e-17, C = -1.49738490485916983e-33;
    static constexpr double LIMIT = FUSED ? 1048576 : 0.78;
};

/// sin(x + quarter * pi/2).
template <class V>
inline V sine(const V& x, int quarter) {
    using H = HalfPi<V>;
    const V rounder = constant<V>(ROUNDER<V>);
    const V shifted = x * constant<V>(0.63661977236758134308) + rounder, n = shifted - rounder;
    const V r = ((x - n * constant<V>(H::A)) - n * constant<V>(H::B)) - n * constant<V>(H::C), z = r * r;
    const Integer<V> k = bits(shifted) - bits(rounder) + quarter;
    // To r^9 and r^10 (float; remainders 2e-9, 2e-10), r^17 and r^18 (double; 1e-19, 2e-20).
    const V sin = r + r * z * series<SINGLE<V> ? 4 : 8>(z, [](int j) { return (j % 2 ? 1 : -1) * inverse_factorial(2 * j + 3); });
    const V cos = constant<V>(1) - z * constant<V>(0.5) +
                  z * z * series<SINGLE<V> ? 4 : 8>(z, [](int j) { return (j % 2 ? -1 : 1) * inverse_factorial(2 * j + 4); });
    const V y = select((k & 1) != 0, cos, sin);
    return select((k & 2) != 0, -y, y);
}
template <class V>
inline bool any_beyond(const V& x, double limit) {
    const auto beyond = !(absolute(x) <= constant<V>(limit));
    if constexpr (std::is_floating_point_v<V>) {
        return beyond;
    } else {
        Integer<V> all = beyond;
        auto result = all[0];
        for (int i = 1; i < W<Element<V>>; ++i) result |= all[i];
        return result != 0;
    }
}

}  // namespace detail

/// Cody and Waite's reduction to [-pi/4, pi/4]; far out, where n pi/2 needs more digits, the C library's, lane by lane.
template <class V>
inline V sin(const V& x) {
    if (detail::any_beyond(x, detail::HalfPi<V>::LIMIT)) return each_lane(x, [](auto v) { return std::sin(v); });
    return select(x == V{}, x, detail::sine(x, 0));  // -0.0 stays
}
template <class V>
inline V cos(const V& x) {
    if (detail::any_beyond(x, detail::HalfPi<V>::LIMIT)) return each_lane(x, [](auto v) { return std::cos(v); });
    return detail::sine(x, 1);
}

template <class V>
inline V sqrt(const V& x) {
    if constexpr (std::is_floating_point_v<V>) {
        return std::sqrt(x);
    } else {
        using T = Element<V>;
        T lanes[W<T>];
        store(lanes, x);
        for (T& v : lanes) v = std::sqrt(v);  // one instruction with -fno-math-errno
        return load(lanes);
    }
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

}  // namespace glassgrad::math
