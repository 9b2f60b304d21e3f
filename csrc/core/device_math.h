// What core/simd.h and core/math.h give to core/scalar_ops.h, for nvcc: V is float or double, the functions are CUDA's.
#pragma once

#include <cmath>

#define GLASSGRAD_HOST_DEVICE __host__ __device__

namespace glassgrad {

template <class V>
__host__ __device__ inline V constant(double x) {
    return static_cast<V>(x);
}
template <class V>
__host__ __device__ inline V select(bool m, V a, V b) {
    return m ? a : b;
}
/// NaN wins.
template <class V>
__host__ __device__ inline V maximum(V a, V b) {
    return a > b || a != a ? a : b;
}
template <class V>
__host__ __device__ inline V minimum(V a, V b) {
    return a < b || a != a ? a : b;
}

namespace math {

// The overloads for float and double; std::exp and its like are host functions only by name.
#define GLASSGRAD_CUDA_FUNCTION(name, function) \
    template <class V>                          \
    __host__ __device__ inline V name(V x) {    \
        return ::function(x);                   \
    }
GLASSGRAD_CUDA_FUNCTION(absolute, fabs)
GLASSGRAD_CUDA_FUNCTION(floor, floor)
GLASSGRAD_CUDA_FUNCTION(ceil, ceil)
GLASSGRAD_CUDA_FUNCTION(round, rint)
GLASSGRAD_CUDA_FUNCTION(sqrt, sqrt)
GLASSGRAD_CUDA_FUNCTION(exp, exp)
GLASSGRAD_CUDA_FUNCTION(log, log)
GLASSGRAD_CUDA_FUNCTION(log1p, log1p)
GLASSGRAD_CUDA_FUNCTION(sin, sin)
GLASSGRAD_CUDA_FUNCTION(cos, cos)
GLASSGRAD_CUDA_FUNCTION(tanh, tanh)
GLASSGRAD_CUDA_FUNCTION(erf, erf)
#undef GLASSGRAD_CUDA_FUNCTION

template <class V>
__host__ __device__ inline V pow(V a, V b) {
    return ::pow(a, b);
}
template <class V>
__host__ __device__ inline V sign(V x) {
    return x > 0 ? V(1) : x < 0 ? V(-1) : x == 0 ? V(0) : x;
}
template <class V>
__host__ __device__ inline V sigmoid(V x) {
    const V e = ::exp(-::fabs(x));
    return (x >= 0 ? V(1) : e) / (1 + e);
}
template <class V>
__host__ __device__ inline V silu(V x) {
    return x * sigmoid(x);
}
template <class V>
__host__ __device__ inline V times_sigmoid_of_cubic(V factor, V x) {
    return factor * sigmoid((x + V(0.044715) * x * x * x) * V(1.59576912160573071176));
}
template <class V>
__host__ __device__ inline V softplus(V x) {
    return maximum(x, V(0)) + ::log1p(::exp(-::fabs(x)));
}
template <class V>
__host__ __device__ inline V normal_distribution(V x) {
    return V(0.5) * ::erfc(x * V(-0.70710678118654752440));
}
template <class V>
__host__ __device__ inline V times_normal_distribution(V factor, V x) {
    return factor * normal_distribution(x);
}
template <class V>
__host__ __device__ inline V normal_density(V x) {
    return ::exp(x * x * V(-0.5)) * V(0.39894228040143267794);
}

}  // namespace math

}  // namespace glassgrad
