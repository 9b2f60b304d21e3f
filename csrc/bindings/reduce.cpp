#include "bindings/arguments.h"
#include "bindings/register.h"
#include "core/kernels.h"

namespace glassgrad::bindings {

namespace {

using Shape = std::vector<py::ssize_t>;
using Dims = std::vector<i64>;

void check_dim(const char* op, const py::array& x, i64 dim) {
    if (dim < 0 || dim >= x.ndim())
        fail(op, "dim", std::to_string(dim) + " for shape " + describe(x), "0 <= dim < " + std::to_string(x.ndim()));
}

/// The axes `dims` of x and the shape that is left.
struct Reduction {
    Reduction(const char* op, const py::array& x, const Dims& dims, bool keepdim) {
        for (i64 d : dims) {
            check_dim(op, x, d);
            if (axes >> d & 1) fail(op, "dim", describe(Shape(dims.begin(), dims.end())), "each dim once");
            axes |= Axes{1} << d;
        }
        for (int d = 0; d < x.ndim(); ++d) {
            if (!(axes >> d & 1))
                shape.push_back(x.shape(d));
            else if (keepdim)
                shape.push_back(1);
        }
    }
    Axes axes = 0;
    Shape shape;
};

/// kernel(y, x, axes)
template <class Kernel>
py::object reduced(const char* op, const py::array& x, const Dims& dims, bool keepdim, Kernel&& kernel) {
    return dispatch({&x}, [&]<class T>(T) -> py::object {
        const Reduction r(op, x, dims, keepdim);
        const py::array from = walkable<T>(x);
        auto y = empty<T>(r.shape);
        T* out = y.mutable_data();
        run(x.size(), [&, in = view<T>(from)] { kernel(out, in, r.axes); });
        return y;
    });
}

/// kernel(index, x, axis)
template <class Kernel>
py::object position(const char* op, const py::array& x, i64 dim, bool keepdim, Kernel&& kernel) {
    return dispatch({&x}, [&]<class T>(T) -> py::object {
        const Reduction r(op, x, {dim}, keepdim);
        const py::array from = walkable<T>(x);
        auto index = empty<i64>(r.shape);
        i64* out = index.mutable_data();
        run(x.size(), [&, in = view<T>(from)] { kernel(out, in, static_cast<int>(dim)); });
        return index;
    });
}

/// kernel(y, index, x, axis)
template <class Kernel>
py::object value_and_position(const char* op, const py::array& x, i64 dim, bool keepdim, Kernel&& kernel) {
    return dispatch({&x}, [&]<class T>(T) -> py::object {
        const Reduction r(op, x, {dim}, keepdim);
        const py::array from = walkable<T>(x);
        auto y = empty<T>(r.shape);
        auto index = empty<i64>(r.shape);
        T* out = y.mutable_data();
        i64* out_index = index.mutable_data();
        run(x.size(), [&, in = view<T>(from)] { kernel(out, out_index, in, static_cast<int>(dim)); });
        return py::make_tuple(y, index);
    });
}

/// The gradient of broadcasting `size` to x's shape: sums over the axes that were added or repeated.
py::object summed_to(const py::array& x, const Shape& size) {
    return dispatch({&x}, [&]<class T>(T) -> py::object {
        const py::ssize_t added = x.ndim() - static_cast<py::ssize_t>(size.size());
        Axes axes = 0;
        bool fits = added >= 0;
        for (int d = 0; fits && d < x.ndim(); ++d) {
            const py::ssize_t wanted = d < added ? 1 : size[static_cast<std::size_t>(d - added)];
            if (wanted == x.shape(d)) continue;
            fits = wanted == 1;
            axes |= Axes{1} << d;
        }
        if (!fits) fail("sum_to_size", "size", describe(size), "a shape that broadcasts to " + describe(x));
        const py::array from = walkable<T>(x);
        auto y = empty<T>(size);
        T* out = y.mutable_data();
        run(x.size(), [&, in = view<T>(from)] { sum(out, in, axes); });
        return y;
    });
}

py::object cumulative_sum(const py::array& x, i64 dim) {
    return dispatch({&x}, [&]<class T>(T) -> py::object {
        check_dim("cumsum", x, dim);
        const auto from = contiguous<T>(walkable<T>(x));
        auto y = empty_like<T>(x);
        i64 outer = 1, inner = 1;
        for (int d = 0; d < x.ndim(); ++d)
            if (d != dim) (d < dim ? outer : inner) *= x.shape(d);
        T* out = y.mutable_data();
        run(x.size(), [&, in = from.data()] { cumsum(out, in, outer, x.shape(dim), inner); });
        return y;
    });
}

/// The dual of a sum: x with repeated axes of stride 0, as a read-only view. Any dtype.
py::object expanded(const py::array& x, const Shape& size) {
    const auto missing = static_cast<py::ssize_t>(size.size()) - x.ndim();
    if (missing < 0) fail("expand", "size", describe(size), "at least " + std::to_string(x.ndim()) + " axes");
    Shape strides(size.size(), 0);
    for (py::ssize_t d = 0; d < x.ndim(); ++d) {
        const auto wanted = size[static_cast<std::size_t>(d + missing)];
        if (x.shape(d) == wanted)
            strides[static_cast<std::size_t>(d + missing)] = x.strides(d);
        else if (x.shape(d) != 1 || wanted < 0)
            fail("expand", "size", describe(size), "one that " + describe(x) + " broadcasts to");
    }
    py::array y(x.dtype(), size, strides, x.data(), x);
    py::detail::array_proxy(y.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;  // setflags takes 0.5 us
    return y;
}

/// The derivative of a sum: dy, its reduced axes put back with size 1, repeated to x's shape.
py::object sum_gradient(const py::array& dy, const std::vector<Shape>& shapes, const Dims& dim, bool keepdim) {
    const Shape& shape = shapes.at(0);
    Shape strides(shape.size(), 0);
    py::ssize_t from = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) {
        const bool reduced = std::find(dim.begin(), dim.end(), static_cast<i64>(d)) != dim.end();
        if (!reduced) strides[d] = dy.strides(from);
        from += !reduced || keepdim;
    }
    py::array dx(dy.dtype(), shape, strides, dy.data(), dy);
    py::detail::array_proxy(dx.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    return dx;
}

}  // namespace

void register_reduce(py::module_& m) {
    using py::arg;
    const auto over_dims = [&m](const char* op, auto kernel) {
        m.def(
            op,
            [op, kernel](const py::array& x, const Dims& dim, bool keepdim) {
                return reduced(op, x, dim, keepdim, kernel);
            },
            arg("x").noconvert(), py::kw_only(), arg("dim"), arg("keepdim"));
    };
    over_dims("sum", [](auto... a) { sum(a...); });
    over_dims("mean", [](auto... a) { mean(a...); });
    over_dims("prod", [](auto... a) { prod(a...); });
    over_dims("amax", [](auto... a) { amax(a...); });
    over_dims("amin", [](auto... a) { amin(a...); });
    over_dims("logsumexp", [](auto... a) { logsumexp(a...); });
    m.def(
        "var",
        [](const py::array& x, const Dims& dim, double correction, bool keepdim) {
            return reduced("var", x, dim, keepdim, [=](auto... a) { var(a..., correction); });
        },
        arg("x").noconvert(), py::kw_only(), arg("dim"), arg("correction"), arg("keepdim"));

    const auto along_dim = [&m](const char* op, auto binding) {
        m.def(op, binding, arg("x").noconvert(), py::kw_only(), arg("dim"), arg("keepdim"));
    };
    along_dim("argmax", [](const py::array& x, i64 dim, bool keepdim) {
        return position("argmax", x, dim, keepdim, [](auto... a) { argmax(a...); });
    });
    along_dim("argmin", [](const py::array& x, i64 dim, bool keepdim) {
        return position("argmin", x, dim, keepdim, [](auto... a) { argmin(a...); });
    });
    along_dim("max", [](const py::array& x, i64 dim, bool keepdim) {
        return value_and_position("max", x, dim, keepdim, [](auto... a) { max(a...); });
    });
    along_dim("min", [](const py::array& x, i64 dim, bool keepdim) {
        return value_and_position("min", x, dim, keepdim, [](auto... a) { min(a...); });
    });

    m.def("expand", expanded, arg("x").noconvert(), py::kw_only(), arg("size"));
    m.def("sum_backward", sum_gradient);
    m.def("sum_to_size", summed_to, arg("x").noconvert(), py::kw_only(), arg("size"));
    m.def("cumsum", cumulative_sum, arg("x").noconvert(), py::kw_only(), arg("dim"));
}

}  // namespace glassgrad::bindings
