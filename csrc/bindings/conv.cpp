#include "bindings/arguments.h"
#include "bindings/register.h"
#include "core/kernels.h"

namespace glassgrad::bindings {

namespace {

using Shape = std::vector<py::ssize_t>;
using Two = std::pair<i64, i64>;

template <class T>
struct Passes {
    void (*forward)(T*, const T*, const T*, const T*, const Conv2dShape&);
    void (*backward_input)(T*, const T*, const T*, const Conv2dShape&);
    void (*backward_weight)(T*, const T*, const T*, const Conv2dShape&);
};
struct Rung {
    const char* name;
    Passes<float> f32;
    Passes<double> f64;
    bool (*fits)(const Conv2dShape&) = nullptr;  // every shape

    template <class T>
    const Passes<T>& passes() const {
        if constexpr (std::is_same_v<T, float>)
            return f32;
        else
            return f64;
    }
};
template <class T>
constexpr Passes<T> NAIVE{conv2d_naive<T>, conv2d_backward_input_naive<T>, conv2d_backward_weight_naive<T>};
template <class T>
constexpr Passes<T> IM2COL{conv2d_im2col<T>, conv2d_backward_input_im2col<T>, conv2d_backward_weight_im2col<T>};
template <class T>
constexpr Passes<T> IMPLICIT{conv2d_implicit<T>, conv2d_backward_input_implicit<T>, conv2d_backward_weight_implicit<T>};
template <class T>
constexpr Passes<T> WINOGRAD{conv2d_winograd<T>, conv2d_backward_input_winograd<T>, conv2d_backward_weight_winograd<T>};
template <class T>
constexpr Passes<T> BEST{conv2d<T>, conv2d_backward_input<T>, conv2d_backward_weight<T>};
constexpr Rung RUNGS[] = {
    {"naive", NAIVE<float>, NAIVE<double>},          {"im2col", IM2COL<float>, IM2COL<double>},
    {"implicit", IMPLICIT<float>, IMPLICIT<double>}, {"winograd", WINOGRAD<float>, WINOGRAD<double>, winograd_fits},
    {"production", BEST<float>, BEST<double>},
};
constexpr const Rung& PRODUCTION = RUNGS[std::size(RUNGS) - 1];

Conv2dShape checked_shape(const char* op, const Shape& x, const Shape& w, Two stride, Two padding, Two dilation,
                          i64 groups) {
    const auto nonnegative = [](const Shape& s) {
        return std::all_of(s.begin(), s.end(), [](auto e) { return e >= 0; });
    };
    if (x.size() != 4 || !nonnegative(x)) fail(op, "shape of x", describe(x), "(n, c, h, w)");
    if (w.size() != 4 || !nonnegative(w)) fail(op, "shape of w", describe(w), "(k, c / groups, kh, kw)");
    const auto [sh, sw] = pair_of(op, "stride", stride, 1);
    const auto [ph, pw] = pair_of(op, "padding", padding, 0);
    const auto [dh, dw] = pair_of(op, "dilation", dilation, 1);
    pair_of(op, "kernel size", {w[2], w[3]}, 1);
    if (groups < 1 || x[1] % groups || w[0] % groups)
        fail(op, "groups", std::to_string(groups),
             "a divisor of the channels: " + std::to_string(x[1]) + " in, " + std::to_string(w[0]) + " out");
    if (w[1] != x[1] / groups)
        fail(op, "shape of w", describe(w),
             "w.shape[1] = c / groups = " + std::to_string(x[1] / groups) + " for x of shape " + describe(x));
    const i64 room_h = x[2] + 2 * ph - dh * (w[2] - 1) - 1, room_w = x[3] + 2 * pw - dw * (w[3] - 1) - 1;
    if (room_h < 0 || room_w < 0)
        fail(op, "kernel size after dilation", describe(Shape{dh * (w[2] - 1) + 1, dw * (w[3] - 1) + 1}),
             "at most the padded input " + describe(Shape{x[2] + 2 * ph, x[3] + 2 * pw}));
    const Conv2dShape s{
        x[0], x[1], x[2], x[3], w[0], w[2], w[3], sh, sw, ph, pw, dh, dw, groups, room_h / sh + 1, room_w / sw + 1};
    // The kernels' own products: outputs, taps, and taps * outputs of one image (im2col's matrix).
    const i64 pixels = checked_product(s.oh, s.ow), taps = checked_product(checked_product(w[1], s.kh), s.kw);
    checked_product(checked_product(s.n, s.k), checked_product(pixels, 8));
    checked_product(checked_product(s.k, taps), 8);
    checked_product(checked_product(taps, pixels), 8);
    return s;
}

bool fits(const Rung& rung, const Conv2dShape& s) { return !rung.fits || rung.fits(s); }

i64 work(const Conv2dShape& s) { return s.n * s.k * s.oh * s.ow; }

py::object forward(const Rung& rung, const py::array& x, const py::array& w, const OptionalArray& bias, Two stride,
                   Two padding, Two dilation, i64 groups) {
    return dispatch({&x, &w, pointer(bias)}, [&]<class T>(T) -> py::object {
        const Conv2dShape s = checked_shape("conv2d", shape_of(x), shape_of(w), stride, padding, dilation, groups);
        if (!fits(rung, s)) return not_implemented();
        if (bias) expect_shape("conv2d", "bias", *bias, {s.k});
        const auto from = contiguous<T>(x), weight = contiguous<T>(w);
        const OptionalContiguous<T> b(bias);
        auto y = empty<T>({s.n, s.k, s.oh, s.ow});
        T* out = y.mutable_data();
        run(GIL_FREE_ELEMENTS + work(s),
            [&, a = from.data(), c = weight.data()] { rung.passes<T>().forward(out, a, c, b.data, s); });
        return y;
    });
}

py::object backward_input(const Rung& rung, const py::array& dy, const py::array& w, const Shape& x_shape, Two stride,
                          Two padding, Two dilation, i64 groups) {
    return dispatch({&dy, &w}, [&]<class T>(T) -> py::object {
        const char* op = "conv2d_backward_input";
        const Conv2dShape s = checked_shape(op, x_shape, shape_of(w), stride, padding, dilation, groups);
        if (!fits(rung, s)) return not_implemented();
        expect_shape(op, "dy", dy, {s.n, s.k, s.oh, s.ow});
        const auto gradient = contiguous<T>(dy), weight = contiguous<T>(w);
        auto dx = empty<T>(x_shape);
        T* out = dx.mutable_data();
        run(GIL_FREE_ELEMENTS + work(s),
            [&, a = gradient.data(), c = weight.data()] { rung.passes<T>().backward_input(out, a, c, s); });
        return dx;
    });
}

py::object backward_weight(const Rung& rung, const py::array& dy, const py::array& x, const Shape& w_shape, Two stride,
                           Two padding, Two dilation, i64 groups) {
    return dispatch({&dy, &x}, [&]<class T>(T) -> py::object {
        const char* op = "conv2d_backward_weight";
        const Conv2dShape s = checked_shape(op, shape_of(x), w_shape, stride, padding, dilation, groups);
        if (!fits(rung, s)) return not_implemented();
        expect_shape(op, "dy", dy, {s.n, s.k, s.oh, s.ow});
        const auto gradient = contiguous<T>(dy), from = contiguous<T>(x);
        auto dw = empty<T>(w_shape);
        T* out = dw.mutable_data();
        run(GIL_FREE_ELEMENTS + work(s),
            [&, a = gradient.data(), c = from.data()] { rung.passes<T>().backward_weight(out, a, c, s); });
        return dw;
    });
}

}  // namespace

void register_conv(py::module_& m) {
    using py::arg, py::kw_only;
    const auto array = [](const char* name) { return arg(name).noconvert(); };
    const arg stride("stride"), padding("padding"), dilation("dilation"), groups("groups");
    m.def(
        "conv2d",
        [](const py::array& x, const py::array& w, const OptionalArray& bias, Two s, Two p, Two d, i64 g) {
            return forward(PRODUCTION, x, w, bias, s, p, d, g);
        },
        array("x"), array("weight"), array("bias"), kw_only(), stride, padding, dilation, groups);
    m.def(
        "conv2d_backward_input",
        [](const py::array& dy, const py::array& w, const Shape& x_shape, Two s, Two p, Two d, i64 g) {
            return backward_input(PRODUCTION, dy, w, x_shape, s, p, d, g);
        },
        array("dy"), array("weight"), kw_only(), arg("x_shape"), stride, padding, dilation, groups);
    m.def(
        "conv2d_backward_weight",
        [](const py::array& dy, const py::array& x, const Shape& w_shape, Two s, Two p, Two d, i64 g) {
            return backward_weight(PRODUCTION, dy, x, w_shape, s, p, d, g);
        },
        array("dy"), array("x"), kw_only(), arg("w_shape"), stride, padding, dilation, groups);
    m.def("conv_rungs", [] { return names_of(RUNGS); });
    // Any rung for any pass: the arguments of the three above after the rung's name. NotImplemented where it does not
    // fit.
    m.def(
        "conv_rung",
        [](const std::string& rung, const py::array& x, const py::array& w, const OptionalArray& bias, Two s, Two p,
           Two d, i64 g) { return forward(rung_of("conv_rung", RUNGS, rung), x, w, bias, s, p, d, g); },
        arg("name"), array("x"), array("weight"), array("bias"), kw_only(), stride, padding, dilation, groups);
    m.def(
        "conv_rung_backward_input",
        [](const std::string& rung, const py::array& dy, const py::array& w, const Shape& x_shape, Two s, Two p, Two d,
           i64 g) { return backward_input(rung_of("conv_rung", RUNGS, rung), dy, w, x_shape, s, p, d, g); },
        arg("name"), array("dy"), array("weight"), kw_only(), arg("x_shape"), stride, padding, dilation, groups);
    m.def(
        "conv_rung_backward_weight",
        [](const std::string& rung, const py::array& dy, const py::array& x, const Shape& w_shape, Two s, Two p, Two d,
           i64 g) { return backward_weight(rung_of("conv_rung", RUNGS, rung), dy, x, w_shape, s, p, d, g); },
        arg("name"), array("dy"), array("x"), kw_only(), arg("w_shape"), stride, padding, dilation, groups);
}

}  // namespace glassgrad::bindings
