#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "core/kernels.h"
#include "core/parallel.h"
#include "harness.h"

using namespace glassgrad;

namespace {

template <class T>
using Kernel = void (*)(T*, const T*, const T*, const T*, const MatmulShape&);
template <class T>
constexpr Kernel<T> RUNGS[] = {matmul_naive<T>,      matmul_reordered<T>, matmul_tiled<T>,
                               matmul_vectorised<T>, matmul_packed<T>,    matmul<T>};

/// n elements exactly, so that AddressSanitizer sees a step beyond either end.
template <class T>
struct Exact {
    explicit Exact(i64 n) : size(n), data(new T[static_cast<std::size_t>(n)]) {}
    Exact(i64 n, std::uint64_t seed) : Exact(n) {
        for (i64 i = 0; i < n; ++i) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            data[i] = static_cast<T>(static_cast<double>(seed >> 40) / (1 << 23) - 1);  // [-1, 1)
        }
    }
    T* get() const { return data.get(); }
    T& operator[](i64 i) const { return data[static_cast<std::size_t>(i)]; }
    i64 size;
    std::unique_ptr<T[]> data;
};

enum class Layout { ROWS, COLUMNS, REVERSED, APART, ROW_REPEATED, COLUMN_REPEATED };
constexpr Layout LAYOUTS[] = {Layout::ROWS,  Layout::COLUMNS,      Layout::REVERSED,
                              Layout::APART, Layout::ROW_REPEATED, Layout::COLUMN_REPEATED};

/// A (rows, cols) matrix in its own memory, no element more than the layout spans.
template <class T>
struct Matrix {
    Matrix(i64 rows, i64 cols, Layout layout, std::uint64_t seed)
        : row(strides(rows, cols, layout).first),
          col(strides(rows, cols, layout).second),
          memory(rows * cols == 0 ? 0 : (rows - 1) * std::abs(row) + (cols - 1) * std::abs(col) + 1, seed),
          first(layout == Layout::REVERSED && memory.size ? memory.get() + memory.size - 1 : memory.get()) {}
    static std::pair<i64, i64> strides(i64 rows, i64 cols, Layout layout) {
        switch (layout) {
            case Layout::ROWS:
                return {cols, 1};
            case Layout::COLUMNS:
                return {1, rows};
            case Layout::REVERSED:
                return {-cols, -1};
            case Layout::APART:
                return {cols * 3 + 2, 3};
            case Layout::ROW_REPEATED:
                return {0, 1};
            default:
                return {1, 0};
        }
    }
    T at(i64 i, i64 j) const { return first[i * row + j * col]; }
    i64 row, col;
    Exact<T> memory;
    T* first;
};

template <class T>
MatmulShape shape_of(i64 m, i64 n, i64 k, const Matrix<T>& a, const Matrix<T>& b) {
    return {m, n, k, a.row, a.col, b.row, b.col};
}

/// Every rung within k + 2 roundings of the sum of |a| |b|, the bound for any order of summation.
template <class T>
void check_rungs(i64 m, i64 n, i64 k, Layout of_a, Layout of_b, bool with_bias, std::size_t first_rung = 0) {
    const Matrix<T> a(m, k, of_a, 1), b(k, n, of_b, 2);
    const Exact<T> bias(n, 3);
    const MatmulShape s = shape_of(m, n, k, a, b);
    std::vector<double> expected(static_cast<std::size_t>(m * n)), bound(expected.size());
    for (i64 i = 0; i < m; ++i)
        for (i64 j = 0; j < n; ++j) {
            double sum = with_bias ? bias[j] : 0, size = std::abs(sum);
            for (i64 l = 0; l < k; ++l) {
                sum += static_cast<double>(a.at(i, l)) * b.at(l, j);
                size += std::abs(static_cast<double>(a.at(i, l)) * b.at(l, j));
            }
            expected[static_cast<std::size_t>(i * n + j)] = sum;
            bound[static_cast<std::size_t>(i * n + j)] =
                static_cast<double>(k + 2) * static_cast<double>(std::numeric_limits<T>::epsilon()) * size;
        }
    for (std::size_t rung = first_rung; rung < std::size(RUNGS<T>); ++rung) {
        const Exact<T> c(m * n);
        for (i64 i = 0; i < m * n; ++i) c[i] = std::numeric_limits<T>::quiet_NaN();
        RUNGS<T>[rung](c.get(), a.first, b.first, with_bias ? bias.get() : nullptr, s);
        for (i64 i = 0; i < m * n; ++i)
            CHECK(std::abs(c[i] - expected[static_cast<std::size_t>(i)]) <= bound[static_cast<std::size_t>(i)]);
    }
}

constexpr std::size_t PRODUCTION = 5;

template <class T>
void edges() {
    // Round the tile's height (4, 6, 14), its width (4 to 32), a vector, and the rungs' own blocks.
    for (i64 m : {0, 1, 2, 3, 4, 5, 6, 7, 13, 14, 15, 29})
        for (i64 n : {0, 1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 65})
            for (i64 k : {0, 1, 2, 7, 16, 17, 40}) check_rungs<T>(m, n, k, Layout::ROWS, Layout::ROWS, (m + n) % 2);
    check_rungs<T>(9, 515, 70, Layout::ROWS, Layout::ROWS, true);     // the blocks of tiled
    check_rungs<T>(173, 70, 259, Layout::ROWS, Layout::ROWS, true);   // MC and KC
    check_rungs<T>(19, 300, 513, Layout::ROWS, Layout::ROWS, true);   // a packed, three blocks of k
    check_rungs<T>(131, 33, 257, Layout::ROWS, Layout::ROWS, false);  // b packed
    check_rungs<T>(3, 4200, 5, Layout::ROWS, Layout::ROWS, true);     // NC
    check_rungs<T>(2, 5, 8300, Layout::ROWS, Layout::COLUMNS, true);  // the blocks of few rows
    check_rungs<T>(1, 4200, 4100, Layout::ROWS, Layout::ROWS, true, PRODUCTION);
    check_rungs<T>(57, 1203, 520, Layout::ROWS, Layout::ROWS, true, PRODUCTION);  // b packed in groups
    check_rungs<T>(57, 300, 1030, Layout::ROWS, Layout::COLUMNS, true, PRODUCTION);
    check_rungs<T>(17, 1203, 520, Layout::ROWS, Layout::ROWS, true, PRODUCTION);  // b fetched ahead as it lies
    check_rungs<T>(17, 1024, 520, Layout::ROWS, Layout::ROWS, true, PRODUCTION);
    check_rungs<T>(5, 7, 300001, Layout::COLUMNS, Layout::ROWS, true, PRODUCTION);  // k in parts
    check_rungs<T>(33, 40, 9001, Layout::COLUMNS, Layout::ROWS, false, PRODUCTION);
}

template <class T>
void layouts() {
    for (Layout of_a : LAYOUTS)
        for (Layout of_b : LAYOUTS) {
            for (i64 m : {1, 3, 5, 20})
                for (i64 n : {1, 4, 19, 40}) check_rungs<T>(m, n, 37, of_a, of_b, true);
            for (i64 few : {1, 3, 7, 12, 13}) check_rungs<T>(few, 38, 300, of_a, of_b, true, PRODUCTION);
            check_rungs<T>(37, 7, 300, of_a, of_b, true, PRODUCTION);
            check_rungs<T>(17, 270, 30, of_a, of_b, false, PRODUCTION);
            check_rungs<T>(140, 20, 30, of_a, of_b, true, PRODUCTION);
        }
}

template <class T>
void same_for_any_number_of_threads() {
    struct Size {
        i64 m, n, k;
    };
    for (const Size z : {Size{200, 700, 300},
                         {64, 128, 784},
                         {784, 128, 64},
                         {1, 3000, 500},
                         {3000, 1, 500},
                         {130, 1300, 520},  // a shared by tasks that are cut across
                         {40, 1024, 700},   // rows of b that push each other out of the cache
                         {20, 1500, 600},   // b far away and not packed
                         {30, 20, 40000}})  // steps cut into parts
        for (Layout of_b : {Layout::ROWS, Layout::COLUMNS}) {
            const Matrix<T> a(z.m, z.k, Layout::ROWS, 1), b(z.k, z.n, of_b, 2);
            const Exact<T> one(z.m * z.n), many(z.m * z.n);
            const MatmulShape s = shape_of(z.m, z.n, z.k, a, b);
            set_num_threads(1);
            matmul<T>(one.get(), a.first, b.first, nullptr, s);
            for (int threads : {2, 4}) {
                set_num_threads(threads);
                matmul<T>(many.get(), a.first, b.first, nullptr, s);
                CHECK(std::memcmp(one.get(), many.get(), static_cast<std::size_t>(one.size) * sizeof(T)) == 0);
            }
            set_num_threads(1);
        }
}

/// (2, 3) products with a broadcast along the first axis and b along the second: each must equal the single product.
template <class T>
void batches(i64 m, i64 n, i64 k) {
    const Exact<T> a(3 * m * k, 1), b(2 * k * n, 2), bias(n, 3), c(6 * m * n), single(m * n);
    const BatchAxis axes[] = {{2, 0, k * n}, {3, m * k, 0}};
    for (int threads : {1, 3}) {
        set_num_threads(threads);
        for (const auto rung : RUNGS<T>) {
            rung(c.get(), a.get(), b.get(), bias.get(), {m, n, k, k, 1, n, 1, 2, axes});
            for (i64 p = 0; p < 6; ++p) {
                rung(single.get(), a.get() + p % 3 * m * k, b.get() + p / 3 * k * n, bias.get(), {m, n, k, k, 1, n, 1});
                CHECK(std::memcmp(single.get(), c.get() + p * m * n, static_cast<std::size_t>(m * n) * sizeof(T)) == 0);
            }
        }
    }
    set_num_threads(1);
}

/// A NaN or an infinity spoils its row or column, zeros on the other side or not, and nothing else.
template <class T>
void special_values(i64 m, i64 n, i64 k) {
    const T nan = std::numeric_limits<T>::quiet_NaN(), inf = std::numeric_limits<T>::infinity();
    for (const auto rung : RUNGS<T>)
        for (Layout of_b : {Layout::ROWS, Layout::COLUMNS}) {
            const Matrix<T> a(m, k, Layout::ROWS, 1), b(k, n, of_b, 2);
            const Exact<T> c(m * n);
            for (i64 l = 0; l < k; ++l) {
                a.first[(m - 1) * a.row + l * a.col] = 0;
                b.first[l * b.row] = 0;
            }
            b.first[(k - 1) * b.row + (n - 1) * b.col] = nan;  // the last column of c is NaN, in its zero row too
            a.first[0] = inf;                                  // the first row is infinite, NaN where it meets zeros
            b.first[n > 2 ? b.col : 0] = n > 2 ? T(1) : T(0);
            rung(c.get(), a.first, b.first, nullptr, shape_of(m, n, k, a, b));
            for (i64 i = 0; i < m; ++i) CHECK(std::isnan(c[i * n + n - 1]));
            CHECK(std::isnan(c[0]));
            if (n > 2) CHECK(c[1] == inf);
            for (i64 i = 1; i < m; ++i)
                for (i64 j = 0; j < n - 1; ++j) CHECK(std::isfinite(c[i * n + j]));
        }
}

}  // namespace

TEST(matmul_edges_float) { edges<float>(); }
TEST(matmul_edges_double) { edges<double>(); }
TEST(matmul_layouts_float) { layouts<float>(); }
TEST(matmul_layouts_double) { layouts<double>(); }
TEST(matmul_threads_float) { same_for_any_number_of_threads<float>(); }
TEST(matmul_threads_double) { same_for_any_number_of_threads<double>(); }
TEST(matmul_batches) {
    batches<float>(5, 7, 9);
    batches<float>(70, 40, 50);
    batches<double>(300, 300, 200);  // work enough for each to be shared out
    batches<double>(1, 20, 30);
}
TEST(matmul_special_values) {
    special_values<float>(9, 40, 20);
    special_values<float>(140, 300, 20);
    special_values<double>(3, 2, 30);
    special_values<double>(2, 70, 1);
}
TEST(matmul_fma_ceiling) {
    CHECK(fma_ceiling<float>(0.001) > 0.1);
    CHECK(fma_ceiling<double>(0.001) > 0.1);
}
