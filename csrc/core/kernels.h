// TABLE OF CONTENTS of the CPU kernels: every kernel's contract stands here, its code in cpu/<op>.cpp.
//
// Conventions. Arguments in the order outputs, inputs, sizes. Arrays are raw pointers to contiguous row-major memory of
// any alignment unless a View is asked for. Outputs never alias inputs unless the comment allows it. Every size may be
// 0. T is float or double. Results are bit-identical for any number of threads.
#pragma once

#include "core/check.h"
#include "core/view.h"

namespace glassgrad {

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

// ---- cpu/conv/ ------------------------------------------------------------------------------------------------------

/// k output channels; strides, dilations, groups and kernel at least 1; c and k multiples of groups; oh and ow given
/// by the caller: floor((h + 2 pad_h - dil_h (kh - 1) - 1) / stride_h) + 1.
struct Conv2dShape {
    i64 n, c, h, w, k, kh, kw, stride_h, stride_w, pad_h, pad_w, dil_h, dil_w, groups, oh, ow;
};
/// y: (n, k, oh, ow), x: (n, c, h, w), w: (k, c / groups, kh, kw), bias: (k,) or null.  Overwrites y.
/// Taps in the padding are skipped by naive and multiplied as zeros by the others: an infinite or NaN weight differs.
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

}  // namespace glassgrad
