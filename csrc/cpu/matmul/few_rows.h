// Products that are thin: one row, or few rows against a b that lies column by column, and their transposes.
#pragma once

#include "core/kernels.h"

namespace glassgrad {

/// If one product of s is thin and lies well, computes it as matmul does and returns true; else does nothing.
template <class T>
bool multiply_few_rows(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s);

}  // namespace glassgrad
