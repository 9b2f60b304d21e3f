// Convolutions with one input channel per group: contracts as in kernels.h, for shapes where c == groups.
#pragma once

#include "core/kernels.h"

namespace glassgrad {

template <class T>
void depthwise_forward(T* y, const T* x, const T* w, const T* bias, const Conv2dShape& s);
template <class T>
void depthwise_backward_input(T* dx, const T* dy, const T* w, const Conv2dShape& s);
template <class T>
void depthwise_backward_weight(T* dw, const T* dy, const T* x, const Conv2dShape& s);

}  // namespace glassgrad
