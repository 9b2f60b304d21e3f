#include "bindings/arguments.h"
#include "bindings/register.h"
#include "core/kernels.h"

namespace glassgrad::bindings {

namespace {

using Shape = std::vector<py::ssize_t>;

/// (batch, heads, length, features) with adjacent features: the array as it lies, or a contiguous copy.
template <class T>
struct Heads {
    explicit Heads(const py::array& a) : array(walkable<T>(a)) {
        if (array.shape(3) > 1 && array.strides(3) != sizeof(T)) array = contiguous<T>(array);
        const auto stride = [&](int d) { return array.strides(d) / static_cast<i64>(sizeof(T)); };
        rows = {static_cast<const T*>(array.data()), stride(0), stride(1), stride(2)};
    }
    py::array array;
    HeadRows<const T> rows;
};

/// A new array, in memory by head and then by row, or the other way round if `like` is: what a transposition to and
/// from (batch, length, heads * features) leaves contiguous.
template <class T>
struct NewHeads {
    NewHeads(const Shape& shape, const py::array& like) {
        const i64 n = shape[1], length = shape[2], features = shape[3];
        const bool by_row = n > 1 && length > 1 && like.strides(1) < like.strides(2);
        const auto memory = by_row ? empty<T>({shape[0], length, n, features}) : empty<T>(shape);
        const i64 head = by_row ? features : length * features, row = by_row ? n * features : features;
        rows = {const_cast<T*>(memory.data()), n * length * features, head, row};
        const auto bytes = [](i64 stride) { return stride * static_cast<py::ssize_t>(sizeof(T)); };
        array = by_row
                    ? py::array_t<T>(shape, {bytes(rows.batch), bytes(head), bytes(row), bytes(1)}, rows.data, memory)
                    : memory;
    }
    py::array_t<T> array;
    HeadRows<T> rows;
};

AttentionShape checked_shape(const char* op, const py::array& q, const py::array& k, const py::array& v, bool causal,
                             double scale) {
    expect_ndim(op, "query", q, 4);
    expect_shape(op, "key", k, {q.shape(0), q.shape(1), k.ndim() == 4 ? k.shape(2) : 0, q.shape(3)});
    expect_shape(op, "value", v, {q.shape(0), q.shape(1), k.shape(2), v.ndim() == 4 ? v.shape(3) : 0});
    return {q.shape(0), q.shape(1), q.shape(2), k.shape(2), q.shape(3), v.shape(3), causal, scale};
}

/// bool or T, broadcast to (batch, heads, l, s).
template <class T>
struct MaskOf {
    MaskOf(const char* op, const OptionalArray& a, const AttentionShape& s) {
        if (!a) return;
        array = is_native<bool>(*a) ? *a : walkable<T>(*a);
        const Shape shape{s.batch, s.heads, s.l, s.s};
        i64 strides[4] = {};
        const auto missing = 4 - array.ndim();
        if (missing < 0) fail(op, "shape of attn_mask", describe(*a), "at most 4 axes");
        for (py::ssize_t d = 0; d < array.ndim(); ++d) {
            const auto extent = shape[static_cast<std::size_t>(d + missing)];
            if (array.shape(d) != extent && array.shape(d) != 1)
                fail(op, "shape of attn_mask", describe(*a), "a shape that broadcasts to " + describe(shape));
            strides[d + missing] = array.shape(d) == 1 ? 0 : array.strides(d) / array.itemsize();
        }
        mask.batch = strides[0], mask.head = strides[1], mask.row = strides[2], mask.col = strides[3];
        if (is_native<bool>(array))
            mask.open = static_cast<const bool*>(array.data());
        else
            mask.added = static_cast<const T*>(array.data());
    }
    py::array array;
    AttentionMask<T> mask{};
};

i64 work(const AttentionShape& s) {
    return static_cast<i64>(
        std::min(1e18, 1.0 * static_cast<double>(s.batch * s.heads * s.l) * static_cast<double>(s.s)));
}

const py::array* floating(const OptionalArray& mask) { return mask && !is_native<bool>(*mask) ? &*mask : nullptr; }

py::object forward(const py::array& query, const py::array& key, const py::array& value, const OptionalArray& attn_mask,
                   bool is_causal, double scale) {
    return dispatch({&query, &key, &value, floating(attn_mask)}, [&]<class T>(T) -> py::object {
        const char* op = "scaled_dot_product_attention";
        const AttentionShape s = checked_shape(op, query, key, value, is_causal, scale);
        const Heads<T> q(query), k(key), v(value);
        const MaskOf<T> mask(op, attn_mask, s);
        NewHeads<T> y({s.batch, s.heads, s.l, s.ev}, query);
        auto lse = empty<T>({s.batch, s.heads, s.l});
        T* out_lse = lse.mutable_data();
        run(work(s), [&] { scaled_dot_product_attention(y.rows, out_lse, q.rows, k.rows, v.rows, mask.mask, s); });
        return py::make_tuple(y.array, lse);
    });
}

py::object backward(const py::array& dy, const py::array& query, const py::array& key, const py::array& value,
                    const OptionalArray& attn_mask, const py::array& y, const py::array& lse,
                    const std::vector<bool>& needs, bool is_causal, double scale) {
    if (needs.size() != 4 || needs[3]) return not_implemented();  // the gradient of a mask is l * s numbers
    return dispatch({&dy, &query, &key, &value, floating(attn_mask), &y, &lse}, [&]<class T>(T) -> py::object {
        const char* op = "scaled_dot_product_attention_backward";
        const AttentionShape s = checked_shape(op, query, key, value, is_causal, scale);
        expect_shape(op, "dy", dy, {s.batch, s.heads, s.l, s.ev});
        expect_shape(op, "y", y, {s.batch, s.heads, s.l, s.ev});
        expect_shape(op, "lse", lse, {s.batch, s.heads, s.l});
        const Heads<T> gradient(dy), q(query), k(key), v(value), result(y);
        const MaskOf<T> mask(op, attn_mask, s);
        const auto sums = contiguous<T>(lse);
        NewHeads<T> dq(shape_of(query), query), dk(shape_of(key), key), dv(shape_of(value), value);
        run(work(s), [&, l = sums.data()] {
            scaled_dot_product_attention_backward(dq.rows, dk.rows, dv.rows, gradient.rows, q.rows, k.rows, v.rows,
                                                  mask.mask, result.rows, l, s);
        });
        return py::make_tuple(dq.array, dk.array, dv.array);
    });
}

}  // namespace

void register_attention(py::module_& m) {
    using py::arg;
    const auto array = [](const char* name) { return arg(name).noconvert(); };
    m.def("scaled_dot_product_attention", forward, array("query"), array("key"), array("value"), array("attn_mask"),
          py::kw_only(), arg("is_causal"), arg("scale"));
    m.def("scaled_dot_product_attention_backward", backward, array("dy"), array("query"), array("key"), array("value"),
          array("attn_mask"), array("y"), array("lse"), arg("needs"), arg("is_causal"), arg("scale"));
}

}  // namespace glassgrad::bindings
