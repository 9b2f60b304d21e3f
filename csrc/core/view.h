// View: how an array lies in memory. Strides count elements, may be 0 (broadcast) or negative.
#pragma once

#include "core/check.h"

namespace glassgrad {

/// NumPy 1 allowed 32 axes; an array of more axes is left to the reference backend.
inline constexpr int MAX_DIMS = 32;

template <class T>
struct View {
    T* data = nullptr;
    int ndim = 0;
    i64 shape[MAX_DIMS] = {};
    i64 stride[MAX_DIMS] = {};

    i64 size() const {
        i64 n = 1;
        for (int d = 0; d < ndim; ++d) n *= shape[d];
        return n;
    }
};

}  // namespace glassgrad
