#include "bindings/arguments.h"
#include "bindings/register.h"
#include "core/kernels.h"

namespace glassgrad::bindings {

namespace {

using Shape = std::vector<py::ssize_t>;
using Two = std::pair<i64, i64>;

i64 outputs(const char* op, i64 size, i64 kernel, i64 stride, i64 pad, i64 dilation, bool ceil_mode) {
    // With ceil_mode a window may hang over the end, even the first.
    const i64 room = size + 2 * pad - dilation * (kernel - 1) - 1 + (ceil_mode ? stride - 1 : 0);
    if (room < 0)
        fail(op, "kernel size after dilation", std::to_string(dilation * (kernel - 1) + 1),
             "at most the padded input's " + std::to_string(size + 2 * pad));
    i64 n = room / stride + 1;
    if (ceil_mode && (n - 1) * stride >= size + pad) --n;  // PyTorch's rule: no window starts in the right padding
    return n;
}

/// x: (..., h, w)
Pool2dShape checked_shape(const char* op, const Shape& x, Two kernel, Two stride, Two padding, Two dilation,
                          bool ceil_mode) {
    if (x.size() < 2) fail(op, "shape of x", describe(x), "(..., h, w)");
    for (auto extent : x)
        if (extent < 0) fail(op, "shape of x", describe(x), "no negative size");
    const auto [kh, kw] = pair_of(op, "kernel", kernel, 1);
    const auto [sh, sw] = pair_of(op, "stride", stride, 1);
    const auto [ph, pw] = pair_of(op, "padding", padding, 0);
    const auto [dh, dw] = pair_of(op, "dilation", dilation, 1);
    if (ph > kh / 2 || pw > kw / 2)
        fail(op, "padding", describe(Shape{ph, pw}), "at most half the kernel " + describe(Shape{kh, kw}));
    Pool2dShape s{1, x[x.size() - 2], x[x.size() - 1], kh, kw, sh, sw, ph, pw, dh, dw, 0, 0};
    for (std::size_t d = 0; d + 2 < x.size(); ++d) s.planes = checked_product(s.planes, x[d]);
    s.oh = outputs(op, s.h, kh, sh, ph, dh, ceil_mode);
    s.ow = outputs(op, s.w, kw, sw, pw, dw, ceil_mode);
    checked_product(checked_product(s.oh, s.ow), checked_product(kh, kw));
    return s;
}
Shape output_shape(Shape x, const Pool2dShape& s) {
    x[x.size() - 2] = s.oh;
    x[x.size() - 1] = s.ow;
    return x;
}
i64 work(const Pool2dShape& s) { return s.planes * (s.h * s.w + s.oh * s.ow); }

py::object max_forward(const py::array& x, Two kernel, Two stride, Two padding, Two dilation, bool ceil_mode) {
    return dispatch({&x}, [&]<class T>(T) -> py::object {
        const Pool2dShape s = checked_shape("max_pool2d", shape_of(x), kernel, stride, padding, dilation, ceil_mode);
        const auto from = contiguous<T>(x);
        auto y = empty<T>(output_shape(shape_of(x), s));
        auto indices = empty<i64>(output_shape(shape_of(x), s));
        T* out = y.mutable_data();
        i64* at = indices.mutable_data();
        run(work(s), [&, in = from.data()] { max_pool2d(out, at, in, s); });
        return py::make_tuple(y, indices);
    });
}

py::object max_backward(const py::array& dy, const py::array& indices, const Shape& x_shape) {
    if (!is_native<i64>(indices)) return not_implemented();
    return dispatch({&dy}, [&]<class T>(T) -> py::object {
        const char* op = "max_pool2d_backward";
        if (x_shape.size() < 2) fail(op, "x_shape", describe(x_shape), "(..., h, w)");
        Pool2dShape s{};
        s.planes = 1;
        s.h = x_shape[x_shape.size() - 2];
        s.w = x_shape[x_shape.size() - 1];
        expect_shape(op, "indices", indices, shape_of(dy));
        Shape expected = x_shape;
        if (dy.ndim() >= 2) {
            s.oh = dy.shape(dy.ndim() - 2);
            s.ow = dy.shape(dy.ndim() - 1);
            expected = output_shape(x_shape, s);
        }
        expect_shape(op, "dy", dy, expected);
        for (std::size_t d = 0; d + 2 < x_shape.size(); ++d) s.planes *= x_shape[d];
        const auto gradient = contiguous<T>(dy);
        const auto at = contiguous<i64>(indices);
        for (i64 i = 0; i < at.size(); ++i)
            if (at.data()[i] < -1 || at.data()[i] >= s.h * s.w)
                fail(op, "indices[" + std::to_string(i) + "] (flat)", std::to_string(at.data()[i]),
                     "-1 <= index < h * w = " + std::to_string(s.h * s.w));
        auto dx = empty<T>(x_shape);
        T* out = dx.mutable_data();
        run(work(s), [&, a = gradient.data(), i = at.data()] { max_pool2d_backward(out, a, i, s); });
        return dx;
    });
}

py::object avg_forward(const py::array& x, Two kernel, Two stride, Two padding, bool ceil_mode,
                       bool count_include_pad) {
    return dispatch({&x}, [&]<class T>(T) -> py::object {
        const Pool2dShape s = checked_shape("avg_pool2d", shape_of(x), kernel, stride, padding, {1, 1}, ceil_mode);
        const auto from = contiguous<T>(x);
        auto y = empty<T>(output_shape(shape_of(x), s));
        T* out = y.mutable_data();
        run(work(s), [&, in = from.data()] { avg_pool2d(out, in, s, count_include_pad); });
        return y;
    });
}

py::object avg_backward(const py::array& dy, const Shape& x_shape, Two kernel, Two stride, Two padding, bool ceil_mode,
                        bool count_include_pad) {
    return dispatch({&dy}, [&]<class T>(T) -> py::object {
        const char* op = "avg_pool2d_backward";
        const Pool2dShape s = checked_shape(op, x_shape, kernel, stride, padding, {1, 1}, ceil_mode);
        expect_shape(op, "dy", dy, output_shape(x_shape, s));
        const auto gradient = contiguous<T>(dy);
        auto dx = empty<T>(x_shape);
        T* out = dx.mutable_data();
        run(work(s), [&, a = gradient.data()] { avg_pool2d_backward(out, a, s, count_include_pad); });
        return dx;
    });
}

}  // namespace

void register_pool(py::module_& m) {
    using py::arg, py::kw_only;
    const auto array = [](const char* name) { return arg(name).noconvert(); };
    m.def("max_pool2d", max_forward, array("x"), kw_only(), arg("kernel_size"), arg("stride"), arg("padding"),
          arg("dilation"), arg("ceil_mode"));
    m.def("max_pool2d_backward", max_backward, array("dy"), array("indices"), kw_only(), arg("x_shape"));
    m.def("avg_pool2d", avg_forward, array("x"), kw_only(), arg("kernel_size"), arg("stride"), arg("padding"),
          arg("ceil_mode"), arg("count_include_pad"));
    m.def("avg_pool2d_backward", avg_backward, array("dy"), kw_only(), arg("x_shape"), arg("kernel_size"),
          arg("stride"), arg("padding"), arg("ceil_mode"), arg("count_include_pad"));
}

}  // namespace glassgrad::bindings
