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

// ---- cpu/softmax/ ---------------------------------------------------------------------------------------------------

/// Softmax along the middle of x, y: (rows, cols, inner); y may alias x.  Overwrites y.
/// A row whose maximum is -inf, +inf or NaN becomes NaN where the formula's inf - inf does.
template <class T>
void softmax(T* y, const T* x, i64 rows, i64 cols, i64 inner);
/// dx = y * (dy - sum(dy * y)) along the middle.  dx may alias dy or y.  Overwrites dx.
template <class T>
void softmax_backward(T* dx, const T* dy, const T* y, i64 rows, i64 cols, i64 inner);
/// y = x - max - log(sum(exp(x - max))) along the middle; y may alias x.
template <class T>
void log_softmax(T* y, const T* x, i64 rows, i64 cols, i64 inner);
/// dx = dy - exp(y) * sum(dy) along the middle.  dx may alias dy or y.  Overwrites dx.
template <class T>
void log_softmax_backward(T* dx, const T* dy, const T* y, i64 rows, i64 cols, i64 inner);
// The rungs below production, softmax of rows: x, y: (rows, cols); y may alias x.
template <class T>
void softmax_naive(T* y, const T* x, i64 rows, i64 cols);
template <class T>
void softmax_online(T* y, const T* x, i64 rows, i64 cols);
template <class T>
void softmax_vectorised(T* y, const T* x, i64 rows, i64 cols);

// ---- cpu/cross_entropy.cpp ------------------------------------------------------------------------------------------

/// What becomes of the losses of the rows: all of them, their mean over the rows that count, or their sum.
enum class Reduction { NONE, MEAN, SUM };
/// loss_i = log_sum[i] - (logits[i, target[i]] - max[i]), 0 where target[i] == ignore_index, with max[i] the row's
/// maximum and log_sum[i] = log(sum(exp(logits[i] - max[i]))).  logits: (rows, cols); loss: (rows,), or one number,
/// where the mean of no row that counts is NaN; max, log_sum, target: (rows,).  Every other target must be in [0,
/// cols): not checked here.
template <class T>
void cross_entropy(T* loss, T* max, T* log_sum, const T* logits, const i64* target, i64 rows, i64 cols,
                   i64 ignore_index, Reduction reduction);
/// dx = (exp(logits - max - log_sum) - onehot(target)) * dloss per row, 0 where target == ignore_index; MEAN divides by
/// the number of rows that count.  dloss: as loss.  Overwrites dx.
template <class T>
void cross_entropy_backward(T* dx, const T* dloss, const T* logits, const T* max, const T* log_sum, const i64* target,
                            i64 rows, i64 cols, i64 ignore_index, Reduction reduction);

// ---- cpu/attention.cpp ----------------------------------------------------------------------------------------------

/// A matrix for each head of each sample: rows of adjacent numbers, any strides between rows, heads and samples. Heads
/// that are slices of a row of features need no copy.
template <class T>
struct HeadRows {
    T* data;
    i64 batch, head, row;  // strides

    T* of(i64 b, i64 h) const { return data + b * batch + h * head; }
};
/// What query i and key j of a head may do together, at b * batch + h * head + i * row + j * col of one of the two:
/// `open` says whether they meet, `added` is added to their score. Both null: no mask.
template <class T>
struct AttentionMask {
    const bool* open;
    const T* added;
    i64 batch, head, row, col;
};
/// l queries and s keys of e features, s values of ev features. causal: query i meets the keys 0 to i.
struct AttentionShape {
    i64 batch, heads, l, s, e, ev;
    bool causal;
    double scale;
};
/// y = softmax(scale q k^T + mask) v for every head; lse = log(sum(exp(scale q k^T + mask))) of every query.
/// q: (l, e), k: (s, e), v: (s, ev), y: (l, ev) of each head; lse: (batch, heads, l) contiguous.  Overwrites y and lse.
/// A query that meets no key gives 0 and lse -inf.  A key that is masked away counts as 0 times its value: NaN if that
/// is NaN or infinite, unless causal closes a whole block of keys, which is then not read.
template <class T>
void scaled_dot_product_attention(const HeadRows<T>& y, T* lse, const HeadRows<const T>& q, const HeadRows<const T>& k,
                                  const HeadRows<const T>& v, const AttentionMask<T>& mask, const AttentionShape& s);
/// Overwrites dq, dk, dv, shaped as q, k, v.  y and lse are forward's.
template <class T>
void scaled_dot_product_attention_backward(const HeadRows<T>& dq, const HeadRows<T>& dk, const HeadRows<T>& dv,
                                           const HeadRows<const T>& dy, const HeadRows<const T>& q,
                                           const HeadRows<const T>& k, const HeadRows<const T>& v,
                                           const AttentionMask<T>& mask, const HeadRows<const T>& y, const T* lse,
                                           const AttentionShape& s);

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
/// Of no elements: NaN statistics, and dweight and dbias of 0.
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
/// c = max(a @ b + bias, 0), NaN staying: as matmul, and each tile passes through relu while it lies in L1.
template <class T>
void matmul_relu(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s);
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

// ---- cpu/linear.cpp -------------------------------------------------------------------------------------------------

/// Of y = x @ w^T + b: dx = dy @ w, dw = dy^T @ x, db = sum of dy over the rows; null where not wanted.  Overwrites.
/// dy: (rows, out), x: (rows, in), w: (out, in).
template <class T>
void linear_backward(T* dx, T* dw, T* db, const T* dy, const T* x, const T* w, i64 rows, i64 in, i64 out);
/// The same of y = max(x @ w^T + b, 0): dy counts where y: (rows, out) is positive.
template <class T>
void linear_relu_backward(T* dx, T* dw, T* db, const T* dy, const T* y, const T* x, const T* w, i64 rows, i64 in,
                          i64 out);

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
/// Overwrites dw: (k, c / groups, kh, kw).  An infinite or NaN pixel may make NaN of every tap of its channel: zeros
/// between the rows of dy are multiplied with what lies there in x.
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
/// An infinity or a NaN makes NaN of all 4 x 4 outputs of a tile that sees it, and of all 9 taps of dw. So may numbers,
/// or sums of products, that come within a factor of 10^5 of the largest finite one: the transforms add up that many.
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

// ---- cpu/index.cpp --------------------------------------------------------------------------------------------------

// Error for an index outside [0, n). What is added to one element of y is added in the order of the index. What only
// moves, index_select and gather, takes T = i64 too.

/// y[o, k, :] = x[o, index[k], :].  y: (outer, m, inner), x: (outer, n, inner), index: (m,).  Overwrites y.
template <class T>
void index_select(T* y, const T* x, const i64* index, i64 outer, i64 n, i64 inner, i64 m);
/// y = x, then y[o, index[k], :] += source[o, k, :].  y, x: (outer, n, inner), source: (outer, m, inner).  x null: 0.
template <class T>
void index_add(T* y, const T* x, const T* source, const i64* index, i64 outer, i64 n, i64 inner, i64 m);
/// x: (outer, n, inner); the index: (index_outer, m, index_inner), no more than outer and inner.
struct GatherShape {
    i64 outer, n, inner, index_outer, m, index_inner;
};
/// y[o, k, j] = x[o, index[o, k, j], j].  y: as index.  Overwrites y.
template <class T>
void gather(T* y, const T* x, const i64* index, const GatherShape& s);
/// y = x, then y[o, index[o, k, j], j] += source[o, k, j].  y: as x; source: as index.  x null: 0.
template <class T>
void scatter_add(T* y, const T* x, const T* source, const i64* index, const GatherShape& s);

// ---- cpu/rnn.cpp ----------------------------------------------------------------------------------------------------

/// One layer in one direction. reverse: the sequence is walked from its last time to its first; every array keeps the
/// order of time.
struct RecurrentShape {
    i64 steps, batch, inputs, hidden;
    bool reverse;
};
// x: (steps, batch, inputs); y: (steps, batch, hidden), the state h after each step; h0, c0, h_n, c_n: (batch, hidden);
// w_ih: (G * hidden, inputs), w_hh: (G * hidden, hidden), b_ih, b_hh: (G * hidden,), both or neither null, for the G
// gates of ops/rnn.py in their order. All overwrite their outputs. Backward: dx is null where it is not wanted; dy,
// dh_n and dc_n are null where they are 0; the rest as forward had and left it.

/// h' = tanh(a), or relu: max(a, 0).
template <class T>
void rnn_layer(T* y, T* h_n, const T* x, const T* h0, const T* w_ih, const T* w_hh, const T* b_ih, const T* b_hh,
               bool relu, const RecurrentShape& s);
/// db: (hidden,), the gradient of either bias.
template <class T>
void rnn_layer_backward(T* dx, T* dh0, T* dw_ih, T* dw_hh, T* db, const T* dy, const T* dh_n, const T* x, const T* h0,
                        const T* w_ih, const T* w_hh, const T* y, bool relu, const RecurrentShape& s);
/// gates: (steps, batch, 4 * hidden), activated; cells: (steps, batch, hidden), the state c after each step: both null
/// where backward will not come.
template <class T>
void lstm_layer(T* y, T* h_n, T* c_n, T* gates, T* cells, const T* x, const T* h0, const T* c0, const T* w_ih,
                const T* w_hh, const T* b_ih, const T* b_hh, const RecurrentShape& s);
/// db: (4 * hidden,), the gradient of either bias.
template <class T>
void lstm_layer_backward(T* dx, T* dh0, T* dc0, T* dw_ih, T* dw_hh, T* db, const T* dy, const T* dh_n, const T* dc_n,
                         const T* x, const T* h0, const T* c0, const T* w_ih, const T* w_hh, const T* y, const T* gates,
                         const T* cells, const RecurrentShape& s);
/// gates: (steps, batch, 3 * hidden), activated; candidate: (steps, batch, hidden), what the reset gate multiplies:
/// both null where backward will not come.
template <class T>
void gru_layer(T* y, T* h_n, T* gates, T* candidate, const T* x, const T* h0, const T* w_ih, const T* w_hh,
               const T* b_ih, const T* b_hh, const RecurrentShape& s);
template <class T>
void gru_layer_backward(T* dx, T* dh0, T* dw_ih, T* dw_hh, T* db_ih, T* db_hh, const T* dy, const T* dh_n, const T* x,
                        const T* h0, const T* w_ih, const T* w_hh, const T* y, const T* gates, const T* candidate,
                        const RecurrentShape& s);

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
