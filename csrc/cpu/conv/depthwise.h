// The weight gradient of a depthwise convolution.
#pragma once

#include "core/kernels.h"

namespace glassgrad {

/// As conv2d_backward_weight; made for c == groups.
template <class T>
void depthwise_backward_weight(T* dw, const T* dy, const T* x, const Conv2dShape& s);

}  // namespace glassgrad
