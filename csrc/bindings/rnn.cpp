#include "bindings/arguments.h"
#include "bindings/register.h"
#include "core/kernels.h"

namespace glassgrad::bindings {

namespace {

using Shape = std::vector<py::ssize_t>;
using Needs = std::vector<bool>;

/// What a layer is given, checked to fit together.
struct Layer {
    RecurrentShape shape;
    Shape states, state;  // (steps, batch, hidden), (batch, hidden)

    Layer(const char* op, i64 gates, const py::array& x, const py::array& h0, const py::array& w_ih,
          const py::array& w_hh, bool reverse) {
        expect_ndim(op, "x", x, 3);
        expect_ndim(op, "h0", h0, 2);
        const i64 hidden = h0.shape(1);
        shape = {x.shape(0), x.shape(1), x.shape(2), hidden, reverse};
        state = {shape.batch, hidden};
        states = {shape.steps, shape.batch, hidden};
        expect_shape(op, "h0", h0, state);
        expect_shape(op, "weight_ih", w_ih, {gates * hidden, shape.inputs});
        expect_shape(op, "weight_hh", w_hh, {gates * hidden, hidden});
    }
    Shape gates(i64 count) const { return {shape.steps, shape.batch, count * shape.hidden}; }
    i64 work() const { return shape.steps * shape.batch * (shape.hidden + 1) * (shape.hidden + shape.inputs + 1); }
};

void expect_biases(const char* op, const OptionalArray& b_ih, const OptionalArray& b_hh, py::ssize_t size) {
    if (b_ih.has_value() != b_hh.has_value()) fail(op, "biases", "one of two", "bias_ih and bias_hh, or neither");
    if (b_ih) expect_shape(op, "bias_ih", *b_ih, {size});
    if (b_hh) expect_shape(op, "bias_hh", *b_hh, {size});
}
void expect_gradient(const char* op, const char* name, const OptionalArray& dy, const Shape& shape) {
    if (dy) expect_shape(op, name, *dy, shape);
}

/// A new array and its memory.
template <class T>
struct Fresh {
    explicit Fresh(const Shape& shape) : array(empty<T>(shape)), data(array.mutable_data()) {}
    py::array_t<T> array;
    T* data;
};
/// The input gradient, where it is wanted.
template <class T>
struct InputGradient {
    InputGradient(const Needs& needs, const py::array& x) {
        if (needs.empty() || !needs[0]) return;
        auto dx = empty_like<T>(x);
        data = dx.mutable_data();
        object = dx;
    }
    py::object object = py::none();
    T* data = nullptr;
};
/// db for either bias: two arrays, since either may be kept and added to.
template <class T>
py::object bias_gradient(const OptionalArray& bias, const py::array_t<T>& db, bool copy) {
    if (!bias) return py::none();
    return copy ? py::object(db.attr("copy")()) : py::object(db);
}

bool is_relu(const char* op, const std::string& nonlinearity) {
    if (nonlinearity != "tanh" && nonlinearity != "relu") fail(op, "nonlinearity", nonlinearity, "tanh or relu");
    return nonlinearity == "relu";
}

// ---- rnn ------------------------------------------------------------------------------------------------------------

py::object rnn_forward(const py::array& x, const py::array& h0, const py::array& w_ih, const py::array& w_hh,
                       const OptionalArray& b_ih, const OptionalArray& b_hh, const std::string& nonlinearity,
                       bool reverse) {
    const char* op = "rnn_layer";
    return dispatch({&x, &h0, &w_ih, &w_hh, pointer(b_ih), pointer(b_hh)}, [&]<class T>(T) -> py::object {
        const Layer l(op, 1, x, h0, w_ih, w_hh, reverse);
        expect_biases(op, b_ih, b_hh, l.shape.hidden);
        const bool relu = is_relu(op, nonlinearity);
        const auto in = contiguous<T>(x), h = contiguous<T>(h0), wi = contiguous<T>(w_ih), wh = contiguous<T>(w_hh);
        const OptionalContiguous<T> bi(b_ih), bh(b_hh);
        Fresh<T> y(l.states), h_n(l.state);
        run(l.work(), [&, px = in.data(), ph = h.data(), pi = wi.data(), pw = wh.data()] {
            rnn_layer(y.data, h_n.data, px, ph, pi, pw, bi.data, bh.data, relu, l.shape);
        });
        return py::make_tuple(y.array, h_n.array);
    });
}

py::object rnn_gradient(const OptionalArray& dy, const OptionalArray& dh_n, const py::array& x, const py::array& h0,
                        const py::array& w_ih, const py::array& w_hh, const OptionalArray& b_ih, const py::array& y,
                        const Needs& needs, const std::string& nonlinearity, bool reverse) {
    const char* op = "rnn_layer_backward";
    return dispatch({pointer(dy), pointer(dh_n), &x, &h0, &w_ih, &w_hh, &y}, [&]<class T>(T) -> py::object {
        const Layer l(op, 1, x, h0, w_ih, w_hh, reverse);
        expect_gradient(op, "dy", dy, l.states);
        expect_gradient(op, "dh_n", dh_n, l.state);
        expect_shape(op, "y", y, l.states);
        const bool relu = is_relu(op, nonlinearity);
        const auto in = contiguous<T>(x), h = contiguous<T>(h0), wi = contiguous<T>(w_ih), wh = contiguous<T>(w_hh),
                   out = contiguous<T>(y);
        const OptionalContiguous<T> gy(dy), gh(dh_n);
        InputGradient<T> dx(needs, x);
        Fresh<T> dh(l.state), dwi(shape_of(w_ih)), dwh(shape_of(w_hh)), db({l.shape.hidden});
        run(l.work(), [&, px = in.data(), ph = h.data(), pi = wi.data(), pw = wh.data(), py = out.data()] {
            rnn_layer_backward(dx.data, dh.data, dwi.data, dwh.data, db.data, gy.data, gh.data, px, ph, pi, pw, py,
                               relu, l.shape);
        });
        return py::make_tuple(dx.object, dh.array, dwi.array, dwh.array, bias_gradient(b_ih, db.array, false),
                              bias_gradient(b_ih, db.array, true));
    });
}

// ---- lstm -----------------------------------------------------------------------------------------------------------

py::object lstm_forward(const py::array& x, const py::array& h0, const py::array& c0, const py::array& w_ih,
                        const py::array& w_hh, const OptionalArray& b_ih, const OptionalArray& b_hh, bool reverse) {
    const char* op = "lstm_layer";
    return dispatch({&x, &h0, &c0, &w_ih, &w_hh, pointer(b_ih), pointer(b_hh)}, [&]<class T>(T) -> py::object {
        const Layer l(op, 4, x, h0, w_ih, w_hh, reverse);
        expect_shape(op, "c0", c0, l.state);
        expect_biases(op, b_ih, b_hh, 4 * l.shape.hidden);
        const auto in = contiguous<T>(x), h = contiguous<T>(h0), c = contiguous<T>(c0), wi = contiguous<T>(w_ih),
                   wh = contiguous<T>(w_hh);
        const OptionalContiguous<T> bi(b_ih), bh(b_hh);
        Fresh<T> y(l.states), h_n(l.state), c_n(l.state), gates(l.gates(4)), cells(l.states);
        run(l.work(), [&, px = in.data(), ph = h.data(), pc = c.data(), pi = wi.data(), pw = wh.data()] {
            lstm_layer(y.data, h_n.data, c_n.data, gates.data, cells.data, px, ph, pc, pi, pw, bi.data, bh.data,
                       l.shape);
        });
        return py::make_tuple(py::make_tuple(y.array, h_n.array, c_n.array), gates.array, cells.array);
    });
}

py::object lstm_gradient(const OptionalArray& dy, const OptionalArray& dh_n, const OptionalArray& dc_n,
                         const py::array& x, const py::array& h0, const py::array& c0, const py::array& w_ih,
                         const py::array& w_hh, const OptionalArray& b_ih, const py::array& y, const py::array& gates,
                         const py::array& cells, const Needs& needs, bool reverse) {
    const char* op = "lstm_layer_backward";
    return dispatch(
        {pointer(dy), pointer(dh_n), pointer(dc_n), &x, &h0, &c0, &w_ih, &w_hh, &y, &gates, &cells},
        [&]<class T>(T) -> py::object {
            const Layer l(op, 4, x, h0, w_ih, w_hh, reverse);
            expect_gradient(op, "dy", dy, l.states);
            expect_gradient(op, "dh_n", dh_n, l.state);
            expect_gradient(op, "dc_n", dc_n, l.state);
            expect_shape(op, "c0", c0, l.state);
            expect_shape(op, "y", y, l.states);
            expect_shape(op, "gates", gates, l.gates(4));
            expect_shape(op, "cells", cells, l.states);
            const auto in = contiguous<T>(x), h = contiguous<T>(h0), c = contiguous<T>(c0), wi = contiguous<T>(w_ih),
                       wh = contiguous<T>(w_hh), out = contiguous<T>(y), g = contiguous<T>(gates),
                       all = contiguous<T>(cells);
            const OptionalContiguous<T> gy(dy), gh(dh_n), gc(dc_n);
            InputGradient<T> dx(needs, x);
            Fresh<T> dh(l.state), dc(l.state), dwi(shape_of(w_ih)), dwh(shape_of(w_hh)), db({4 * l.shape.hidden});
            run(l.work(), [&, px = in.data(), ph = h.data(), pc = c.data(), pi = wi.data(), pw = wh.data(),
                           py = out.data(), pg = g.data(), pa = all.data()] {
                lstm_layer_backward(dx.data, dh.data, dc.data, dwi.data, dwh.data, db.data, gy.data, gh.data, gc.data,
                                    px, ph, pc, pi, pw, py, pg, pa, l.shape);
            });
            return py::make_tuple(dx.object, dh.array, dc.array, dwi.array, dwh.array,
                                  bias_gradient(b_ih, db.array, false), bias_gradient(b_ih, db.array, true));
        });
}

// ---- gru ------------------------------------------------------------------------------------------------------------

py::object gru_forward(const py::array& x, const py::array& h0, const py::array& w_ih, const py::array& w_hh,
                       const OptionalArray& b_ih, const OptionalArray& b_hh, bool reverse) {
    const char* op = "gru_layer";
    return dispatch({&x, &h0, &w_ih, &w_hh, pointer(b_ih), pointer(b_hh)}, [&]<class T>(T) -> py::object {
        const Layer l(op, 3, x, h0, w_ih, w_hh, reverse);
        expect_biases(op, b_ih, b_hh, 3 * l.shape.hidden);
        const auto in = contiguous<T>(x), h = contiguous<T>(h0), wi = contiguous<T>(w_ih), wh = contiguous<T>(w_hh);
        const OptionalContiguous<T> bi(b_ih), bh(b_hh);
        Fresh<T> y(l.states), h_n(l.state), gates(l.gates(3)), candidate(l.states);
        run(l.work(), [&, px = in.data(), ph = h.data(), pi = wi.data(), pw = wh.data()] {
            gru_layer(y.data, h_n.data, gates.data, candidate.data, px, ph, pi, pw, bi.data, bh.data, l.shape);
        });
        return py::make_tuple(py::make_tuple(y.array, h_n.array), gates.array, candidate.array);
    });
}

py::object gru_gradient(const OptionalArray& dy, const OptionalArray& dh_n, const py::array& x, const py::array& h0,
                        const py::array& w_ih, const py::array& w_hh, const OptionalArray& b_ih, const py::array& y,
                        const py::array& gates, const py::array& candidate, const Needs& needs, bool reverse) {
    const char* op = "gru_layer_backward";
    return dispatch(
        {pointer(dy), pointer(dh_n), &x, &h0, &w_ih, &w_hh, &y, &gates, &candidate}, [&]<class T>(T) -> py::object {
            const Layer l(op, 3, x, h0, w_ih, w_hh, reverse);
            expect_gradient(op, "dy", dy, l.states);
            expect_gradient(op, "dh_n", dh_n, l.state);
            expect_shape(op, "y", y, l.states);
            expect_shape(op, "gates", gates, l.gates(3));
            expect_shape(op, "candidate", candidate, l.states);
            const auto in = contiguous<T>(x), h = contiguous<T>(h0), wi = contiguous<T>(w_ih), wh = contiguous<T>(w_hh),
                       out = contiguous<T>(y), g = contiguous<T>(gates), of_h = contiguous<T>(candidate);
            const OptionalContiguous<T> gy(dy), gh(dh_n);
            InputGradient<T> dx(needs, x);
            Fresh<T> dh(l.state), dwi(shape_of(w_ih)), dwh(shape_of(w_hh)), dbi({3 * l.shape.hidden}),
                dbh({3 * l.shape.hidden});
            run(l.work(), [&, px = in.data(), ph = h.data(), pi = wi.data(), pw = wh.data(), py = out.data(),
                           pg = g.data(), pc = of_h.data()] {
                gru_layer_backward(dx.data, dh.data, dwi.data, dwh.data, dbi.data, dbh.data, gy.data, gh.data, px, ph,
                                   pi, pw, py, pg, pc, l.shape);
            });
            return py::make_tuple(dx.object, dh.array, dwi.array, dwh.array, bias_gradient(b_ih, dbi.array, false),
                                  bias_gradient(b_ih, dbh.array, false));
        });
}

}  // namespace

void register_rnn(py::module_& m) {
    using py::arg;
    const auto array = [](const char* name) { return arg(name).noconvert(); };
    m.def("rnn_layer", rnn_forward, array("x"), array("h0"), array("weight_ih"), array("weight_hh"), array("bias_ih"),
          array("bias_hh"), py::kw_only(), arg("nonlinearity"), arg("reverse"));
    m.def("rnn_layer_backward", rnn_gradient, array("dy"), array("dh_n"), array("x"), array("h0"), array("weight_ih"),
          array("weight_hh"), array("bias_ih"), array("y"), arg("needs"), arg("nonlinearity"), arg("reverse"));
    m.def("lstm_layer", lstm_forward, array("x"), array("h0"), array("c0"), array("weight_ih"), array("weight_hh"),
          array("bias_ih"), array("bias_hh"), py::kw_only(), arg("reverse"));
    m.def("lstm_layer_backward", lstm_gradient, array("dy"), array("dh_n"), array("dc_n"), array("x"), array("h0"),
          array("c0"), array("weight_ih"), array("weight_hh"), array("bias_ih"), array("y"), array("gates"),
          array("cells"), arg("needs"), arg("reverse"));
    m.def("gru_layer", gru_forward, array("x"), array("h0"), array("weight_ih"), array("weight_hh"), array("bias_ih"),
          array("bias_hh"), py::kw_only(), arg("reverse"));
    m.def("gru_layer_backward", gru_gradient, array("dy"), array("dh_n"), array("x"), array("h0"), array("weight_ih"),
          array("weight_hh"), array("bias_ih"), array("y"), array("gates"), array("candidate"), arg("needs"),
          arg("reverse"));
}

}  // namespace glassgrad::bindings
