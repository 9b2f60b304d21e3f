// TABLE OF CONTENTS of the CPU kernels: every kernel's contract stands here, its code in cpu/<op>.cpp.
//
// Conventions. Arguments in the order outputs, inputs, sizes. Arrays are raw pointers to contiguous row-major memory of
// any alignment unless a View is asked for. Outputs never alias inputs unless the comment allows it. Every size may be
// 0. T is float or double. Results are bit-identical for any number of threads.
#pragma once

#include "core/check.h"
#include "core/view.h"

namespace glassgrad {

// ---- cpu/reduce.cpp -------------------------------------------------------------------------------------------------

/// The axes a reduction runs over: bit d stands for axis d. y below holds one element for each position of the other
/// axes, in their order; without axes it is a copy. Sums run in T over short blocks, and in double over these.
using Axes = std::uint32_t;

/// 0 of no elements.  Overwrites y, as all below.
template <class T>
void sum(T* y, const View<const T>& x, Axes axes);
/// NaN of no elements.
template <class T>
void mean(T* y, const View<const T>& x, Axes axes);
/// 1 of no elements.
template <class T>
void prod(T* y, const View<const T>& x, Axes axes);
/// NaN wins.  Error for no elements, as in amin.
template <class T>
void amax(T* y, const View<const T>& x, Axes axes);
template <class T>
void amin(T* y, const View<const T>& x, Axes axes);
/// log(sum(exp(x))), without overflow.  -inf of no elements and where all are -inf; +inf where one is; NaN wins.
template <class T>
void logsumexp(T* y, const View<const T>& x, Axes axes);
/// sum((x - mean)^2) / max(0, count - correction): NaN or inf where that divides by 0.
template <class T>
void var(T* y, const View<const T>& x, Axes axes, double correction);
/// Position of the extreme along one axis: the first of equals, the first NaN before all.  Error for no elements.
template <class T>
void argmax(i64* index, const View<const T>& x, int axis);
template <class T>
void argmin(i64* index, const View<const T>& x, int axis);
/// As argmax and argmin, with the element itself.
template <class T>
void max(T* y, i64* index, const View<const T>& x, int axis);
template <class T>
void min(T* y, i64* index, const View<const T>& x, int axis);
/// y[.., i, ..] = sum of x[.., j, ..] for j <= i, in double.  x, y: (outer, n, inner).  y may alias x.
template <class T>
void cumsum(T* y, const T* x, i64 outer, i64 n, i64 inner);

// ---- cpu/elementwise.cpp --------------------------------------------------------------------------------------------

// Op is a struct of core/scalar_ops.h. The views of a call have one shape, a repeated axis having stride 0; y is
// contiguous. All overwrite y, which in unary, unary_backward and binary may alias a contiguous input.

/// y = Op::f(x).
template <class Op, class T>
void unary(T* y, const View<const T>& x);
/// dx = Op::df(dy, kept), kept being the x or the y of the op.
template <class Op, class T>
void unary_backward(T* dx, const View<const T>& dy, const View<const T>& kept);
/// y = Op::f(x), a bool.
template <class Op, class T>
void predicate(bool* y, const View<const T>& x);
/// y = Op::f(a, b).
template <class Op, class T>
void binary(T* y, const View<const T>& a, const View<const T>& b);
/// y = Op::f(a, b), a bool.
template <class Op, class T>
void compare(bool* y, const View<const T>& a, const View<const T>& b);
/// y = mask ? a : b.
template <class T>
void where(T* y, const View<const bool>& mask, const View<const T>& a, const View<const T>& b);

// ---- cpu/softmax.cpp ------------------------------------------------------------------------------------------------

/// Row-wise softmax.  x, y: (rows, cols); y may alias x.  Overwrites y.
/// A row whose maximum is -inf, +inf or NaN becomes NaN where the formula's inf - inf does.
template <class T>
void softmax(T* y, const T* x, i64 rows, i64 cols);
/// dx = y * (dy - sum(dy * y)) per row.  dx may alias dy or y.  Overwrites dx.
template <class T>
void softmax_backward(T* dx, const T* dy, const T* y, i64 rows, i64 cols);
/// y = x - max - log(sum(exp(x - max))) per row; y may alias x.
template <class T>
void log_softmax(T* y, const T* x, i64 rows, i64 cols);
/// dx = dy - exp(y) * sum(dy) per row.  dx may alias dy or y.  Overwrites dx.
template <class T>
void log_softmax_backward(T* dx, const T* dy, const T* y, i64 rows, i64 cols);
/// losses[i] = lse[i] - logits[i, target[i]] with lse[i] = log(sum(exp(logits[i]))); 0 where target[i] == ignore_index.
/// logits: (rows, cols); losses, lse, target: (rows,).  Every other target must be in [0, cols): not checked here.
template <class T>
void cross_entropy(T* losses, T* lse, const T* logits, const i64* target, i64 rows, i64 cols, i64 ignore_index);
/// dx = (exp(logits - lse) - onehot(target)) * dlosses per row, 0 where target == ignore_index.  Overwrites dx.
template <class T>
void cross_entropy_backward(T* dx, const T* dlosses, const T* logits, const T* lse, const i64* target, i64 rows,
                            i64 cols, i64 ignore_index);

// ---- cpu/norm.cpp ---------------------------------------------------------------------------------------------------

/// y = (x - mean) * rstd * weight + bias per row, rstd = 1 / sqrt(var + eps), var over cols (not cols - 1).
/// x, y: (rows, cols); weight, bias: (cols,) or null; mean, rstd: (rows,).  y may alias x.  cols == 0: NaN statistics.
template <class T>
void layer_norm(T* y, T* mean, T* rstd, const T* x, const T* weight, const T* bias, i64 rows, i64 cols, double eps);
/// dx: (rows, cols); dweight, dbias: (cols,) or null (not wanted).  Overwrites.  dx may alias dy.
template <class T>
void layer_norm_backward(T* dx, T* dweight, T* dbias, const T* dy, const T* x, const T* weight, const T* mean,
                         const T* rstd, i64 rows, i64 cols);
/// As layer_norm, with statistics over n and spatial of x: (n, c, spatial); weight, bias, mean, rstd: (c,).
template <class T>
void batch_norm(T* y, T* mean, T* rstd, const T* x, const T* weight, const T* bias, i64 n, i64 c, i64 spatial,
                double eps);
template <class T>
void batch_norm_backward(T* dx, T* dweight, T* dbias, const T* dy, const T* x, const T* weight, const T* mean,
                         const T* rstd, i64 n, i64 c, i64 spatial);
/// y = (x - mean) / sqrt(var + eps) * weight + bias with the statistics given.  y may alias x.
template <class T>
void batch_norm_eval(T* y, const T* x, const T* weight, const T* bias, const T* mean, const T* var, i64 n, i64 c,
                     i64 spatial, double eps);

// ---- cpu/matmul/ ----------------------------------------------------------------------------------------------------

/// One axis of a batch of products: `size` of them, whose matrices lie a_stride and b_stride elements apart.
struct BatchAxis {
    i64 size, a_stride, b_stride;
};
/// a: (m, k), b: (k, n). Strides count elements and may be anything, 0 and below too: a transpose or a broadcast matrix
/// needs no copy. The batch has batch_axes axes, outermost first; none is one product.
struct MatmulShape {
    i64 m, n, k, a_row, a_col, b_row, b_col;
    int batch_axes = 0;
    const BatchAxis* batch = nullptr;
};
/// c = a @ b + bias for every matrix of the batch.  c: (batch..., m, n) contiguous; bias: (n,) or null.  Overwrites c.
/// k == 0 leaves the bias, or 0.  No product is skipped: 0 * NaN is NaN.  Sums are taken in blocks of the rung's
/// choice.
template <class T>
void matmul(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s);
// The rungs below production, same contract.
template <class T>
void matmul_naive(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s);
template <class T>
void matmul_reordered(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s);
template <class T>
void matmul_tiled(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s);
template <class T>
void matmul_vectorised(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s);
template <class T>
void matmul_packed(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s);
/// The most this machine multiplies and adds: GFLOP/s of one thread whose numbers never leave the registers, the best
/// of short runs that take about `seconds` together.
template <class T>
double fma_ceiling(double seconds);

// ---- cpu/conv/ ------------------------------------------------------------------------------------------------------

/// k output channels; strides, dilations, groups and kernel at least 1; c and k multiples of groups; oh and ow given
/// by the caller: floor((h + 2 pad_h - dil_h (kh - 1) - 1) / stride_h) + 1.
struct Conv2dShape {
    i64 n, c, h, w, k, kh, kw, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups, oh, ow;
};
/// y: (n, k, oh, ow), x: (n, c, h, w), w: (k, c / groups, kh, kw), bias: (k,) or null.  Overwrites y.
/// Taps in the padding are skipped by naive and multiplied as zeros by the others: an infinite or NaN weight differs.
/// From 16 channels (of a group, in and out) on, 3 x 3 with stride and dilation 1 is done by winograd: see there.
template <class T>
void conv2d(T* y, const T* x, const T* w, const T* bias, const Conv2dShape& s);
/// Overwrites dx: (n, c, h, w).
template <class T>
void conv2d_backward_input(T* dx, const T* dy, const T* w, const Conv2dShape& s);
/// Overwrites dw: (k, c / groups, kh, kw).
template <class T>
void conv2d_backward_weight(T* dw, const T* dy, const T* x, const Conv2dShape& s);
// The rungs below production, same contracts.
template <class T>
void conv2d_naive(T* y, const T* x, const T* w, const T* bias, const Conv2dShape& s);
template <class T>
void conv2d_backward_input_naive(T* dx, const T* dy, const T* w, const Conv2dShape& s);
template <class T>
void conv2d_backward_weight_naive(T* dw, const T* dy, const T* x, const Conv2dShape& s);
template <class T>
void conv2d_im2col(T* y, const T* x, const T* w, const T* bias, const Conv2dShape& s);
template <class T>
void conv2d_backward_input_im2col(T* dx, const T* dy, const T* w, const Conv2dShape& s);
template <class T>
void conv2d_backward_weight_im2col(T* dw, const T* dy, const T* x, const Conv2dShape& s);
template <class T>
void conv2d_implicit(T* y, const T* x, const T* w, const T* bias, const Conv2dShape& s);
template <class T>
void conv2d_backward_input_implicit(T* dx, const T* dy, const T* w, const Conv2dShape& s);
template <class T>
void conv2d_backward_weight_implicit(T* dw, const T* dy, const T* x, const Conv2dShape& s);
/// Whether the three below can do it: 3 x 3, stride and dilation 1; any padding, any groups.
bool winograd_fits(const Conv2dShape& s);
/// An infinity or a NaN makes NaN of all 4 x 4 outputs of a tile that sees it, and of all 9 taps of dw.
/// float: errors up to 1e-5 of the largest result, for normal data; the other rungs' are 1e-6.
template <class T>
void conv2d_winograd(T* y, const T* x, const T* w, const T* bias, const Conv2dShape& s);
template <class T>
void conv2d_backward_input_winograd(T* dx, const T* dy, const T* w, const Conv2dShape& s);
template <class T>
void conv2d_backward_weight_winograd(T* dw, const T* dy, const T* x, const Conv2dShape& s);

// ---- cpu/pool.cpp ---------------------------------------------------------------------------------------------------

/// Windows over planes (h, w) to (oh, ow).  Any oh, ow: a window may hang over the edge (ceil_mode).
struct Pool2dShape {
    i64 planes, h, w, kh, kw, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, oh, ow;
};
/// y, index: (planes, oh, ow).  index counts within the h * w plane; the first maximum wins, the last NaN beats all.
/// A window that holds no input gives -inf and index -1.
template <class T>
void max_pool2d(T* y, i64* index, const T* x, const Pool2dShape& s);
/// Overwrites dx: (planes, h, w).  An index of -1 is skipped; others must be in [0, h * w): not checked here.
template <class T>
void max_pool2d_backward(T* dx, const T* dy, const i64* index, const Pool2dShape& s);
/// Mean over the window; the divisor counts padding (but nothing beyond it) when count_include_pad.  Dilation is 1.
/// A window that holds no input gives 0.
template <class T>
void avg_pool2d(T* y, const T* x, const Pool2dShape& s, bool count_include_pad);
/// Overwrites dx: (planes, h, w).
template <class T>
void avg_pool2d_backward(T* dx, const T* dy, const Pool2dShape& s, bool count_include_pad);

// ---- cpu/optim.cpp --------------------------------------------------------------------------------------------------

// One step of an optimizer over all its parameters, in place: arrays of `size` elements each, none overlapping another.
// With g the gradient, negated if maximize; `g += weight_decay * p` comes first unless said otherwise.

template <class T>
struct SgdParameter {
    T* p;
    const T* grad;
    T* momentum;  // null when momentum is 0
    i64 size;
    bool first;  // momentum holds nothing yet
};
struct SgdOptions {
    double lr, momentum, dampening, weight_decay;
    bool nesterov, maximize;
};
/// b = first ? g : momentum * b + (1 - dampening) * g;  p -= lr * (nesterov ? g + momentum * b : b).
template <class T>
void sgd_step(const SgdParameter<T>* parameters, i64 count, const SgdOptions& options);

template <class T>
struct AdamParameter {
    T* p;
    const T* grad;
    T *m, *v, *v_max;  // v_max is null unless amsgrad
    i64 size;
    i64 step;  // 1 at the first
};
struct AdamOptions {
    double lr, beta1, beta2, eps, weight_decay;
    bool decoupled, maximize;
};
/// m += (1 - beta1) * (g - m);  v = beta2 * v + (1 - beta2) * g^2;  with v_max: v_max = max(v_max, v), used for v;
/// p -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps).
/// decoupled (AdamW): weight decay is p *= 1 - lr * weight_decay, and g has none.
template <class T>
void adam_step(const AdamParameter<T>* parameters, i64 count, const AdamOptions& options);

template <class T>
struct RmspropParameter {
    T* p;
    const T* grad;
    T *v, *momentum, *average;  // momentum is null when it is 0, average unless centered
    i64 size;
};
struct RmspropOptions {
    double lr, alpha, eps, weight_decay, momentum;
    bool maximize;
};
/// v = alpha * v + (1 - alpha) * g^2;  with average: a += (1 - alpha) * (g - a), d = sqrt(v - a^2) + eps, else
/// d = sqrt(v) + eps;  p -= lr * g / d, or with momentum: b = momentum * b + g / d, p -= lr * b.
template <class T>
void rmsprop_step(const RmspropParameter<T>* parameters, i64 count, const RmspropOptions& options);

template <class T>
struct AdagradParameter {
    T* p;
    const T* grad;
    T* sum;
    i64 size;
    double lr;  // decayed already
};
struct AdagradOptions {
    double eps, weight_decay;
    bool maximize;
};
/// s += g^2;  p -= lr * g / (sqrt(s) + eps).
template <class T>
void adagrad_step(const AdagradParameter<T>* parameters, i64 count, const AdagradOptions& options);

// ---- cpu/random.cpp -------------------------------------------------------------------------------------------------

/// 128 bits, the low half first.
struct Counter {
    std::uint64_t low, high;
};
/// y[i] = word i % 4 of Philox4x32-10 with key `seed` at the counter `offset + i / 4` (which wraps at 2^128).
void philox4x32(std::uint32_t* y, i64 n, std::uint64_t seed, Counter offset);

}  // namespace glassgrad
