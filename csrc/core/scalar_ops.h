// The formulas of the element-wise ops, one struct each, for one number or a whole register.
//
// Unary: f(x), and df(kept) with dx = dy * df(kept), where kept is the input x or the output y, as the op's row in
// python/glassgrad/ops/elementwise.py says. The lists at the end make kernels and bindings of them.
#pragma once

#include "core/math.h"

namespace glassgrad::scalar {

template <class V>
inline V one_if(const auto& condition) {
    return select(condition, constant<V>(1), V{});
}
template <class V>
inline V sign(const V& x) {
    return select(x > V{}, constant<V>(1), select(x < V{}, constant<V>(-1), select(x == V{}, V{}, x)));  // NaN stays
}

// ---- unary ------------------------------------------------------------------------------------------------------------

struct Abs {
    static auto f(const auto& x) { return math::absolute(x); }
    static auto df(const auto& x) { return sign(x); }
};
struct Exp {
    static auto f(const auto& x) { return math::exp(x); }
    static auto df(const auto& y) { return y; }
};
struct Log {
    static auto f(const auto& x) { return math::log(x); }
    template <class V>
    static V df(const V& x) {
        return constant<V>(1) / x;
    }
};
struct Log1p {
    static auto f(const auto& x) { return math::log1p(x); }
    template <class V>
    static V df(const V& x) {
        return constant<V>(1) / (x + constant<V>(1));
    }
};
struct Sqrt {
    static auto f(const auto& x) { return math::sqrt(x); }
    template <class V>
    static V df(const V& y) {
        return constant<V>(0.5) / y;
    }
};
struct Rsqrt {
    template <class V>
    static V f(const V& x) {
        return constant<V>(1) / math::sqrt(x);
    }
    template <class V>
    static V df(const V& y) {
        return y * y * y * constant<V>(-0.5);
    }
};
struct Square {
    static auto f(const auto& x) { return x * x; }
    static auto df(const auto& x) { return x + x; }
};
struct Reciprocal {
    template <class V>
    static V f(const V& x) {
        return constant<V>(1) / x;
    }
    template <class V>
    static V df(const V& y) {
        return -(y * y);
    }
};
struct Sin {
    static auto f(const auto& x) { return math::sin(x); }
    static auto df(const auto& x) { return math::cos(x); }
};
struct Cos {
    static auto f(const auto& x) { return math::cos(x); }
    template <class V>
    static V df(const V& x) {
        return -math::sin(x);
    }
};
struct Tanh {
    static auto f(const auto& x) { return math::tanh(x); }
    template <class V>
    static V df(const V& y) {
        return constant<V>(1) - y * y;
    }
};
struct Sigmoid {
    static auto f(const auto& x) { return math::sigmoid(x); }
    template <class V>
    static V df(const V& y) {
        return y * (constant<V>(1) - y);
    }
};
struct Erf {
    static auto f(const auto& x) { return math::erf(x); }
    template <class V>
    static V df(const V& x) {
        return math::exp(-(x * x)) * constant<V>(1.12837916709551257390);  // 2 / sqrt(pi)
    }
};
struct Relu {
    template <class V>
    static V f(const V& x) {
        return maximum(x, V{});
    }
    template <class V>
    static V df(const V& y) {
        return one_if<V>(y > V{});
    }
};
struct Silu {
    static auto f(const auto& x) { return x * math::sigmoid(x); }
    template <class V>
    static V df(const V& x) {
        const V s = math::sigmoid(x);
        return s * (constant<V>(1) + x * (constant<V>(1) - s));
    }
};
struct Softplus {
    template <class V>
    static V f(const V& x) {
        return select(x > constant<V>(20), x, math::softplus(x));  // PyTorch's threshold
    }
    static auto df(const auto& x) { return math::sigmoid(x); }
};
struct Logsigmoid {
    template <class V>
    static V f(const V& x) {
        return minimum(x, V{}) - math::log1p(math::exp(-math::absolute(x)));
    }
    template <class V>
    static V df(const V& x) {
        return math::sigmoid<V>(-x);
    }
};
struct Gelu {
    template <class V>
    static V distribution(const V& x) {  // of the standard normal
        return (constant<V>(1) + math::erf<V>(x * constant<V>(0.70710678118654752440))) * constant<V>(0.5);
    }
    static auto f(const auto& x) { return x * distribution(x); }
    template <class V>
    static V df(const V& x) {
        const V density = math::exp<V>(x * x * constant<V>(-0.5)) * constant<V>(0.39894228040143267794);
        return distribution(x) + x * density;
    }
};
struct GeluTanh {
    template <class V>
    static V inner(const V& x) {
        return math::tanh<V>((x + x * x * x * constant<V>(0.044715)) * constant<V>(0.79788456080286535588));
    }
    template <class V>
    static V f(const V& x) {
        return x * constant<V>(0.5) * (constant<V>(1) + inner(x));
    }
    template <class V>
    static V df(const V& x) {
        const V t = inner(x), one = constant<V>(1), slope = one + x * x * constant<V>(3 * 0.044715);
        return (t + one) * constant<V>(0.5) + x * (one - t * t) * slope * constant<V>(0.5 * 0.79788456080286535588);
    }
};

// Derivative 0, or one that needs nothing kept.
struct Neg {
    template <class V>
    static V f(const V& x) {
        return -x;
    }
};
struct Sign {
    static auto f(const auto& x) { return sign(x); }
};
struct Floor {
    static auto f(const auto& x) { return math::floor(x); }
};
struct Ceil {
    static auto f(const auto& x) { return math::ceil(x); }
};
struct Round {
    static auto f(const auto& x) { return math::round(x); }
};

// ---- binary -----------------------------------------------------------------------------------------------------------

struct Add {
    template <class V>
    static V f(const V& a, const V& b) {
        return a + b;
    }
};
struct Sub {
    template <class V>
    static V f(const V& a, const V& b) {
        return a - b;
    }
};
struct Mul {
    template <class V>
    static V f(const V& a, const V& b) {
        return a * b;
    }
};
struct Div {
    template <class V>
    static V f(const V& a, const V& b) {
        return a / b;
    }
};
struct Pow {
    template <class V>
    static V f(const V& a, const V& b) {
        if constexpr (std::is_floating_point_v<V>) {
            return std::pow(a, b);
        } else {
            V y;
            for (int i = 0; i < W<Element<V>>; ++i) y[i] = std::pow(a[i], b[i]);
            return y;
        }
    }
};
struct Maximum {
    template <class V>
    static V f(const V& a, const V& b) {
        return maximum(a, b);
    }
};
struct Minimum {
    template <class V>
    static V f(const V& a, const V& b) {
        return minimum(a, b);
    }
};

// ---- to bool: one number at a time ------------------------------------------------------------------------------------

struct Eq {
    static bool f(auto a, auto b) { return a == b; }
};
struct Ne {
    static bool f(auto a, auto b) { return a != b; }
};
struct Lt {
    static bool f(auto a, auto b) { return a < b; }
};
struct Le {
    static bool f(auto a, auto b) { return a <= b; }
};
struct Gt {
    static bool f(auto a, auto b) { return a > b; }
};
struct Ge {
    static bool f(auto a, auto b) { return a >= b; }
};
struct LogicalAnd {
    static bool f(auto a, auto b) { return (a != 0) & (b != 0); }
};
struct LogicalOr {
    static bool f(auto a, auto b) { return (a != 0) | (b != 0); }
};
struct LogicalXor {
    static bool f(auto a, auto b) { return (a != 0) ^ (b != 0); }
};
struct LogicalNot {
    static bool f(auto x) { return x == 0; }
};
struct Isnan {
    static bool f(auto x) { return x != x; }
};
struct Isinf {
    static bool f(auto x) { return math::absolute(x) == std::numeric_limits<decltype(x)>::infinity(); }
};
struct Isfinite {
    static bool f(auto x) { return math::absolute(x) < std::numeric_limits<decltype(x)>::infinity(); }
};

}  // namespace glassgrad::scalar

// The lists: op(Python's name, struct).
#define GLASSGRAD_UNARY_WITH_DERIVATIVE(op)                                                                            \
    op(abs, Abs) op(exp, Exp) op(log, Log) op(log1p, Log1p) op(sqrt, Sqrt) op(rsqrt, Rsqrt) op(square, Square)         \
    op(reciprocal, Reciprocal) op(sin, Sin) op(cos, Cos) op(tanh, Tanh) op(sigmoid, Sigmoid) op(erf, Erf)              \
    op(relu, Relu) op(silu, Silu) op(softplus, Softplus) op(logsigmoid, Logsigmoid) op(gelu, Gelu)                     \
    op(gelu_tanh, GeluTanh)
#define GLASSGRAD_UNARY(op) \
    GLASSGRAD_UNARY_WITH_DERIVATIVE(op) op(neg, Neg) op(sign, Sign) op(floor, Floor) op(ceil, Ceil) op(round, Round)
#define GLASSGRAD_BINARY(op)                                                                                \
    op(add, Add) op(sub, Sub) op(mul, Mul) op(div, Div) op(pow, Pow) op(maximum, Maximum) op(minimum, Minimum)
#define GLASSGRAD_COMPARE(op)                                                                   \
    op(eq, Eq) op(ne, Ne) op(lt, Lt) op(le, Le) op(gt, Gt) op(ge, Ge) op(logical_and, LogicalAnd) \
    op(logical_or, LogicalOr) op(logical_xor, LogicalXor)
#define GLASSGRAD_PREDICATE(op) \
    op(logical_not, LogicalNot) op(isnan, Isnan) op(isinf, Isinf) op(isfinite, Isfinite)
