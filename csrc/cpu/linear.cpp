// The gradients of a linear layer: two products and a sum.
//
// In one call, because the layer is the commonest of all and its products are often small: five crossings from Python
// (two transposes, two products, a sum) cost 15 us, as much as the gradients of a (64, 100) @ (100, 100) layer.
#include "core/allocator.h"
#include "core/kernels.h"
#include "core/scalar_ops.h"

namespace glassgrad {

template <class T>
void linear_backward(T* dx, T* dw, T* db, const T* dy, const T* x, const T* w, i64 rows, i64 in, i64 out) {
    const T* no_bias = nullptr;
    if (dx) matmul(dx, dy, w, no_bias, MatmulShape{rows, in, out, out, 1, in, 1});
    if (dw) matmul(dw, dy, x, no_bias, MatmulShape{out, in, rows, 1, out, in, 1});
    if (db) {
        View<const T> v;
        v.data = dy;
        v.ndim = 2;
        v.shape[0] = rows, v.shape[1] = out;
        v.stride[0] = out, v.stride[1] = 1;
        sum(db, v, Axes{1});
    }
}

template <class T>
void linear_relu_backward(T* dx, T* dw, T* db, const T* dy, const T* y, const T* x, const T* w, i64 rows, i64 in,
                          i64 out) {
    Scratch<T> gradient(rows * out);  // of what relu got
    const auto row = [=](const T* p) {
        View<const T> v;
        v.data = p;
        v.ndim = 1;
        v.shape[0] = rows * out;
        v.stride[0] = 1;
        return v;
    };
    unary_backward<scalar::relu>(gradient.get(), row(dy), row(y));
    linear_backward<T>(dx, dw, db, gradient.get(), x, w, rows, in, out);
}

#define INSTANTIATE(T)                                                                         \
    template void linear_backward<T>(T*, T*, T*, const T*, const T*, const T*, i64, i64, i64); \
    template void linear_relu_backward<T>(T*, T*, T*, const T*, const T*, const T*, const T*, i64, i64, i64);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
