#include <cstdint>
#include <vector>

#include "core/kernels.h"
#include "core/parallel.h"
#include "harness.h"

using namespace glassgrad;

namespace {

template <class T>
std::vector<T> values(i64 n, i64 seed) {
    std::vector<T> x(n);
    for (i64 i = 0; i < n; ++i) x[i] = static_cast<T>((i + seed) * 7919 % 1013) / 7;
    return x;
}
std::vector<i64> indices(i64 count, i64 n) {
    std::vector<i64> index(count);
    for (i64 i = 0; i < count; ++i) index[i] = i * i * 31 % 1009 % n;
    return index;
}

template <class T>
void rows(i64 outer, i64 n, i64 inner, i64 m) {
    const auto x = values<T>(outer * n * inner, 1), source = values<T>(outer * m * inner, 2);
    const auto index = indices(m, n);
    std::vector<T> selected(source.size()), added = x, from_zero(x.size());
    for (i64 o = 0; o < outer; ++o)
        for (i64 k = 0; k < m; ++k)
            for (i64 j = 0; j < inner; ++j) {
                const i64 a = (o * n + index[k]) * inner + j, b = (o * m + k) * inner + j;
                selected[b] = x[a];
                added[a] += source[b];
                from_zero[a] += source[b];
            }
    for (int threads : {1, 2, 4}) {  // the order of additions is promised: equal bits, not close values
        set_num_threads(threads);
        std::vector<T> y(source.size()), z(x.size(), T(-9)), u(x.size(), T(-9));
        index_select(y.data(), x.data(), index.data(), outer, n, inner, m);
        index_add(z.data(), x.data(), source.data(), index.data(), outer, n, inner, m);
        index_add(u.data(), static_cast<const T*>(nullptr), source.data(), index.data(), outer, n, inner, m);
        CHECK(y == selected);
        CHECK(z == added);
        CHECK(u == from_zero);
    }
    set_num_threads(1);
}

template <class T>
void elements(const GatherShape& s) {
    const auto x = values<T>(s.outer * s.n * s.inner, 1), source = values<T>(s.index_outer * s.m * s.index_inner, 2);
    const auto index = indices(static_cast<i64>(source.size()), s.n);
    std::vector<T> gathered(source.size()), added = x, from_zero(x.size());
    for (i64 o = 0; o < s.index_outer; ++o)
        for (i64 k = 0; k < s.m; ++k)
            for (i64 j = 0; j < s.index_inner; ++j) {
                const i64 b = (o * s.m + k) * s.index_inner + j, a = (o * s.n + index[b]) * s.inner + j;
                gathered[b] = x[a];
                added[a] += source[b];
                from_zero[a] += source[b];
            }
    for (int threads : {1, 2, 4}) {
        set_num_threads(threads);
        std::vector<T> y(source.size()), z(x.size(), T(-9)), u(x.size(), T(-9));
        gather(y.data(), x.data(), index.data(), s);
        scatter_add(z.data(), x.data(), source.data(), index.data(), s);
        scatter_add(u.data(), static_cast<const T*>(nullptr), source.data(), index.data(), s);
        CHECK(y == gathered);
        CHECK(z == added);
        CHECK(u == from_zero);
    }
    set_num_threads(1);
}

template <class T>
void all() {
    for (i64 outer : {0, 1, 3})
        for (i64 n : {1, 2, 17})
            for (i64 inner : {0, 1, 2, 7, 33})
                for (i64 m : {0, 1, 5, 40}) {
                    rows<T>(outer, n, inner, m);
                    elements<T>({outer, n, inner, outer, m, inner});
                    elements<T>({outer, n, inner, outer / 2, m, (inner + 1) / 2});
                }
    rows<T>(2, 0, 3, 0);
    elements<T>({2, 0, 3, 2, 0, 3});
    rows<T>(1, 9001, 67, 3001);  // many ranges of y
    rows<T>(70, 33, 65, 41);     // many tasks
    elements<T>({70, 33, 65, 70, 41, 65});
    elements<T>({300, 501, 1, 300, 601, 1});
}

}  // namespace

TEST(index_definition_float) { all<float>(); }
TEST(index_definition_double) { all<double>(); }
TEST(index_outside_is_an_error) {
    const float x[6] = {}, source[2] = {};
    float y[6];
    const GatherShape s{1, 3, 2, 1, 1, 2};
    for (i64 bad : {i64{-1}, i64{3}, INT64_MIN, INT64_MAX}) {
        const i64 index[] = {2, bad};
        int errors = 0;
        const auto expect_error = [&](auto&& f) {
            try {
                f();
            } catch (const Error&) {
                ++errors;
            }
        };
        expect_error([&] { index_select(y, x, index, 1, 3, 1, 2); });
        expect_error([&] { index_select(y, x, index, 1, 3, 0, 2); });
        expect_error([&] { index_add(y, x, source, index, 1, 3, 1, 2); });
        expect_error([&] { gather(y, x, index, s); });
        expect_error([&] { scatter_add(y, x, source, index, s); });
        CHECK(errors == 5);
    }
}
TEST(index_moves_integers) {
    const i64 x[] = {INT64_MIN, -1, INT64_MAX}, index[] = {2, 0};
    i64 y[2], z[2];
    index_select(y, x, index, 1, 3, 1, 2);
    gather(z, x, index, {1, 3, 1, 1, 2, 1});
    CHECK(y[0] == INT64_MAX && y[1] == INT64_MIN);
    CHECK(z[0] == INT64_MAX && z[1] == INT64_MIN);
}
