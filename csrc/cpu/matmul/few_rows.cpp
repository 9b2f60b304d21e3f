// Thin products. A number of the large matrix is used a few times at most, so it is neither packed nor tiled: it is
// read once, in the order in which it lies, and that is the speed.
//
// Seen from the short side, y: (few, n) = x: (few, k) @ r: (k, n), with x and y turned round when it is c's columns
// that are few. Where r lies column by column, as the weight of a linear layer does, each y is a dot product along k.
// Where it lies row by row and there is one x, y is a sum of multiples of rows.
#include "cpu/matmul/few_rows.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/allocator.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace glassgrad {

namespace {

constexpr i64 FEW = 4;              // rows of x
constexpr i64 FEW_AND_LONG = 12;    // when the sums are long: transposing r for tiles costs as much as 12 rows of it
constexpr i64 LONG = 256;           // steps: adding up the lanes of 16 sums costs 50 cycles, 256 steps of them 128
constexpr i64 STEPS = 2048;         // at a time: 4 rows of x are 32 KiB then
constexpr i64 COLUMNS = 16;         // of r at a time: they stay in L2 while the rows of x pass
constexpr i64 TASK = 1 << 18;       // numbers of r: 1 MiB, 5 us from L2 and 50 from memory
constexpr i64 SHORTEST_RUN = 1024;  // of a row of r, in a task: shorter ones are over before memory is at its speed

// Dot products at a time: with up to 4 rows of x and one of r, 21 of 32 registers, or 11 of 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int SUMS = 16, ROWS = 4;
#else
constexpr int SUMS = 8, ROWS = 2;
#endif

template <class T>
struct Thin {
    T* y;
    i64 y_row, y_col;
    const T* x;
    i64 x_row, x_step;
    const T* r;
    i64 r_step, r_col;
    const T* bias;
    i64 bias_row, bias_col;
    i64 few, n, k;
};

// ---- dot products ---------------------------------------------------------------------------------------------------

/// Lane j: a[j] + a[j + D], or b's where bit D of j is set: half of what adds up the lanes of a and b.
template <class T, int D, int... J>
inline Vec<T> add_neighbours(const Vec<T>& a, const Vec<T>& b, std::integer_sequence<int, J...>) {
    return __builtin_shufflevector(a, b, (J & D ? W<T> + J - D : J)...) +
           __builtin_shufflevector(a, b, (J & D ? W<T> + J : J + D)...);
}
/// Lane j of the result is the sum of the lanes of x[j % N]; N is a power of 2, at most W. Overwrites x.
template <class T, int N, int D = 1>
inline Vec<T> sums_of_lanes(Vec<T>* x) {
    constexpr auto lanes = std::make_integer_sequence<int, W<T>>();
    if constexpr (D == W<T>) {
        return x[0];
    } else if constexpr (D < N) {
#pragma GCC unroll 8
        for (int i = 0; i < N / (2 * D); ++i) x[i] = add_neighbours<T, D>(x[2 * i], x[2 * i + 1], lanes);
        return sums_of_lanes<T, N, 2 * D>(x);
    } else {
        x[0] = add_neighbours<T, D>(x[0], x[0], lanes);
        return sums_of_lanes<T, N, 2 * D>(x);
    }
}

/// y[i, j] += x[i] . r[j] for M rows of x and N columns of r, both contiguous.
template <class T, int M, int N>
void add_dots(T* y, i64 y_row, i64 y_col, const T* x, i64 x_row, const T* r, i64 r_col, i64 k) {
    Vec<T> sum[M * N];
#pragma GCC unroll 16
    for (int i = 0; i < M * N; ++i) sum[i] = Vec<T>{};
    const auto step = [&](i64 l, auto&& read) __attribute__((always_inline)) {
        Vec<T> left[M];
#pragma GCC unroll 4
        for (int i = 0; i < M; ++i) left[i] = read(x + i * x_row + l);
#pragma GCC unroll 8
        for (int j = 0; j < N; ++j) {
            const Vec<T> right = read(r + j * r_col + l);
#pragma GCC unroll 4
            for (int i = 0; i < M; ++i) sum[i * N + j] += left[i] * right;
        }
    };
    i64 l = 0;
    for (; l + W<T> <= k; l += W<T>) step(l, [](const T* p) { return load(p); });
    if (l < k) step(l, [rest = static_cast<int>(k - l)](const T* p) { return load_partial(p, rest); });

    constexpr int TOGETHER = std::min(M * N, W<T>);
    T total[M * N + W<T>];
#pragma GCC unroll 16
    for (int i = 0; i < M * N; i += TOGETHER) store(total + i, sums_of_lanes<T, TOGETHER>(sum + i));
    for (int i = 0; i < M; ++i)
        for (int j = 0; j < N; ++j) y[i * y_row + j * y_col] += total[i * N + j];
}

/// The steps [l, l + steps) of M rows of x and the columns [begin, end) of r.
template <class T, int M>
void dot_rows(const Thin<T>& t, i64 i, i64 begin, i64 end, i64 l, i64 steps) {
    const auto add = [&]<int N>(i64 j, std::integral_constant<int, N>) {
        add_dots<T, M, N>(t.y + i * t.y_row + j * t.y_col, t.y_row, t.y_col, t.x + i * t.x_row + l, t.x_row,
                          t.r + j * t.r_col + l, t.r_col, steps);
    };
    constexpr int N = std::min(8, SUMS / M);
    i64 j = begin;
    for (; j + N <= end; j += N) add(j, std::integral_constant<int, N>());
    for (; j < end; ++j) add(j, std::integral_constant<int, 1>());
}

template <class T>
void dot_block(const Thin<T>& t, i64 begin, i64 end, i64 l, i64 steps) {
    for (i64 j = begin; j < end; j += COLUMNS) {
        const i64 stop = std::min(j + COLUMNS, end);
        i64 i = 0;
        for (; i + ROWS <= t.few; i += ROWS) dot_rows<T, ROWS>(t, i, j, stop, l, steps);
        for (; i + 2 <= t.few; i += 2) dot_rows<T, 2>(t, i, j, stop, l, steps);
        for (; i < t.few; ++i) dot_rows<T, 1>(t, i, j, stop, l, steps);
    }
}

// ---- sums of rows ---------------------------------------------------------------------------------------------------

/// y[j] += sum over COUNT steps of x * r[j], for j < n: y is read and written once for all of them.
template <class T, int COUNT>
void add_rows(T* y, const T* x, i64 x_step, const T* r, i64 r_step, i64 n) {
    Vec<T> factor[COUNT];
#pragma GCC unroll 4
    for (int u = 0; u < COUNT; ++u) factor[u] = broadcast(x[u * x_step]);
    const auto add = [&](Vec<T> sum, i64 j, auto&& read) __attribute__((always_inline)) {
#pragma GCC unroll 4
        for (int u = 0; u < COUNT; ++u) sum += factor[u] * read(r + u * r_step + j);
        return sum;
    };
    i64 j = 0;
    for (; j + W<T> <= n; j += W<T>) store(y + j, add(load(y + j), j, [](const T* p) { return load(p); }));
    if (j < n) {
        const int rest = static_cast<int>(n - j);
        const auto part = [=](const T* p) { return load_partial(p, rest); };
        store_partial(y + j, add(part(y + j), j, part), rest);
    }
}

template <class T>
void row_block(const Thin<T>& t, i64 begin, i64 end, i64 l, i64 steps) {
    for (i64 j = begin; j < end; j += STEPS) {
        const i64 n = std::min(STEPS, end - j), stop = l + steps;
        const T* r = t.r + j;
        i64 at = l;
        for (; at + 4 <= stop; at += 4)
            add_rows<T, 4>(t.y + j, t.x + at * t.x_step, t.x_step, r + at * t.r_step, t.r_step, n);
        for (; at < stop; ++at) add_rows<T, 1>(t.y + j, t.x + at * t.x_step, t.x_step, r + at * t.r_step, t.r_step, n);
    }
}

}  // namespace

template <class T>
bool multiply_few_rows(T* c, const T* a, const T* b, const T* bias, const MatmulShape& s) {
    Thin<T> t;
    if (s.m < s.n || (s.m == s.n && s.b_row == 1))
        t = {c, s.n, 1, a, s.a_row, s.a_col, b, s.b_row, s.b_col, bias, 0, 1, s.m, s.n, s.k};
    else
        t = {c, 1, s.n, b, s.b_col, s.b_row, a, s.a_col, s.a_row, bias, 1, 0, s.n, s.m, s.k};
    const bool dots = t.r_step == 1 && t.k >= W<T> && t.few <= (t.k >= LONG ? FEW_AND_LONG : FEW);
    const bool rows = t.few == 1 && t.r_col == 1;
    if (!dots && !rows) return false;

    std::optional<Scratch<T>> straight;
    if (dots && t.x_step != 1) {
        straight.emplace(t.few * t.k);
        for (i64 i = 0; i < t.few; ++i)
            for (i64 l = 0; l < t.k; ++l) straight->get()[i * t.k + l] = t.x[i * t.x_row + l * t.x_step];
        t.x = straight->get();
        t.x_row = t.k;
    }
    parallel_for(t.n, std::max(dots ? COLUMNS : SHORTEST_RUN, TASK / t.k), [&t, dots](i64 begin, i64 end) {
        for (i64 i = 0; i < t.few; ++i)
            for (i64 j = begin; j < end; ++j)
                t.y[i * t.y_row + j * t.y_col] = t.bias ? t.bias[i * t.bias_row + j * t.bias_col] : T(0);
        for (i64 l = 0; l < t.k; l += STEPS) {
            const i64 steps = std::min(STEPS, t.k - l);
            dots ? dot_block(t, begin, end, l, steps) : row_block(t, begin, end, l, steps);
            if (l + steps < t.k) poll_interrupt();
        }
    });
    return true;
}

#define INSTANTIATE(T) template bool multiply_few_rows<T>(T*, const T*, const T*, const T*, const MatmulShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
