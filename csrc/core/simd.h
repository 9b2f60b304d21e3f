// Vec<T>: as many T as one register of the instruction set this file is compiled for holds.
//
// A thin name over the GCC/Clang vector extension: + - * / and comparisons are the compiler's, and `acc += a * b`
// becomes one fused multiply-add (-ffp-contract=fast). Only what the extension has no word for is written here.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/check.h"

namespace glassgrad {

#if defined(__AVX512F__)
inline constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX2__)
inline constexpr int VECTOR_BYTES = 32;
#else
inline constexpr int VECTOR_BYTES = 16;  // SSE and NEON
#endif

template <class T>
struct VectorTypes;
template <>
struct VectorTypes<float> {
    typedef float V __attribute__((vector_size(VECTOR_BYTES)));
    typedef std::int32_t Mask __attribute__((vector_size(VECTOR_BYTES)));
    using Int = std::int32_t;
};
template <>
struct VectorTypes<double> {
    typedef double V __attribute__((vector_size(VECTOR_BYTES)));
    typedef std::int64_t Mask __attribute__((vector_size(VECTOR_BYTES)));
    using Int = std::int64_t;
};

template <class T>
using Vec = typename VectorTypes<T>::V;
/// Lane-wise truth: all bits set or none; also the integer vector of the same width.
template <class T>
using Mask = typename VectorTypes<T>::Mask;

/// Whether a * b + c rounds once: GCC and Clang then fuse it wherever they meet it.
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
inline constexpr bool FUSED = true;
#else
inline constexpr bool FUSED = false;
#endif

/// Lanes of a Vec<T>.
template <class T>
inline constexpr int W = VECTOR_BYTES / static_cast<int>(sizeof(T));

template <class T>
inline Vec<T> broadcast(T x) {
    return x - Vec<T>{};  // 0 is subtracted, not added: -0.0 - 0.0 stays -0.0
}
template <class T>
inline Vec<T> load(const T* p) {  // any alignment
    Vec<T> v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
template <class T>
inline void store(T* p, const Vec<T>& v) {
    std::memcpy(p, &v, sizeof v);
}
namespace detail {
#if defined(__AVX512F__)
inline __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1); }
#elif defined(__AVX2__)
template <class T>
__m256i first_lanes(int n) {
    Mask<T> lane;
    for (int i = 0; i < W<T>; ++i) lane[i] = i;
    return std::bit_cast<__m256i>(lane < typename VectorTypes<T>::Int{n});
}
#endif
}  // namespace detail

/// The first n <= W<T> elements of p; the other lanes are `fill`. Reads nothing beyond p[n - 1].
template <class T>
inline Vec<T> load_partial(const T* p, int n, T fill = T(0)) {
    Vec<T> v = broadcast(fill);
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        v = _mm512_mask_loadu_ps(v, detail::first_lanes(n), p);
    else
        v = _mm512_mask_loadu_pd(v, static_cast<__mmask8>(detail::first_lanes(n)), p);
#elif defined(__AVX2__)
    const auto lanes = detail::first_lanes<T>(n);
    if constexpr (sizeof(T) == 4)
        v = _mm256_blendv_ps(v, _mm256_maskload_ps(p, lanes), _mm256_castsi256_ps(lanes));
    else
        v = _mm256_blendv_pd(v, _mm256_maskload_pd(p, lanes), _mm256_castsi256_pd(lanes));
#else
    for (int i = 0; i < n; ++i) v[i] = p[i];
#endif
    return v;
}
/// Writes the first n <= W<T> lanes, and nothing beyond p[n - 1].
template <class T>
inline void store_partial(T* p, const Vec<T>& v, int n) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        _mm512_mask_storeu_ps(p, detail::first_lanes(n), v);
    else
        _mm512_mask_storeu_pd(p, static_cast<__mmask8>(detail::first_lanes(n)), v);
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 4)
        _mm256_maskstore_ps(p, detail::first_lanes<T>(n), v);
    else
        _mm256_maskstore_pd(p, detail::first_lanes<T>(n), v);
#else
    for (int i = 0; i < n; ++i) p[i] = v[i];
#endif
}

/// The first `lanes` elements of p, or of all a register holds; the lanes beyond are `fill`.
template <class T>
__attribute__((always_inline)) inline Vec<T> load_lanes(const T* p, int lanes, T fill = T(0)) {
    return lanes == W<T> ? load(p) : load_partial(p, lanes, fill);
}
template <class T>
__attribute__((always_inline)) inline void store_lanes(T* p, const Vec<T>& v, int lanes) {
    if (lanes == W<T>)
        store(p, v);
    else
        store_partial(p, v, lanes);
}
/// f(j, lanes) for the vectors of n elements: whole ones, then what is left.
template <class T, class F>
__attribute__((always_inline)) inline void each_vector(i64 n, F&& f) {
    i64 j = 0;
    for (; j + W<T> <= n; j += W<T>) f(j, W<T>);
    if (j < n) f(j, static_cast<int>(n - j));
}

inline Vec<float> select(const Mask<float>& m, const Vec<float>& a, const Vec<float>& b) { return m ? a : b; }
inline Vec<double> select(const Mask<double>& m, const Vec<double>& a, const Vec<double>& b) { return m ? a : b; }
template <class T>
    requires std::is_floating_point_v<T>
inline T select(bool m, T a, T b) {
    return m ? a : b;
}

/// Whether a lane is set.
template <class M>
inline bool any(const M& mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask(std::bit_cast<__m512i>(mask), std::bit_cast<__m512i>(mask)) != 0;
#elif defined(__AVX2__)
    return !_mm256_testz_si256(std::bit_cast<__m256i>(mask), std::bit_cast<__m256i>(mask));
#else
    bool found = false;
    for (std::size_t i = 0; i < sizeof mask / sizeof mask[0]; ++i) found |= mask[i] != 0;
    return found;
#endif
}

/// The element type of a scalar or of a Vec.
template <class V>
struct ElementOf {
    using type = std::decay_t<decltype(std::declval<V>()[0])>;
};
template <>
struct ElementOf<float> {
    using type = float;
};
template <>
struct ElementOf<double> {
    using type = double;
};
template <class V>
using Element = typename ElementOf<V>::type;

/// The constant x in every lane of a V (or the scalar itself).
template <class V>
inline V constant(double x) {
    if constexpr (std::is_floating_point_v<V>)
        return static_cast<V>(x);
    else
        return broadcast<Element<V>>(static_cast<Element<V>>(x));
}

/// NaN wins, as in numpy.maximum and torch.maximum.
template <class V>
inline V maximum(const V& a, const V& b) {
    return select((a > b) | (a != a), a, b);
}
template <class V>
inline V minimum(const V& a, const V& b) {
    return select((a < b) | (a != a), a, b);
}

/// All lanes joined in a fixed order: halves are folded onto each other, so the result does not depend on the compiler.
template <class T, class Join>
inline T fold_lanes(Vec<T> v, Join&& join) {
    const auto fold = [&]<int HALF>(std::integral_constant<int, HALF>) {
        [&]<int... I>(std::integer_sequence<int, I...>) {
            v = join(v, Vec<T>(__builtin_shufflevector(v, v, (I + HALF) % W<T>...)));
        }(std::make_integer_sequence<int, W<T>>{});
    };
    if constexpr (W<T> > 8) fold(std::integral_constant<int, 8>{});
    if constexpr (W<T> > 4) fold(std::integral_constant<int, 4>{});
    if constexpr (W<T> > 2) fold(std::integral_constant<int, 2>{});
    fold(std::integral_constant<int, 1>{});
    return v[0];
}
template <class T>
inline T horizontal_sum(const Vec<T>& v) {
    return fold_lanes<T>(v, [](const Vec<T>& a, const Vec<T>& b) { return a + b; });
}

}  // namespace glassgrad
