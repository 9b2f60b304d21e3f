// Every elementwise op over any views: each element as the kernel computes it alone, and as the op's formula does in
// double precision.
#include "core/scalar_ops.h"
#include "fuzz.h"

using namespace fuzz;
using namespace glassgrad;

namespace {

std::vector<i64> any_shape(Input& in) {
    std::vector<i64> shape(in.byte() % 5);
    i64 left = in.byte() % 16 ? 600 : 70000;  // the rest of the runs are large enough for two threads
    for (i64& n : shape) {
        n = in.size(std::min<i64>(left, 60000));
        left /= std::max<i64>(1, n);
    }
    return shape;
}
std::string text_of(const char* op, const std::vector<i64>& shape) {
    std::string text = std::string(op) + " of shape (";
    for (i64 n : shape) text += std::to_string(n) + ",";
    return text + ")";
}
template <class T>
View<const T> single(const T* x) {
    View<const T> v;
    v.data = x;
    return v;
}

/// The kernel of one element of each of the views must give what the whole call gave: the same bits, or within some
/// roundings of the inputs and the result.
template <class Y, class Kernel, class... T>
void check(Input& in, const char* op, const std::vector<i64>& shape, double ulps, Kernel&& kernel,
           const Strided<T>&... inputs) {
    i64 size = 1;
    for (i64 n : shape) size *= n;
    const auto text = [&] { return text_of(op, shape); };
    const Array<Y> y = output<Y>(in, size, text, [&](Y* y) { kernel(y, inputs.view...); });
    std::vector<i64> offsets[sizeof...(T)];
    int input = 0;
    (each_offset(inputs.view, [&, list = &offsets[input++]](i64 o) { list->push_back(o); }), ...);
    for (i64 i = 0; i < size; i += size > 2000 ? 37 : 1) {
        Y alone;
        int which = 0;
        // Braces: the arguments are evaluated from left to right.
        const std::tuple<View<const T>...> singles{
            single(inputs.view.data + offsets[which++][static_cast<std::size_t>(i)])...};
        std::apply([&](const auto&... v) { kernel(&alone, v...); }, singles);
        const auto here = [&] { return text() + ", alone and at " + std::to_string(i); };
        if constexpr (std::is_same_v<Y, bool>) {
            expect_same_bits(&alone, &y[i], 1, here);
        } else {
            Wide<Y> size = std::abs(Wide<Y>(alone));
            std::apply([&](const auto&... v) { ((size += std::abs(Wide<Y>(v.data[0]))), ...); }, singles);
            expect<Y>(y[i], alone, ulps > 0 ? size : 0, ulps, here);
        }
    }
}

/// ulps between the float kernel and the same formula in double.
double allowed(const std::string& op) {
    // Composed ones lose what their inner functions' condition takes.
    return op == "gelu_tanh" || op == "gelu" || op == "silu" || op == "pow" ? 200 : 4;
}

template <class Op, class T>
void run_unary(Input& in, const char* op) {
    const auto shape = any_shape(in);
    const auto x = strided<T>(in, shape);
    check<T>(in, op, shape, 0, [](T* y, const View<const T>& v) { unary<Op>(y, v); }, x);
    if constexpr (std::is_same_v<T, float>)
        if (x.memory.size() > 0) {
            float y;
            unary<Op>(&y, single<float>(x.memory.get()));
            const double expected = Op::f(static_cast<double>(x.memory[0]));
            expect<float>(y, std::abs(expected) > std::numeric_limits<float>::max() ? y : expected, std::abs(expected),
                          allowed(op), [&] { return op + (" of " + std::to_string(x.memory[0])); });
        }
}
template <class Op, class T>
void run_backward(Input& in, const char* op) {
    const auto shape = any_shape(in);
    const auto dy = strided<T>(in, shape), kept = strided<T>(in, shape);
    check<T>(in, op, shape, 256, [](T* y, const auto& u, const auto& v) { unary_backward<Op>(y, u, v); }, dy, kept);
}
template <class Op, class T>
void run_binary(Input& in, const char* op) {
    const auto shape = any_shape(in);
    const auto a = strided<T>(in, shape), b = strided<T>(in, shape);
    check<T>(in, op, shape, 0, [](T* y, const auto& u, const auto& v) { binary<Op>(y, u, v); }, a, b);
}
template <class Op, class T>
void run_compare(Input& in, const char* op) {
    const auto shape = any_shape(in);
    const auto a = strided<T>(in, shape), b = strided<T>(in, shape);
    check<bool>(in, op, shape, 0, [](bool* y, const auto& u, const auto& v) { compare<Op>(y, u, v); }, a, b);
}
template <class Op, class T>
void run_predicate(Input& in, const char* op) {
    const auto shape = any_shape(in);
    const auto x = strided<T>(in, shape);
    check<bool>(in, op, shape, 0, [](bool* y, const auto& v) { predicate<Op>(y, v); }, x);
}
template <class T>
void run_where(Input& in) {
    const auto shape = any_shape(in);
    const auto mask = strided<bool>(in, shape);
    const auto a = strided<T>(in, shape), b = strided<T>(in, shape);
    check<T>(
        in, "where", shape, 0, [](T* y, const auto& m, const auto& u, const auto& v) { where(y, m, u, v); }, mask, a,
        b);
}

template <class T>
struct Row {
    const char* op;
    void (*run)(Input&, const char*);
};
template <class T>
constexpr Row<T> ROWS[] = {
#define UNARY_ROW(op) {#op, run_unary<scalar::op, T>},
#define BACKWARD_ROW(op) {#op " backward", run_backward<scalar::op, T>},
#define BINARY_ROW(op) {#op, run_binary<scalar::op, T>},
#define COMPARE_ROW(op) {#op, run_compare<scalar::op, T>},
#define PREDICATE_ROW(op) {#op, run_predicate<scalar::op, T>},
    GLASSGRAD_UNARY(UNARY_ROW) GLASSGRAD_UNARY_WITH_DERIVATIVE(BACKWARD_ROW) GLASSGRAD_BINARY(BINARY_ROW)
        GLASSGRAD_COMPARE(COMPARE_ROW) GLASSGRAD_PREDICATE(PREDICATE_ROW)};

template <class T>
void any_op(Input& in) {
    const std::size_t row = in.byte() % (std::size(ROWS<T>) + 1);
    row == std::size(ROWS<T>) ? run_where<T>(in) : ROWS<T>[row].run(in, ROWS<T>[row].op);
}

}  // namespace

void target(Input& in) { in.flag() ? any_op<float>(in) : any_op<double>(in); }
