// Element-wise ops: one loop for every formula of core/scalar_ops.h.
//
// Bytes: a float op reads 4 or 8 and writes 4 per element, and does one formula of 1 to 30 instructions per register of
// 8 or 16: memory is the limit for all but the longest. The last, partial register goes through the same code as the
// others, so that an element's value does not depend on where in the array it stands.
#include <algorithm>

#include "core/kernels.h"
#include "core/parallel.h"
#include "core/scalar_ops.h"
#include "core/simd.h"

namespace glassgrad {

namespace {

constexpr i64 CHUNK = 1 << 15;  // elements: 128 KiB of float, about 10 us, ten times what handing a chunk over costs

/// f(j, lanes) for j = 0, W, 2 W ... < n.
template <class T, class F>
inline void each_register(i64 n, F&& f) {
    i64 j = 0;
    for (; j + W<T> <= n; j += W<T>) f(j, W<T>);
    if (j < n) f(j, static_cast<int>(n - j));
}
template <class T>
inline Vec<T> load_lanes(const T* p, int lanes) {
    return lanes == W<T> ? load(p) : load_partial(p, lanes, T(1));  // 1: in the domain of every op
}
template <class T>
inline void store_lanes(T* p, const Vec<T>& v, int lanes) {
    lanes == W<T> ? store(p, v) : store_partial(p, v, lanes);
}
/// `lanes` elements, `step` apart.
template <class T>
inline Vec<T> gather(const T* p, i64 step, int lanes) {
    Vec<T> v = broadcast(T(1));
    for (int i = 0; i < lanes; ++i) v[i] = p[i * step];
    return v;
}

// ---- broadcasting -----------------------------------------------------------------------------------------------------

/// The shape that N arrays share, with axes merged where all of them allow it: the last is as long as it can be.
template <int N>
struct Loop {
    int ndim = 0;
    i64 shape[MAX_DIMS];
    i64 step[MAX_DIMS][N];

    void add(i64 extent, const i64 (&steps)[N]) {  // an axis outside of those before
        if (extent == 1) return;
        if (ndim > 0) {
            const int in = ndim - 1;
            bool joint = true;
            for (int k = 0; k < N; ++k) joint &= steps[k] == step[in][k] * shape[in];
            if (joint) {
                shape[in] *= extent;
                return;
            }
        }
        shape[ndim] = extent;
        for (int k = 0; k < N; ++k) step[ndim][k] = steps[k];
        ++ndim;
    }
};

/// f(first result, offsets, count, steps) for runs of results along the innermost axis; threads share the runs.
template <int N, class F>
void for_runs(const Loop<N>& loop, i64 size, F&& f) {
    if (size == 0) return;
    const i64 inner = loop.ndim ? loop.shape[0] : 1, outer = size / inner;
    i64 steps[N] = {};
    if (loop.ndim) std::copy_n(loop.step[0], N, steps);
    if (outer == 1) {
        parallel_for(inner, CHUNK, [&](i64 begin, i64 end) {
            i64 at[N];
            for (int k = 0; k < N; ++k) at[k] = begin * steps[k];
            f(begin, at, end - begin, steps);
        });
        return;
    }
    parallel_for(outer, std::max<i64>(1, CHUNK / inner), [&](i64 begin, i64 end) {
        i64 index[MAX_DIMS] = {}, at[N] = {};
        i64 rest = begin;
        for (int d = 1; d < loop.ndim; ++d) {
            index[d] = rest % loop.shape[d];
            rest /= loop.shape[d];
            for (int k = 0; k < N; ++k) at[k] += index[d] * loop.step[d][k];
        }
        for (i64 i = begin; i < end; ++i) {
            f(i * inner, at, inner, steps);
            for (int d = 1; d < loop.ndim; ++d) {  // the next index, as an odometer
                for (int k = 0; k < N; ++k) at[k] += loop.step[d][k];
                if (++index[d] < loop.shape[d]) break;
                for (int k = 0; k < N; ++k) at[k] -= loop.shape[d] * loop.step[d][k];
                index[d] = 0;
            }
        }
    });
}

template <class A, class B>
Loop<2> loop_over(const View<A>& a, const View<B>& b) {
    Loop<2> loop;
    for (int d = a.ndim - 1; d >= 0; --d) loop.add(a.shape[d], {a.stride[d], b.stride[d]});
    return loop;
}

}  // namespace

// ---- kernels ----------------------------------------------------------------------------------------------------------

template <class Op, class T>
void unary(T* y, const T* x, i64 n) {
    parallel_for(n, CHUNK, [=](i64 begin, i64 end) {
        each_register<T>(end - begin, [=](i64 j, int lanes) {
            store_lanes(y + begin + j, Vec<T>(Op::f(load_lanes(x + begin + j, lanes))), lanes);
        });
    });
}

template <class Op, class T>
void unary_backward(T* dx, const T* dy, const T* kept, i64 n) {
    parallel_for(n, CHUNK, [=](i64 begin, i64 end) {
        each_register<T>(end - begin, [=](i64 j, int lanes) {
            const Vec<T> slope = Op::df(load_lanes(kept + begin + j, lanes));
            store_lanes(dx + begin + j, load_lanes(dy + begin + j, lanes) * slope, lanes);
        });
    });
}

template <class Op, class T>
void binary(T* y, const View<const T>& a, const View<const T>& b) {
    for_runs(loop_over(a, b), a.size(), [&](i64 first, const i64* at, i64 n, const i64* step) {
        const T *p = a.data + at[0], *q = b.data + at[1];
        T* out = y + first;
        const auto run = [=](auto&& left, auto&& right) {
            each_register<T>(n, [&](i64 j, int lanes) {
                store_lanes(out + j, Op::f(left(j, lanes), right(j, lanes)), lanes);
            });
        };
        const auto contiguous = [](const T* from) { return [=](i64 j, int lanes) { return load_lanes(from + j, lanes); }; };
        const auto same = [](T value) { return [v = broadcast(value)](i64, int) { return v; }; };
        const auto strided = [](const T* from, i64 s) {
            return [=](i64 j, int lanes) { return gather(from + j * s, s, lanes); };
        };
        if (step[0] == 1 && step[1] == 1)
            run(contiguous(p), contiguous(q));
        else if (step[0] == 1 && step[1] == 0)
            run(contiguous(p), same(*q));
        else if (step[0] == 0 && step[1] == 1)
            run(same(*p), contiguous(q));
        else
            run(strided(p, step[0]), strided(q, step[1]));
    });
}

template <class Op, class T>
void compare(bool* y, const View<const T>& a, const View<const T>& b) {
    for_runs(loop_over(a, b), a.size(), [&](i64 first, const i64* at, i64 n, const i64* step) {
        const T *p = a.data + at[0], *q = b.data + at[1];
        bool* out = y + first;
        const auto run = [=](auto s, auto t) {  // steps known to the compiler make the loop a vector loop
            for (i64 j = 0; j < n; ++j) out[j] = Op::f(p[j * s], q[j * t]);
        };
        using One = std::integral_constant<i64, 1>;
        using Zero = std::integral_constant<i64, 0>;
        if (step[0] == 1 && step[1] == 1)
            run(One{}, One{});
        else if (step[0] == 1 && step[1] == 0)
            run(One{}, Zero{});
        else
            run(step[0], step[1]);
    });
}

template <class Op, class T>
void predicate(bool* y, const T* x, i64 n) {
    parallel_for(n, CHUNK, [=](i64 begin, i64 end) {
        for (i64 j = begin; j < end; ++j) y[j] = Op::f(x[j]);
    });
}

template <class T>
void where(T* y, const View<const bool>& mask, const View<const T>& a, const View<const T>& b) {
    Loop<3> loop;
    for (int d = a.ndim - 1; d >= 0; --d) loop.add(a.shape[d], {mask.stride[d], a.stride[d], b.stride[d]});
    for_runs(loop, a.size(), [&](i64 first, const i64* at, i64 n, const i64* step) {
        const bool* m = mask.data + at[0];
        const T *p = a.data + at[1], *q = b.data + at[2];
        T* out = y + first;
        const auto run = [=](auto r, auto s, auto t) {
            for (i64 j = 0; j < n; ++j) {
                const T u = p[j * s], v = q[j * t];  // both are read: a choice without a branch
                out[j] = m[j * r] ? u : v;
            }
        };
        using One = std::integral_constant<i64, 1>;
        using Zero = std::integral_constant<i64, 0>;
        if (step[0] == 1 && step[1] == 1 && step[2] == 1)
            run(One{}, One{}, One{});
        else if (step[0] == 1 && step[1] == 1 && step[2] == 0)
            run(One{}, One{}, Zero{});
        else if (step[0] == 1 && step[1] == 0 && step[2] == 1)
            run(One{}, Zero{}, One{});
        else
            run(step[0], step[1], step[2]);
    });
}

#define BOTH(instantiate, Struct) instantiate(Struct, float) instantiate(Struct, double)
#define UNARY_OF(Struct, T) template void unary<scalar::Struct, T>(T*, const T*, i64);
#define BACKWARD_OF(Struct, T) template void unary_backward<scalar::Struct, T>(T*, const T*, const T*, i64);
#define BINARY_OF(Struct, T) template void binary<scalar::Struct, T>(T*, const View<const T>&, const View<const T>&);
#define COMPARE_OF(Struct, T) template void compare<scalar::Struct, T>(bool*, const View<const T>&, const View<const T>&);
#define PREDICATE_OF(Struct, T) template void predicate<scalar::Struct, T>(bool*, const T*, i64);
#define INSTANTIATE(name, Struct) BOTH(UNARY_OF, Struct)
GLASSGRAD_UNARY(INSTANTIATE)
#undef INSTANTIATE
#define INSTANTIATE(name, Struct) BOTH(BACKWARD_OF, Struct)
GLASSGRAD_UNARY_WITH_DERIVATIVE(INSTANTIATE)
#undef INSTANTIATE
#define INSTANTIATE(name, Struct) BOTH(BINARY_OF, Struct)
GLASSGRAD_BINARY(INSTANTIATE)
#undef INSTANTIATE
#define INSTANTIATE(name, Struct) BOTH(COMPARE_OF, Struct)
GLASSGRAD_COMPARE(INSTANTIATE)
#undef INSTANTIATE
#define INSTANTIATE(name, Struct) BOTH(PREDICATE_OF, Struct)
GLASSGRAD_PREDICATE(INSTANTIATE)
#undef INSTANTIATE
#define WHERE_OF(T) template void where<T>(T*, const View<const bool>&, const View<const T>&, const View<const T>&);
WHERE_OF(float)
WHERE_OF(double)

}  // namespace glassgrad
