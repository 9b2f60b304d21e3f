#include "bindings/arguments.h"
#include "bindings/register.h"
#include "core/kernels.h"

namespace glassgrad::bindings {

namespace {

i64 checked_dim(const char* op, const py::array& a, i64 dim) {
    if (dim < 0 || dim >= a.ndim())
        fail(op, "dim", std::to_string(dim) + " for shape " + describe(a), "0 <= dim < " + std::to_string(a.ndim()));
    return dim;
}

/// An array as (rows, cols, inner), cols being its axis `dim`.
struct Shape3 {
    Shape3(const py::array& a, i64 dim) : cols(a.shape(dim)) {
        for (i64 d = 0; d < a.ndim(); ++d)
            if (d != dim) (d < dim ? rows : inner) *= a.shape(d);
    }
    i64 rows = 1, cols, inner = 1;
};

template <class Kernel>
py::object along(const char* op, const py::array& x, i64 dim, Kernel&& kernel) {
    return dispatch({&x}, [&]<class T>(T) -> py::object {
        const Shape3 s(x, checked_dim(op, x, dim));
        const auto from = contiguous<T>(x);
        auto y = empty_like<T>(from);
        T* out = y.mutable_data();
        run(x.size(), [&, in = from.data()] { kernel(out, in, s.rows, s.cols, s.inner); });
        return y;
    });
}
template <class Kernel>
py::object along_backward(const char* op, const py::array& dy, const py::array& y, i64 dim, Kernel&& kernel) {
    return dispatch({&dy, &y}, [&]<class T>(T) -> py::object {
        const Shape3 s(y, checked_dim(op, y, dim));
        expect_shape(op, "dy", dy, shape_of(y));
        const auto gradient = contiguous<T>(dy), result = contiguous<T>(y);
        auto dx = empty_like<T>(result);
        T* out = dx.mutable_data();
        run(y.size(), [&, a = gradient.data(), b = result.data()] { kernel(out, a, b, s.rows, s.cols, s.inner); });
        return dx;
    });
}

// ---- the ladder -----------------------------------------------------------------------------------------------------

template <class T>
void production(T* y, const T* x, i64 rows, i64 cols) {
    softmax(y, x, rows, cols, i64{1});
}
struct Rung {
    const char* name;
    void (*f32)(float*, const float*, i64, i64);
    void (*f64)(double*, const double*, i64, i64);
};
constexpr Rung RUNGS[] = {
    {"naive", softmax_naive<float>, softmax_naive<double>},
    {"online", softmax_online<float>, softmax_online<double>},
    {"vectorised", softmax_vectorised<float>, softmax_vectorised<double>},
    {"production", production<float>, production<double>},
};

py::object on_rung(const std::string& name, const py::array& x) {
    const Rung& rung = rung_of("softmax_rung", RUNGS, name);
    return dispatch({&x}, [&]<class T>(T) -> py::object {
        expect_ndim("softmax_rung", "x", x, 2);
        const auto from = contiguous<T>(x);
        auto y = empty_like<T>(from);
        T* out = y.mutable_data();
        run(x.size(), [&, in = from.data(), rows = x.shape(0), cols = x.shape(1)] {
            if constexpr (std::is_same_v<T, float>)
                rung.f32(out, in, rows, cols);
            else
                rung.f64(out, in, rows, cols);
        });
        return y;
    });
}

// ---- cross_entropy --------------------------------------------------------------------------------------------------

/// int64 class indices, each in [0, classes) or ignore_index.
py::array_t<i64> checked_target(const char* op, const py::array& target, i64 rows, i64 classes, i64 ignore_index) {
    expect_shape(op, "target", target, {rows});
    auto indices = contiguous<i64>(target);
    for (i64 i = 0; i < rows; ++i) {
        const i64 t = indices.data()[i];
        if (t != ignore_index && (t < 0 || t >= classes))
            fail(op, "target[" + std::to_string(i) + "]", std::to_string(t),
                 "0 <= target < " + std::to_string(classes) + ", or ignore_index=" + std::to_string(ignore_index));
    }
    return indices;
}

Reduction reduction_of(const char* op, const std::string& name) {
    if (name == "mean") return Reduction::MEAN;
    if (name == "sum") return Reduction::SUM;
    if (name != "none") fail(op, "reduction", name, "none, mean or sum");
    return Reduction::NONE;
}

py::object cross_entropy_forward(const py::array& logits, const py::array& target, i64 ignore_index,
                                 const std::string& reduction) {
    if (!is_native<i64>(target)) return not_implemented();
    return dispatch({&logits}, [&]<class T>(T) -> py::object {
        const char* op = "cross_entropy";
        expect_ndim(op, "logits", logits, 2);
        const i64 rows = logits.shape(0), cols = logits.shape(1);
        const Reduction how = reduction_of(op, reduction);
        const auto indices = checked_target(op, target, rows, cols, ignore_index);
        const auto x = contiguous<T>(logits);
        auto loss = how == Reduction::NONE ? empty<T>({rows}) : empty<T>({});
        auto max = empty<T>({rows}), log_sum = empty<T>({rows});
        T *out = loss.mutable_data(), *out_max = max.mutable_data(), *out_log_sum = log_sum.mutable_data();
        run(x.size(), [&, in = x.data(), t = indices.data()] {
            cross_entropy(out, out_max, out_log_sum, in, t, rows, cols, ignore_index, how);
        });
        return py::make_tuple(loss, max, log_sum);
    });
}

py::object cross_entropy_gradient(const py::array& dloss, const py::array& logits, const py::array& target,
                                  const py::array& max, const py::array& log_sum, i64 ignore_index,
                                  const std::string& reduction) {
    if (!is_native<i64>(target)) return not_implemented();
    return dispatch({&dloss, &logits, &max, &log_sum}, [&]<class T>(T) -> py::object {
        const char* op = "cross_entropy_backward";
        expect_ndim(op, "logits", logits, 2);
        const i64 rows = logits.shape(0), cols = logits.shape(1);
        const Reduction how = reduction_of(op, reduction);
        if (how == Reduction::NONE)
            expect_shape(op, "dloss", dloss, {rows});
        else
            expect_shape(op, "dloss", dloss, {});
        expect_shape(op, "max", max, {rows});
        expect_shape(op, "log_sum", log_sum, {rows});
        const auto indices = checked_target(op, target, rows, cols, ignore_index);
        const auto x = contiguous<T>(logits), dy = contiguous<T>(dloss), m = contiguous<T>(max);
        const auto l = contiguous<T>(log_sum);
        auto dx = empty_like<T>(x);
        T* out = dx.mutable_data();
        run(x.size(), [&, in = x.data(), d = dy.data(), a = m.data(), b = l.data(), t = indices.data()] {
            cross_entropy_backward(out, d, in, a, b, t, rows, cols, ignore_index, how);
        });
        return dx;
    });
}

}  // namespace

void register_softmax(py::module_& m) {
    using py::arg;
    m.def(
        "softmax",
        [](const py::array& x, i64 dim) { return along("softmax", x, dim, [](auto... a) { softmax(a...); }); },
        arg("x").noconvert(), py::kw_only(), arg("dim"));
    m.def(
        "log_softmax",
        [](const py::array& x, i64 dim) { return along("log_softmax", x, dim, [](auto... a) { log_softmax(a...); }); },
        arg("x").noconvert(), py::kw_only(), arg("dim"));
    m.def(
        "softmax_backward",
        [](const py::array& dy, const py::array& y, i64 dim) {
            return along_backward("softmax_backward", dy, y, dim, [](auto... a) { softmax_backward(a...); });
        },
        arg("dy").noconvert(), arg("y").noconvert(), arg("dim"));
    m.def(
        "log_softmax_backward",
        [](const py::array& dy, const py::array& y, i64 dim) {
            return along_backward("log_softmax_backward", dy, y, dim, [](auto... a) { log_softmax_backward(a...); });
        },
        arg("dy").noconvert(), arg("y").noconvert(), arg("dim"));
    m.def("softmax_rungs", [] { return names_of(RUNGS); });
    m.def("softmax_rung", on_rung, arg("name"), arg("x").noconvert());
    m.def("cross_entropy", cross_entropy_forward, arg("logits").noconvert(), arg("target").noconvert(), py::kw_only(),
          arg("ignore_index"), arg("reduction"));
    m.def("cross_entropy_backward", cross_entropy_gradient, arg("dloss").noconvert(), arg("logits").noconvert(),
          arg("target").noconvert(), arg("max").noconvert(), arg("log_sum").noconvert(), arg("ignore_index"),
          arg("reduction"));
}

}  // namespace glassgrad::bindings
