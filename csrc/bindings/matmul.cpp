#include <array>

#include "bindings/arguments.h"
#include "bindings/register.h"
#include "core/kernels.h"
#include "core/scalar_ops.h"

namespace glassgrad::bindings {

namespace {

using Shape = std::vector<py::ssize_t>;

struct Rung {
    const char* name;
    void (*f32)(float*, const float*, const float*, const float*, const MatmulShape&);
    void (*f64)(double*, const double*, const double*, const double*, const MatmulShape&);

    template <class T>
    auto kernel() const {
        if constexpr (std::is_same_v<T, float>)
            return f32;
        else
            return f64;
    }
};
constexpr Rung RUNGS[] = {
    {"naive", matmul_naive<float>, matmul_naive<double>},
    {"reordered", matmul_reordered<float>, matmul_reordered<double>},
    {"tiled", matmul_tiled<float>, matmul_tiled<double>},
    {"vectorised", matmul_vectorised<float>, matmul_vectorised<double>},
    {"packed", matmul_packed<float>, matmul_packed<double>},
    {"production", matmul<float>, matmul<double>},
};
constexpr const Rung& PRODUCTION = RUNGS[std::size(RUNGS) - 1];
constexpr Rung WITH_RELU{"production", matmul_relu<float>, matmul_relu<double>};

/// One side of a product: a matrix, (shape[-2], shape[-1]), for every index of the axes before. Strides count elements.
template <class T>
struct Factor {
    explicit Factor(const py::array& a) : array(walkable<T>(a)) {
        data = static_cast<const T*>(array.data());
        for (py::ssize_t d = 0; d < array.ndim(); ++d) {
            shape.push_back(array.shape(d));
            stride.push_back(array.strides(d) / py::ssize_t{sizeof(T)});
        }
    }
    i64 rows() const { return shape[shape.size() - 2]; }
    i64 cols() const { return shape[shape.size() - 1]; }
    i64 row_stride() const { return stride[shape.size() - 2]; }
    i64 col_stride() const { return stride[shape.size() - 1]; }
    std::size_t batch_axes() const { return shape.size() - 2; }
    /// Of batch axis d of `axes`, counted from the front: 1 where there is none or where it is repeated.
    i64 extent(std::size_t d, std::size_t axes) const {
        const std::size_t missing = axes - batch_axes();
        return d < missing ? 1 : shape[d - missing];
    }
    i64 step(std::size_t d, std::size_t axes) const {
        return extent(d, axes) == 1 ? 0 : stride[d - (axes - batch_axes())];
    }
    Factor transposed() && {
        std::swap(shape[shape.size() - 2], shape[shape.size() - 1]);
        std::swap(stride[stride.size() - 2], stride[stride.size() - 1]);
        return std::move(*this);
    }

    py::array array;
    const T* data;
    std::vector<i64> shape, stride;
};

/// The axes of a batch, as few as can be: axes that are walked as one become one.
template <class T>
std::vector<BatchAxis> batch_of(const Factor<T>& a, const Factor<T>& b, const Shape& batch) {
    std::vector<BatchAxis> axes;
    for (std::size_t d = 0; d < batch.size(); ++d) {
        const BatchAxis inner{batch[d], a.step(d, batch.size()), b.step(d, batch.size())};
        if (inner.size == 1) continue;
        if (!axes.empty() && axes.back().a_stride == inner.size * inner.a_stride &&
            axes.back().b_stride == inner.size * inner.b_stride)
            axes.back() = {axes.back().size * inner.size, inner.a_stride, inner.b_stride};
        else
            axes.push_back(inner);
    }
    return axes;
}

/// a @ b + bias, shaped as `shape`: the batch, (m, n), or what has as many elements.
template <class T>
py::object product(const Rung& rung, const Factor<T>& a, const Factor<T>& b, const T* bias, const Shape& batch,
                   const Shape& shape) {
    std::vector<BatchAxis> axes = batch_of(a, b, batch);
    MatmulShape s{a.rows(), b.cols(), a.cols(), a.row_stride(), a.col_stride(), b.row_stride(), b.col_stride()};
    // One b for all: the last batch axis is only more rows, and one large product is quicker than many small ones.
    while (!axes.empty() && axes.back().b_stride == 0 && (s.m == 1 || axes.back().a_stride == s.m * s.a_row)) {
        if (s.m == 1) s.a_row = axes.back().a_stride;
        s.m *= axes.back().size;
        axes.pop_back();
    }
    s.batch_axes = static_cast<int>(axes.size());
    s.batch = axes.data();
    auto c = empty<T>(shape);
    T* out = c.mutable_data();
    const double work = static_cast<double>(c.size()) * static_cast<double>(s.k + 1);
    run(static_cast<i64>(std::min(work, 1e18)), [&] { rung.kernel<T>()(out, a.data, b.data, bias, s); });
    return c;
}

py::object matmul_of(const Rung& rung, const py::array& a, const py::array& b) {
    return dispatch({&a, &b}, [&]<class T>(T) -> py::object {
        const char* op = "matmul";
        if (a.ndim() < 2) fail(op, "shape of a", describe(a), "(..., m, k)");
        if (b.ndim() < 2) fail(op, "shape of b", describe(b), "(..., k, n)");
        const Factor<T> left(a), right(b);
        if (left.cols() != right.rows())
            fail(
                op, "inner sizes", describe(a) + " and " + describe(b),
                "a.shape[-1]=" + std::to_string(left.cols()) + " equal to b.shape[-2]=" + std::to_string(right.rows()));
        Shape batch(std::max(left.batch_axes(), right.batch_axes()));
        for (std::size_t d = 0; d < batch.size(); ++d) {
            const i64 of_a = left.extent(d, batch.size()), of_b = right.extent(d, batch.size());
            if (of_a != of_b && of_a != 1 && of_b != 1)
                fail(op, "batch sizes", describe(a) + " and " + describe(b),
                     "sizes that are equal or 1, counted from the back");
            batch[d] = of_a == 1 ? of_b : of_a;
        }
        Shape shape = batch;
        shape.push_back(left.rows());
        shape.push_back(right.cols());
        return product<T>(rung, left, right, nullptr, batch, shape);
    });
}

py::object linear_of(const Rung& rung, const py::array& x, const py::array& weight, const OptionalArray& bias) {
    return dispatch({&x, &weight, pointer(bias)}, [&]<class T>(T) -> py::object {
        const char* op = "linear";
        if (x.ndim() < 1) fail(op, "shape of x", describe(x), "(..., in)");
        expect_ndim(op, "weight", weight, 2);
        if (x.shape(x.ndim() - 1) != weight.shape(1))
            fail(op, "features", describe(x) + " and " + describe(weight),
                 "x.shape[-1]=" + std::to_string(x.shape(x.ndim() - 1)) +
                     " equal to weight.shape[1]=" + std::to_string(weight.shape(1)));
        if (bias) expect_shape(op, "bias", *bias, {weight.shape(0)});
        const OptionalContiguous<T> b(bias);
        Factor<T> left(x);
        if (left.shape.size() == 1) {  // a vector is one row
            left.shape.insert(left.shape.begin(), 1);
            left.stride.insert(left.stride.begin(), 0);
        }
        Shape shape = shape_of(x);
        shape.back() = weight.shape(0);
        const Shape batch(left.shape.begin(), left.shape.end() - 2);
        return product<T>(rung, left, Factor<T>(weight).transposed(), b.data, batch, shape);
    });
}

/// max(y, 0), in y's own memory.
py::object relu_of(const py::object& y) {
    const auto in_place = [&]<class T>(T) {
        auto array = py::reinterpret_borrow<py::array_t<T>>(y);
        unary<scalar::relu>(array.mutable_data(), view<T>(array));
    };
    py::isinstance<py::array_t<float>>(y) ? in_place(float{}) : in_place(double{});
    return y;
}

/// (dx, dweight, dbias), None where needs says so. The layer may have no bias. y: given where relu follows.
py::object linear_gradient(const char* op, const py::array& dy, const OptionalArray& y, const py::array& x,
                           const py::array& weight, const std::array<bool, 3>& needs) {
    return dispatch({&dy, &x, &weight, pointer(y)}, [&]<class T>(T) -> py::object {
        if (x.ndim() < 1) fail(op, "shape of x", describe(x), "(..., in)");
        expect_ndim(op, "weight", weight, 2);
        const i64 out = weight.shape(0), in = weight.shape(1),
                  rows = in ? x.size() / in : dy.size() / std::max<i64>(out, 1);
        Shape shape = shape_of(x);
        if (shape.back() != in) fail(op, "shape of x", describe(x), "(..., " + std::to_string(in) + ")");
        shape.back() = out;
        expect_shape(op, "dy", dy, shape);
        if (y) expect_shape(op, "y", *y, shape);
        const OptionalContiguous<T> result(y);
        const auto gradient = contiguous<T>(dy), input = contiguous<T>(x), w = contiguous<T>(weight);
        std::array<py::object, 3> results{py::none(), py::none(), py::none()};
        const std::array<Shape, 3> shapes{shape_of(x), Shape{out, in}, Shape{out}};
        std::array<T*, 3> d{};
        for (std::size_t i = 0; i < 3; ++i)
            if (needs[i]) {
                auto a = empty<T>(shapes[i]);
                d[i] = a.mutable_data();
                results[i] = std::move(a);
            }
        run(rows * out, [&, a = gradient.data(), b = input.data(), c = w.data()] {
            if (result.data)
                linear_relu_backward(d[0], d[1], d[2], a, result.data, b, c, rows, in, out);
            else
                linear_backward(d[0], d[1], d[2], a, b, c, rows, in, out);
        });
        return py::make_tuple(results[0], results[1], results[2]);
    });
}

double ceiling_of(double seconds, const py::object& of) {
    const py::dtype dtype = py::dtype::from_args(of);
    constexpr double MOST = 60;
    if (!(seconds >= 0 && seconds <= MOST)) fail("fma_ceiling", "seconds", std::to_string(seconds), "0 to 60");
    const bool single = dtype.equal(py::dtype::of<float>()), twice = dtype.equal(py::dtype::of<double>());
    if (!single && !twice)
        fail("fma_ceiling", "dtype", py::str(static_cast<const py::object&>(dtype)), "float32 or float64");
    py::gil_scoped_release release;
    return single ? fma_ceiling<float>(seconds) : fma_ceiling<double>(seconds);
}

}  // namespace

void register_matmul(py::module_& m) {
    using py::arg;
    const auto array = [](const char* name) { return arg(name).noconvert(); };
    m.def(
        "matmul", [](const py::array& a, const py::array& b) { return matmul_of(PRODUCTION, a, b); }, array("a"),
        array("b"));
    m.def(
        "linear",
        [](const py::array& x, const py::array& weight, const OptionalArray& bias) {
            return linear_of(PRODUCTION, x, weight, bias);
        },
        array("x"), array("weight"), array("bias"));
    m.def("linear_backward",
          [](const py::array& dy, const py::array& x, const py::array& weight, const std::array<bool, 3>& needs) {
              return linear_gradient("linear_backward", dy, std::nullopt, x, weight, needs);
          });
    m.def(
        "linear_relu",
        [](const py::array& x, const py::array& weight, const OptionalArray& bias) {
            return linear_of(WITH_RELU, x, weight, bias);
        },
        array("x"), array("weight"), array("bias"));
    m.def("linear_relu_backward", [](const py::array& dy, const py::array& y, const py::array& x,
                                     const py::array& weight, const std::array<bool, 3>& needs) {
        return linear_gradient("linear_relu_backward", dy, y, x, weight, needs);
    });
    m.def("matmul_rungs", [] { return names_of(RUNGS); });
    m.def(
        "matmul_rung",
        [](const std::string& name, const py::array& a, const py::array& b) {
            return matmul_of(rung_of("matmul_rung", RUNGS, name), a, b);
        },
        arg("name"), array("a"), array("b"));
    m.def(
        "linear_rung",
        [](const std::string& name, const py::array& x, const py::array& weight, const OptionalArray& bias) {
            return linear_of(rung_of("linear_rung", RUNGS, name), x, weight, bias);
        },
        arg("name"), array("x"), array("weight"), array("bias"));
    m.def(
        "linear_relu_rung",
        [](const std::string& name, const py::array& x, const py::array& weight, const OptionalArray& bias) {
            const Rung& rung = rung_of("linear_relu_rung", RUNGS, name);
            if (&rung == &PRODUCTION) return linear_of(WITH_RELU, x, weight, bias);
            py::object y = linear_of(rung, x, weight, bias);  // relu is a pass of its own there
            return y.is(not_implemented()) ? y : relu_of(y);
        },
        arg("name"), array("x"), array("weight"), array("bias"));
    m.def("fma_ceiling", ceiling_of, arg("seconds"), arg("dtype") = "float32");
}

}  // namespace glassgrad::bindings
