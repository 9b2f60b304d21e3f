// The formulas of the element-wise ops, one struct each, for one number or a whole register: the native twins of the
// rows of python/glassgrad/ops/elementwise.py, under the same names.
//
// f(x) is the op; df(dy, kept) is dx, kept being the x or the y that the row's rule asks for. Ops without df have
// derivative 0, or one that needs nothing kept. The lists at the end make kernels and bindings of them.
#pragma once

#if defined(__CUDACC__)
#include "core/device_math.h"
#else
#include "core/math.h"
#define GLASSGRAD_HOST_DEVICE
#endif

/// Heads a formula: a static function over V, on whichever device.
#define FORMULA        \
    template <class V> \
    GLASSGRAD_HOST_DEVICE static inline auto

namespace glassgrad::scalar {

// ---- unary ----------------------------------------------------------------------------------------------------------

struct abs {
    FORMULA f(const V& x) { return math::absolute(x); }
    FORMULA df(const V& dy, const V& x) { return dy * math::sign(x); }
};
struct neg {
    FORMULA f(const V& x) { return -x; }
};
struct sign {
    FORMULA f(const V& x) { return math::sign(x); }
};
struct floor {
    FORMULA f(const V& x) { return math::floor(x); }
};
struct ceil {
    FORMULA f(const V& x) { return math::ceil(x); }
};
struct round {
    FORMULA f(const V& x) { return math::round(x); }
};
struct square {
    FORMULA f(const V& x) { return x * x; }
    FORMULA df(const V& dy, const V& x) { return dy * (x + x); }
};
struct reciprocal {
    FORMULA f(const V& x) { return constant<V>(1) / x; }
    FORMULA df(const V& dy, const V& y) { return -dy * (y * y); }
};
struct sqrt {
    FORMULA f(const V& x) { return math::sqrt(x); }
    FORMULA df(const V& dy, const V& y) { return dy / (y + y); }
};
struct rsqrt {
    FORMULA f(const V& x) { return constant<V>(1) / math::sqrt(x); }
    FORMULA df(const V& dy, const V& y) { return dy * (y * y * y) * constant<V>(-0.5); }
};
struct exp {
    FORMULA f(const V& x) { return math::exp(x); }
    FORMULA df(const V& dy, const V& y) { return dy * y; }
};
struct log {
    FORMULA f(const V& x) { return math::log(x); }
    FORMULA df(const V& dy, const V& x) { return dy / x; }
};
struct log1p {
    FORMULA f(const V& x) { return math::log1p(x); }
    FORMULA df(const V& dy, const V& x) { return dy / (x + constant<V>(1)); }
};
struct sin {
    FORMULA f(const V& x) { return math::sin(x); }
    FORMULA df(const V& dy, const V& x) { return dy * math::cos(x); }
};
struct cos {
    FORMULA f(const V& x) { return math::cos(x); }
    FORMULA df(const V& dy, const V& x) { return -dy * math::sin(x); }
};
struct tanh {
    FORMULA f(const V& x) { return math::tanh(x); }
    FORMULA df(const V& dy, const V& y) { return dy * (constant<V>(1) - y * y); }
};
struct sigmoid {
    FORMULA f(const V& x) { return math::sigmoid(x); }
    FORMULA df(const V& dy, const V& y) { return dy * (y * (constant<V>(1) - y)); }
};
struct erf {
    FORMULA f(const V& x) { return math::erf(x); }
    FORMULA df(const V& dy, const V& x) {
        return dy * (math::exp<V>(-(x * x)) * constant<V>(1.12837916709551257390));  // 2 / sqrt(pi)
    }
};
struct relu {
    FORMULA f(const V& x) { return glassgrad::maximum(x, V{}); }
    FORMULA df(const V& dy, const V& y) { return dy * select(y > V{}, constant<V>(1), V{}); }
};
struct silu {
    FORMULA f(const V& x) { return math::silu(x); }
    FORMULA df(const V& dy, const V& x) {
        const V s = math::sigmoid(x), one = constant<V>(1);
        return dy * (s * (one + x * (one - s)));
    }
};
struct softplus {
    FORMULA f(const V& x) { return select(x > constant<V>(20), x, math::softplus(x)); }  // PyTorch's threshold
    FORMULA df(const V& dy, const V& x) { return dy * math::sigmoid(x); }
};
struct logsigmoid {
    FORMULA f(const V& x) { return -math::softplus<V>(-x); }
    FORMULA df(const V& dy, const V& x) { return dy * math::sigmoid<V>(-x); }
};
struct gelu {
    FORMULA f(const V& x) { return math::times_normal_distribution(x, x); }
    FORMULA df(const V& dy, const V& x) { return dy * (math::normal_distribution(x) + x * math::normal_density(x)); }
};
struct gelu_tanh {
    // (1 + tanh u) / 2 = sigmoid(2 u), which keeps its digits where tanh u is near -1.
    FORMULA f(const V& x) { return math::times_sigmoid_of_cubic(x, x); }
    FORMULA df(const V& dy, const V& x) {
        const V one = constant<V>(1), s = math::times_sigmoid_of_cubic(one, x);
        const V slope = (one + x * x * constant<V>(3 * 0.044715)) * constant<V>(2 * 0.79788456080286535588);
        return dy * (s + x * (s * (one - s)) * slope);
    }
};

// ---- binary ---------------------------------------------------------------------------------------------------------

struct add {
    FORMULA f(const V& a, const V& b) { return a + b; }
};
struct sub {
    FORMULA f(const V& a, const V& b) { return a - b; }
};
struct mul {
    FORMULA f(const V& a, const V& b) { return a * b; }
};
struct div {
    FORMULA f(const V& a, const V& b) { return a / b; }
};
struct pow {
    FORMULA f(const V& a, const V& b) { return math::pow(a, b); }
};
struct maximum {
    FORMULA f(const V& a, const V& b) { return glassgrad::maximum(a, b); }
};
struct minimum {
    FORMULA f(const V& a, const V& b) { return glassgrad::minimum(a, b); }
};

// ---- to bool --------------------------------------------------------------------------------------------------------

struct eq {
    FORMULA f(const V& a, const V& b) { return a == b; }
};
struct ne {
    FORMULA f(const V& a, const V& b) { return a != b; }
};
struct lt {
    FORMULA f(const V& a, const V& b) { return a < b; }
};
struct le {
    FORMULA f(const V& a, const V& b) { return a <= b; }
};
struct gt {
    FORMULA f(const V& a, const V& b) { return a > b; }
};
struct ge {
    FORMULA f(const V& a, const V& b) { return a >= b; }
};
struct logical_and {
    FORMULA f(const V& a, const V& b) { return (a != V{}) & (b != V{}); }
};
struct logical_or {
    FORMULA f(const V& a, const V& b) { return (a != V{}) | (b != V{}); }
};
struct logical_xor {
    FORMULA f(const V& a, const V& b) { return (a != V{}) ^ (b != V{}); }
};
struct logical_not {
    FORMULA f(const V& x) { return x == V{}; }
};
struct isnan {
    FORMULA f(const V& x) { return x != x; }
};
struct isinf {
    FORMULA f(const V& x) { return math::absolute(x) == constant<V>(HUGE_VAL); }
};
struct isfinite {
    FORMULA f(const V& x) { return math::absolute(x) < constant<V>(HUGE_VAL); }
};

}  // namespace glassgrad::scalar

#undef FORMULA

// The lists.
#define GLASSGRAD_UNARY_WITH_DERIVATIVE(op)                                                                 \
    op(abs) op(square) op(reciprocal) op(sqrt) op(rsqrt) op(exp) op(log) op(log1p) op(sin) op(cos) op(tanh) \
        op(sigmoid) op(erf) op(relu) op(silu) op(softplus) op(logsigmoid) op(gelu) op(gelu_tanh)
#define GLASSGRAD_UNARY(op) GLASSGRAD_UNARY_WITH_DERIVATIVE(op) op(neg) op(sign) op(floor) op(ceil) op(round)
#define GLASSGRAD_BINARY(op) op(add) op(sub) op(mul) op(div) op(pow) op(maximum) op(minimum)
#define GLASSGRAD_COMPARE(op) op(eq) op(ne) op(lt) op(le) op(gt) op(ge) op(logical_and) op(logical_or) op(logical_xor)
#define GLASSGRAD_PREDICATE(op) op(logical_not) op(isnan) op(isinf) op(isfinite)
