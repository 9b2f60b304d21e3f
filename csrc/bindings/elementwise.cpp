#include "bindings/arguments.h"
#include "bindings/register.h"
#include "core/kernels.h"
#include "core/scalar_ops.h"

namespace glassgrad::bindings {

namespace {

using Shape = std::vector<py::ssize_t>;

bool same_shape(const py::array& a, const py::array& b) {
    return a.ndim() == b.ndim() && std::equal(a.shape(), a.shape() + a.ndim(), b.shape());
}

/// The shape that all arrays broadcast to.
Shape broadcast_shape(const char* op, std::initializer_list<const py::array*> arrays) {
    Shape shape;
    for (const py::array* a : arrays) {
        const auto ndim = static_cast<std::size_t>(a->ndim());
        if (ndim > shape.size()) shape.insert(shape.begin(), ndim - shape.size(), 1);
        for (std::size_t d = 0; d < ndim; ++d) {
            auto& extent = shape[shape.size() - ndim + d];
            const auto own = a->shape(static_cast<py::ssize_t>(d));
            if (extent == 1)
                extent = own;
            else if (own != 1 && own != extent)
                fail(op, "shapes", describe(*a), "one that broadcasts to " + describe(shape));
        }
    }
    return shape;
}
/// The view of `a` as an array of `shape`: repeated axes have stride 0.
template <class T>
View<const T> broadcast_view(const py::array& a, const Shape& shape) {
    View<const T> v;
    v.data = static_cast<const T*>(a.data());
    v.ndim = static_cast<int>(shape.size());
    const auto missing = static_cast<py::ssize_t>(shape.size()) - a.ndim();
    for (int d = 0; d < v.ndim; ++d) {
        v.shape[d] = shape[static_cast<std::size_t>(d)];
        const auto own = d - missing;
        v.stride[d] = own < 0 || a.shape(own) == 1 ? 0 : a.strides(own) / static_cast<i64>(sizeof(T));
    }
    return v;
}
/// Strides in bytes that are no multiple of the element (a field of a record array) need a copy.
template <class T>
py::array whole_strides(const py::array& a) {
    for (py::ssize_t d = 0; d < a.ndim(); ++d)
        if (a.strides(d) % static_cast<py::ssize_t>(sizeof(T))) return contiguous<T>(a);
    return a;
}

template <class Op>
py::object unary_of(const py::array& x) {
    return dispatch({&x}, [&]<class T>(T) -> py::object {
        const auto from = contiguous<T>(x);
        auto y = empty_like<T>(from);
        T* out = y.mutable_data();
        run(from.size(), [&, in = from.data(), n = from.size()] { unary<Op>(out, in, n); });
        return y;
    });
}
template <class Op>
py::object unary_gradient(const char* op, const py::array& dy, const py::array& kept) {
    return dispatch({&dy, &kept}, [&]<class T>(T) -> py::object {
        if (!same_shape(dy, kept)) expect_shape(op, "dy", dy, shape_of(kept));
        const auto gradient = contiguous<T>(dy), from = contiguous<T>(kept);
        auto dx = empty_like<T>(from);
        T* out = dx.mutable_data();
        run(from.size(), [&, a = gradient.data(), b = from.data(), n = from.size()] { unary_backward<Op>(out, a, b, n); });
        return dx;
    });
}
template <class Op>
py::object predicate_of(const py::array& x) {
    return dispatch({&x}, [&]<class T>(T) -> py::object {
        const auto from = contiguous<T>(x);
        auto y = empty_like<bool>(from);
        bool* out = y.mutable_data();
        run(from.size(), [&, in = from.data(), n = from.size()] { predicate<Op>(out, in, n); });
        return y;
    });
}

/// kernel(out, view of a, view of b) into a new array of Result, or of the operands' own type where that is void.
template <class Result, class Kernel>
py::object binary_of(const char* op, const py::array& a, const py::array& b, Kernel&& kernel) {
    return dispatch({&a, &b}, [&]<class T>(T) -> py::object {
        using R = std::conditional_t<std::is_void_v<Result>, T, Result>;
        const Shape shape = same_shape(a, b) ? shape_of(a) : broadcast_shape(op, {&a, &b});
        if (shape.size() > MAX_DIMS) return not_implemented();
        const py::array left = whole_strides<T>(a), right = whole_strides<T>(b);
        auto y = empty<R>(shape);
        R* out = y.mutable_data();
        const View<const T> u = broadcast_view<T>(left, shape), v = broadcast_view<T>(right, shape);
        run(y.size(), [&] { kernel(out, u, v); });
        return y;
    });
}

/// Both gradients of a product in one call: (dy b, dy a). Broadcast factors are left to the composed rule.
py::object mul_gradient(const py::array& dy, const py::array& a, const py::array& b) {
    if (!same_shape(a, b) || !same_shape(dy, a)) return not_implemented();
    const auto product = [](auto* y, auto&... v) { binary<scalar::Mul>(y, v...); };
    py::object da = binary_of<void>("mul_backward", dy, b, product);
    return da.is(not_implemented()) ? da : py::make_tuple(da, binary_of<void>("mul_backward", dy, a, product));
}

py::object where_of(const py::array& mask, const py::array& a, const py::array& b) {
    if (!py::isinstance<py::array_t<bool>>(mask)) return not_implemented();
    return dispatch({&a, &b}, [&]<class T>(T) -> py::object {
        const Shape shape = broadcast_shape("where", {&mask, &a, &b});
        if (shape.size() > MAX_DIMS) return not_implemented();
        const py::array left = whole_strides<T>(a), right = whole_strides<T>(b);
        auto y = empty<T>(shape);
        T* out = y.mutable_data();
        const auto m = broadcast_view<bool>(mask, shape);
        const View<const T> u = broadcast_view<T>(left, shape), v = broadcast_view<T>(right, shape);
        run(y.size(), [&] { where(out, m, u, v); });
        return y;
    });
}

}  // namespace

void register_elementwise(py::module_& m) {
    using namespace scalar;
#define BIND(name, Struct) m.def(#name, unary_of<Struct>);
    GLASSGRAD_UNARY(BIND)
#undef BIND
#define BIND(name, Struct)                                                      \
    m.def(#name "_backward", [](const py::array& dy, const py::array& kept) {   \
        return unary_gradient<Struct>(#name "_backward", dy, kept);             \
    });
    GLASSGRAD_UNARY_WITH_DERIVATIVE(BIND)
#undef BIND
#define BIND(name, Struct)                                                                             \
    m.def(#name, [](const py::array& a, const py::array& b) {                                          \
        return binary_of<void>(#name, a, b, [](auto* y, auto&... v) { binary<Struct>(y, v...); });     \
    });
    GLASSGRAD_BINARY(BIND)
#undef BIND
#define BIND(name, Struct)                                                                             \
    m.def(#name, [](const py::array& a, const py::array& b) {                                          \
        return binary_of<bool>(#name, a, b, [](bool* y, auto&... v) { compare<Struct>(y, v...); });    \
    });
    GLASSGRAD_COMPARE(BIND)
#undef BIND
#define BIND(name, Struct) m.def(#name, predicate_of<Struct>);
    GLASSGRAD_PREDICATE(BIND)
#undef BIND
    m.def("mul_backward", mul_gradient);
    m.def("where", where_of);
}

}  // namespace glassgrad::bindings
