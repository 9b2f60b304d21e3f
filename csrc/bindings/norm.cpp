#include "bindings/arguments.h"
#include "bindings/register.h"
#include "core/kernels.h"

namespace glassgrad::bindings {

namespace {

using Shape = std::vector<py::ssize_t>;

struct Rows {
    i64 rows = 1, cols = 1;
    Shape normalised, statistics;
};
Rows rows_of(const char* op, const py::array& x, i64 ndims) {
    if (ndims < 1 || ndims > x.ndim())
        fail(op, "ndims", std::to_string(ndims) + " for shape " + describe(x),
             "1 <= ndims <= " + std::to_string(x.ndim()));
    Rows r;
    for (py::ssize_t d = 0; d < x.ndim(); ++d) {
        const bool last = d >= x.ndim() - ndims;
        (last ? r.cols : r.rows) *= x.shape(d);
        if (last) r.normalised.push_back(x.shape(d));
        r.statistics.push_back(last ? 1 : x.shape(d));
    }
    return r;
}

struct Channels {
    i64 n, c, spatial = 1;
};
Channels channels_of(const char* op, const py::array& x) {
    if (x.ndim() < 2) fail(op, "shape of x", describe(x), "(N, C) or (N, C, ...)");
    Channels s{x.shape(0), x.shape(1)};
    for (py::ssize_t d = 2; d < x.ndim(); ++d) s.spatial *= x.shape(d);
    return s;
}

void expect_parameter(const char* op, const char* name, const OptionalArray& a, const Shape& shape) {
    if (a) expect_shape(op, name, *a, shape);
}

py::object layer_norm_forward(const py::array& x, const OptionalArray& weight, const OptionalArray& bias, i64 ndims,
                              double eps) {
    return dispatch({&x, pointer(weight), pointer(bias)}, [&]<class T>(T) -> py::object {
        const char* op = "layer_norm";
        const Rows r = rows_of(op, x, ndims);
        expect_parameter(op, "weight", weight, r.normalised);
        expect_parameter(op, "bias", bias, r.normalised);
        const auto from = contiguous<T>(x);
        const OptionalContiguous<T> w(weight), b(bias);
        auto y = empty_like<T>(from), mean = empty<T>(r.statistics), rstd = empty<T>(r.statistics);
        T *out = y.mutable_data(), *out_mean = mean.mutable_data(), *out_rstd = rstd.mutable_data();
        run(x.size(),
            [&, in = from.data()] { layer_norm(out, out_mean, out_rstd, in, w.data, b.data, r.rows, r.cols, eps); });
        return py::make_tuple(y, mean, rstd);
    });
}

py::object layer_norm_gradient(const py::array& dy, const py::array& x, const OptionalArray& weight,
                               const py::array& mean, const py::array& rstd, i64 ndims) {
    return dispatch({&dy, &x, pointer(weight), &mean, &rstd}, [&]<class T>(T) -> py::object {
        const char* op = "layer_norm_backward";
        const Rows r = rows_of(op, x, ndims);
        expect_shape(op, "dy", dy, shape_of(x));
        expect_parameter(op, "weight", weight, r.normalised);
        expect_shape(op, "mean", mean, r.statistics);
        expect_shape(op, "rstd", rstd, r.statistics);
        const auto from = contiguous<T>(x), gradient = contiguous<T>(dy), m = contiguous<T>(mean),
                   s = contiguous<T>(rstd);
        const OptionalContiguous<T> w(weight);
        auto dx = empty_like<T>(from), dbias = empty<T>(r.normalised);
        py::object dweight = py::none();
        T* out_weight = nullptr;
        if (weight) {
            auto a = empty<T>(r.normalised);
            out_weight = a.mutable_data();
            dweight = a;
        }
        T *out = dx.mutable_data(), *out_bias = dbias.mutable_data();
        run(x.size(), [&, a = gradient.data(), in = from.data(), pm = m.data(), ps = s.data()] {
            layer_norm_backward(out, out_weight, out_bias, a, in, w.data, pm, ps, r.rows, r.cols);
        });
        return py::make_tuple(dx, dweight, dbias);
    });
}

py::object batch_norm_forward(const py::array& x, const OptionalArray& weight, const OptionalArray& bias, double eps) {
    return dispatch({&x, pointer(weight), pointer(bias)}, [&]<class T>(T) -> py::object {
        const char* op = "batch_norm";
        const Channels s = channels_of(op, x);
        expect_parameter(op, "weight", weight, {s.c});
        expect_parameter(op, "bias", bias, {s.c});
        const auto from = contiguous<T>(x);
        const OptionalContiguous<T> w(weight), b(bias);
        auto y = empty_like<T>(from), mean = empty<T>({s.c}), rstd = empty<T>({s.c});
        T *out = y.mutable_data(), *out_mean = mean.mutable_data(), *out_rstd = rstd.mutable_data();
        run(x.size(), [&, in = from.data()] {
            batch_norm(out, out_mean, out_rstd, in, w.data, b.data, s.n, s.c, s.spatial, eps);
        });
        return py::make_tuple(y, mean, rstd);
    });
}

py::object batch_norm_gradient(const py::array& dy, const py::array& x, const OptionalArray& weight,
                               const py::array& mean, const py::array& rstd) {
    return dispatch({&dy, &x, pointer(weight), &mean, &rstd}, [&]<class T>(T) -> py::object {
        const char* op = "batch_norm_backward";
        const Channels s = channels_of(op, x);
        expect_shape(op, "dy", dy, shape_of(x));
        expect_parameter(op, "weight", weight, {s.c});
        expect_shape(op, "mean", mean, {s.c});
        expect_shape(op, "rstd", rstd, {s.c});
        const auto from = contiguous<T>(x), gradient = contiguous<T>(dy), m = contiguous<T>(mean),
                   r = contiguous<T>(rstd);
        const OptionalContiguous<T> w(weight);
        auto dx = empty_like<T>(from), dweight = empty<T>({s.c}), dbias = empty<T>({s.c});
        T *out = dx.mutable_data(), *out_weight = dweight.mutable_data(), *out_bias = dbias.mutable_data();
        run(x.size(), [&, a = gradient.data(), in = from.data(), pm = m.data(), pr = r.data()] {
            batch_norm_backward(out, out_weight, out_bias, a, in, w.data, pm, pr, s.n, s.c, s.spatial);
        });
        return py::make_tuple(dx, dweight, dbias);
    });
}

py::object batch_norm_with_statistics(const py::array& x, const OptionalArray& weight, const OptionalArray& bias,
                                      const py::array& mean, const py::array& var, double eps) {
    return dispatch({&x, pointer(weight), pointer(bias), &mean, &var}, [&]<class T>(T) -> py::object {
        const char* op = "batch_norm_eval";
        const Channels s = channels_of(op, x);
        expect_parameter(op, "weight", weight, {s.c});
        expect_parameter(op, "bias", bias, {s.c});
        expect_shape(op, "mean", mean, {s.c});
        expect_shape(op, "var", var, {s.c});
        const auto from = contiguous<T>(x), m = contiguous<T>(mean), v = contiguous<T>(var);
        const OptionalContiguous<T> w(weight), b(bias);
        auto y = empty_like<T>(from);
        T* out = y.mutable_data();
        run(x.size(), [&, in = from.data(), pm = m.data(), pv = v.data()] {
            batch_norm_eval(out, in, w.data, b.data, pm, pv, s.n, s.c, s.spatial, eps);
        });
        return y;
    });
}

}  // namespace

void register_norm(py::module_& m) {
    using py::arg;
    m.def("layer_norm", layer_norm_forward, arg("x").noconvert(), arg("weight").noconvert(), arg("bias").noconvert(),
          py::kw_only(), arg("ndims"), arg("eps"));
    m.def("layer_norm_backward", layer_norm_gradient, arg("dy").noconvert(), arg("x").noconvert(),
          arg("weight").noconvert(), arg("mean").noconvert(), arg("rstd").noconvert(), arg("ndims"));
    m.def("batch_norm", batch_norm_forward, arg("x").noconvert(), arg("weight").noconvert(), arg("bias").noconvert(),
          py::kw_only(), arg("eps"));
    m.def("batch_norm_backward", batch_norm_gradient, arg("dy").noconvert(), arg("x").noconvert(),
          arg("weight").noconvert(), arg("mean").noconvert(), arg("rstd").noconvert());
    m.def("batch_norm_eval", batch_norm_with_statistics, arg("x").noconvert(), arg("weight").noconvert(),
          arg("bias").noconvert(), arg("mean").noconvert(), arg("var").noconvert(), py::kw_only(), arg("eps"));
}

}  // namespace glassgrad::bindings
