#include <cmath>

#include "bindings/arguments.h"
#include "bindings/register.h"
#include "core/kernels.h"

namespace glassgrad::bindings {

namespace {

using Shape = std::vector<py::ssize_t>;

/// Whether x is one 0 that is repeated: what a gradient starts from, which needs no reading.
template <class T>
bool is_blank(const py::array& x) {
    for (int d = 0; d < x.ndim(); ++d)
        if (x.strides(d)) return false;
    if (!x.ndim() || !x.size()) return false;
    const T value = *static_cast<const T*>(x.data());
    return value == 0 && !std::signbit(value);
}

/// The array that y starts as, absent where that is 0.
template <class T>
struct Start {
    explicit Start(const py::array& x) {
        if (is_blank<T>(x)) return;
        array = contiguous<T>(x);
        data = array.data();
    }
    py::array_t<T> array;
    const T* data = nullptr;
};

i64 product(const Shape& shape, i64 begin, i64 end) {
    i64 n = 1;
    for (i64 d = begin; d < end; ++d) n = checked_product(n, shape[static_cast<std::size_t>(d)]);
    return n;
}
void expect_dim(const char* op, const py::array& x, i64 dim) {
    if (dim < 0 || dim >= x.ndim()) fail(op, "dim", std::to_string(dim), "an axis of " + describe(x));
}

/// As dispatch, with int64 beside float and double: moving computes nothing.
template <class F>
py::object dispatch_moved(const py::array& x, F&& f) {
    return is_native<i64>(x) ? f(i64{}) : dispatch({&x}, f);
}

py::object rows_of(const char* op, const py::array& x, const py::array& index, i64 dim, const Shape& y_shape) {
    return dispatch_moved(x, [&]<class T>(T) -> py::object {
        const auto from = contiguous<T>(x);
        const auto at = contiguous<i64>(index);
        const Shape shape = shape_of(x);
        const i64 n = shape[static_cast<std::size_t>(dim)];
        auto y = empty<T>(y_shape);
        T* out = y.mutable_data();
        run(y.size(), [&, in = from.data(), i = at.data()] {
            index_select(out, in, i, product(shape, 0, dim), n, product(shape, dim + 1, x.ndim()), at.size());
        });
        return y;
    });
}

py::object select(const py::array& x, const py::array& index, i64 dim) {
    if (!is_native<i64>(index)) return not_implemented();
    expect_dim("index_select", x, dim);
    expect_ndim("index_select", "index", index, 1);
    Shape shape = shape_of(x);
    shape[static_cast<std::size_t>(dim)] = index.size();
    return rows_of("index_select", x, index, dim, shape);
}

py::object embed(const py::array& index, const py::array& weight, const std::optional<i64>&) {
    if (!is_native<i64>(index)) return not_implemented();
    expect_ndim("embedding", "weight", weight, 2);
    Shape shape = shape_of(index);
    shape.push_back(weight.shape(1));
    return rows_of("embedding", weight, index, 0, shape);
}

py::object add(const py::array& x, const py::array& index, const py::array& source, i64 dim) {
    if (!is_native<i64>(index)) return not_implemented();
    return dispatch({&x, &source}, [&]<class T>(T) -> py::object {
        const char* op = "index_add";
        expect_dim(op, x, dim);
        expect_ndim(op, "index", index, 1);
        const Shape shape = shape_of(x);
        Shape expected = shape;
        expected[static_cast<std::size_t>(dim)] = index.size();
        expect_shape(op, "source", source, expected);
        const Start<T> start(x);
        const auto from = contiguous<T>(source);
        const auto at = contiguous<i64>(index);
        const i64 n = shape[static_cast<std::size_t>(dim)];
        auto y = empty<T>(shape);
        T* out = y.mutable_data();
        run(y.size() + from.size(), [&, v = from.data(), i = at.data()] {
            index_add(out, start.data, v, i, product(shape, 0, dim), n, product(shape, dim + 1, x.ndim()), at.size());
        });
        return y;
    });
}

/// The kernels know no index that is smaller than x along other axes than the first and the one behind dim.
std::optional<GatherShape> gather_shape(const char* op, const py::array& x, const py::array& index, i64 dim) {
    expect_dim(op, x, dim);
    expect_ndim(op, "index", index, x.ndim());
    for (i64 d = 0; d < x.ndim(); ++d) {
        if (d == dim || index.shape(d) == x.shape(d)) continue;
        if (index.size() && index.shape(d) > x.shape(d))
            fail(op, "shape of index", describe(index), "sizes within " + describe(x));
        if (d && d != dim + 1) return std::nullopt;
    }
    const Shape a = shape_of(x), b = shape_of(index);
    const i64 ndim = x.ndim();
    return GatherShape{product(a, 0, dim), x.shape(dim),     product(a, dim + 1, ndim),
                       product(b, 0, dim), index.shape(dim), product(b, dim + 1, ndim)};
}

py::object gather_elements(const py::array& x, const py::array& index, i64 dim) {
    if (!is_native<i64>(index)) return not_implemented();
    return dispatch_moved(x, [&]<class T>(T) -> py::object {
        const auto s = gather_shape("gather", x, index, dim);
        if (!s) return not_implemented();
        const auto from = contiguous<T>(x);
        const auto at = contiguous<i64>(index);
        auto y = empty<T>(shape_of(index));
        T* out = y.mutable_data();
        run(y.size(), [&, in = from.data(), i = at.data()] { gather(out, in, i, *s); });
        return y;
    });
}

py::object scatter_add_elements(const py::array& x, const py::array& index, const py::array& src, i64 dim) {
    if (!is_native<i64>(index)) return not_implemented();
    return dispatch({&x, &src}, [&]<class T>(T) -> py::object {
        const char* op = "scatter_add";
        const auto s = gather_shape(op, x, index, dim);
        if (!s) return not_implemented();
        expect_shape(op, "src", src, shape_of(index));
        const Start<T> start(x);
        const auto from = contiguous<T>(src);
        const auto at = contiguous<i64>(index);
        auto y = empty<T>(shape_of(x));
        T* out = y.mutable_data();
        run(y.size() + from.size(), [&, v = from.data(), i = at.data()] { scatter_add(out, start.data, v, i, *s); });
        return y;
    });
}

}  // namespace

void register_index(py::module_& m) {
    using py::arg, py::kw_only;
    const auto array = [](const char* name) { return arg(name).noconvert(); };
    m.def("embedding", embed, array("index"), array("weight"), kw_only(), arg("padding_idx"));
    m.def("index_select", select, array("x"), array("index"), kw_only(), arg("dim"));
    m.def("index_add", add, array("x"), array("index"), array("source"), kw_only(), arg("dim"));
    m.def("gather", gather_elements, array("x"), array("index"), kw_only(), arg("dim"));
    m.def("scatter_add", scatter_add_elements, array("x"), array("index"), array("src"), kw_only(), arg("dim"));
}

}  // namespace glassgrad::bindings
