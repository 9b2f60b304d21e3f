// One line per op. What differs between ops is a pair of kernels, which travels as data: so each kind of op has its
// binding compiled once.
#include "bindings/arguments.h"
#include "bindings/register.h"
#include "core/kernels.h"
#include "core/scalar_ops.h"

namespace glassgrad::bindings {

namespace {

template <class T>
using Operand = const View<const T>&;

/// One kernel for float and double.
template <template <class> class Signature>
struct Kernel {
    Signature<float>* of_float;
    Signature<double>* of_double;

    template <class T>
    Signature<T>* of() const {
        if constexpr (std::is_same_v<T, float>)
            return of_float;
        else
            return of_double;
    }
};
template <class T>
using Unary = void(T*, Operand<T>);
template <class T>
using Predicate = void(bool*, Operand<T>);
template <class T>
using Binary = void(T*, Operand<T>, Operand<T>);
template <class T>
using Compare = void(bool*, Operand<T>, Operand<T>);

// ---- shapes ---------------------------------------------------------------------------------------------------------

using Shape = std::vector<py::ssize_t>;

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
                fail(op, "shapes", describe(*a), "one that broadcasts with " + describe(shape));
        }
    }
    return shape;
}

/// A view of `a` in the given shape, which it broadcasts to: repeated axes have stride 0. Keeps a copy alive.
template <class T>
struct Broadcast {
    Broadcast(const py::array& a, const Shape& shape) : array(walkable<T>(a)) {
        view.data = static_cast<const T*>(array.data());
        view.ndim = static_cast<int>(shape.size());
        const auto missing = static_cast<py::ssize_t>(shape.size()) - array.ndim();
        for (int d = 0; d < view.ndim; ++d) {
            view.shape[d] = shape[static_cast<std::size_t>(d)];
            const auto own = d - missing;
            view.stride[d] =
                own < 0 || array.shape(own) == 1 ? 0 : array.strides(own) / static_cast<py::ssize_t>(sizeof(T));
        }
    }
    const py::array array;
    View<const T> view;
};

/// kernel(y, views) into a new array of Y.
template <class Y, class F, class... X>
py::object filled(const Shape& shape, F&& kernel, const Broadcast<X>&... x) {
    auto y = empty<Y>(shape);
    Y* out = y.mutable_data();
    run(y.size(), [&] { kernel(out, x.view...); });
    return y;
}

// ---- one line per op ------------------------------------------------------------------------------------------------

void unary_op(py::module_& m, const char* name, Kernel<Unary> kernel) {
    m.def(
        name,
        [kernel](const py::array& x) {
            return dispatch({&x}, [&]<class T>(T) {
                const Shape shape = shape_of(x);
                return filled<T>(shape, *kernel.of<T>(), Broadcast<T>(x, shape));
            });
        },
        py::arg("x").noconvert());
}

void predicate_op(py::module_& m, const char* name, Kernel<Predicate> kernel) {
    m.def(
        name,
        [kernel](const py::array& x) {
            return dispatch({&x}, [&]<class T>(T) {
                const Shape shape = shape_of(x);
                return filled<bool>(shape, *kernel.of<T>(), Broadcast<T>(x, shape));
            });
        },
        py::arg("x").noconvert());
}

void unary_backward_op(py::module_& m, const char* name, Kernel<Binary> kernel) {
    m.def(
        name,
        [kernel, name](const py::array& dy, const py::array& kept) {
            return dispatch({&dy, &kept}, [&]<class T>(T) {
                const Shape shape = shape_of(kept);
                expect_shape(name, "dy", dy, shape);
                return filled<T>(shape, *kernel.of<T>(), Broadcast<T>(dy, shape), Broadcast<T>(kept, shape));
            });
        },
        py::arg("dy").noconvert(), py::arg("kept").noconvert());
}

/// A binary op or a comparison: Result<T> is what it gives for operands of T.
template <template <class> class Result, class K>
void binary_op(py::module_& m, const char* name, K kernel) {
    m.def(
        name,
        [kernel, name](const py::array& a, const py::array& b) {
            return dispatch({&a, &b}, [&]<class T>(T) {
                const Shape shape = broadcast_shape(name, {&a, &b});
                return filled<Result<T>>(shape, *kernel.template of<T>(), Broadcast<T>(a, shape),
                                         Broadcast<T>(b, shape));
            });
        },
        py::arg("a").noconvert(), py::arg("b").noconvert());
}
template <class T>
using Same = T;
template <class T>
using Bool = bool;

py::object where_op(const py::array& mask, const py::array& a, const py::array& b) {
    if (!is_native<bool>(mask)) return not_implemented();
    return dispatch({&a, &b}, [&]<class T>(T) {
        const Shape shape = broadcast_shape("where", {&mask, &a, &b});
        return filled<T>(shape, where<T>, Broadcast<bool>(mask, shape), Broadcast<T>(a, shape), Broadcast<T>(b, shape));
    });
}

/// Both gradients of a product in one call: (dy b, dy a). Broadcast factors are left to the composed rule.
py::object mul_gradient(const py::array& dy, const py::array& a, const py::array& b) {
    const Shape shape = shape_of(dy);
    if (shape_of(a) != shape || shape_of(b) != shape) return not_implemented();
    return dispatch({&dy, &a, &b}, [&]<class T>(T) -> py::object {
        const Broadcast<T> y(dy, shape), u(a, shape), v(b, shape);
        constexpr auto product = binary<scalar::mul, T>;
        return py::make_tuple(filled<T>(shape, product, y, v), filled<T>(shape, product, y, u));
    });
}

}  // namespace

void register_elementwise(py::module_& m) {
#define UNARY(op) unary_op(m, #op, {unary<scalar::op, float>, unary<scalar::op, double>});
#define BACKWARD(op) \
    unary_backward_op(m, #op "_backward", {unary_backward<scalar::op, float>, unary_backward<scalar::op, double>});
#define PREDICATE(op) predicate_op(m, #op, {predicate<scalar::op, float>, predicate<scalar::op, double>});
#define BINARY(op) binary_op<Same>(m, #op, Kernel<Binary>{binary<scalar::op, float>, binary<scalar::op, double>});
#define COMPARE(op) binary_op<Bool>(m, #op, Kernel<Compare>{compare<scalar::op, float>, compare<scalar::op, double>});
    GLASSGRAD_UNARY(UNARY)
    GLASSGRAD_UNARY_WITH_DERIVATIVE(BACKWARD)
    GLASSGRAD_PREDICATE(PREDICATE)
    GLASSGRAD_BINARY(BINARY)
    GLASSGRAD_COMPARE(COMPARE)
    m.def("mul_backward", mul_gradient, py::arg("dy").noconvert(), py::arg("a").noconvert(), py::arg("b").noconvert());
    m.def("where", where_op, py::arg("mask").noconvert(), py::arg("a").noconvert(), py::arg("b").noconvert());
}

}  // namespace glassgrad::bindings
