#include <vector>

#include "core/kernels.h"
#include "core/parallel.h"
#include "harness.h"

using namespace glassgrad;

namespace {

template <class T>
std::vector<T> numbers(i64 n, std::uint64_t seed) {
    std::vector<T> v(static_cast<std::size_t>(n));
    for (auto& e : v) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        e = static_cast<T>(static_cast<double>(seed >> 40) / (1 << 23) - 1);  // [-1, 1)
    }
    return v;
}

Conv2dShape shape(i64 n, i64 c, i64 h, i64 w, i64 k, i64 groups, i64 pad_h, i64 pad_w) {
    return {n, c, h, w, k, 3, 3, 1, 1, pad_h, pad_w, 1, 1, groups, h + 2 * pad_h - 2, w + 2 * pad_w - 2};
}

/// Against naive in float64: numbers in [-1, 1), so a sum of n products is about sqrt(n) / 3.
template <class T>
void compare(const Conv2dShape& s, double unit) {
    const i64 nx = s.n * s.c * s.h * s.w, ny = s.n * s.k * s.oh * s.ow, nw = s.k * (s.c / s.groups) * 9;
    const auto x = numbers<T>(nx, 1), w = numbers<T>(nw, 2), b = numbers<T>(s.k, 3), dy = numbers<T>(ny, 4);
    const auto wide = [](const std::vector<T>& v) { return std::vector<double>(v.begin(), v.end()); };
    const auto x64 = wide(x), w64 = wide(w), b64 = wide(b), dy64 = wide(dy);
    std::vector<double> y(ny), dx(nx), dw(nw);
    conv2d_naive(y.data(), x64.data(), w64.data(), b64.data(), s);
    conv2d_backward_input_naive(dx.data(), dy64.data(), w64.data(), s);
    conv2d_backward_weight_naive(dw.data(), dy64.data(), x64.data(), s);
    const auto close = [&](const std::vector<T>& a, const std::vector<double>& e, i64 terms) {
        for (std::size_t i = 0; i < e.size(); ++i)
            CHECK_CLOSE(a[i], e[i], unit * 64 * std::sqrt(static_cast<double>(terms + 1)));
    };
    std::vector<T> y1, dx1, dw1;
    for (int threads : {1, 2, 5}) {
        set_num_threads(threads);
        std::vector<T> y2(ny, T(77)), dx2(nx, T(77)), dw2(nw, T(77));
        conv2d_winograd(y2.data(), x.data(), w.data(), b.data(), s);
        conv2d_backward_input_winograd(dx2.data(), dy.data(), w.data(), s);
        conv2d_backward_weight_winograd(dw2.data(), dy.data(), x.data(), s);
        if (threads == 1) {
            close(y2, y, s.c / s.groups * 9 + 1);
            close(dx2, dx, s.k / s.groups * 9);
            close(dw2, dw, s.n * s.oh * s.ow);
            y1 = y2, dx1 = dx2, dw1 = dw2;
        }
        CHECK(y1 == y2);
        CHECK(dx1 == dx2);
        CHECK(dw1 == dw2);
    }
    set_num_threads(1);
    conv2d_winograd(y1.data(), x.data(), w.data(), static_cast<const T*>(nullptr), s);
    conv2d_naive(y.data(), x64.data(), w64.data(), static_cast<const double*>(nullptr), s);
    close(y1, y, s.c / s.groups * 9);
}

template <class T>
void compare_all(double unit) {
    // Channels and groups that divide into nothing; images of a part of a tile, of many tiles and wider than a block.
    for (i64 pad = 0; pad <= 4; ++pad) {
        compare<T>(shape(2, 3, 7, 9, 5, 1, pad, pad), unit);
        compare<T>(shape(1, 1, 3, 3, 1, 1, pad, 4 - pad), unit);
        compare<T>(shape(3, 34, 5, 13, 66, 2, pad, 0), unit);
    }
    compare<T>(shape(2, 17, 14, 14, 50, 1, 1, 1), unit);
    compare<T>(shape(1, 6, 9, 30, 9, 3, 1, 2), unit);
    compare<T>(shape(1, 2, 6, 700, 3, 1, 1, 1), unit);     // a row of tiles is longer than a block
    compare<T>(shape(5, 2, 29, 31, 3, 1, 1, 1), unit);     // many blocks
    compare<T>(shape(13, 70, 16, 17, 33, 1, 1, 1), unit);  // and chunks of the weight gradient
    compare<T>(shape(2, 300, 4, 4, 70, 1, 1, 1), unit);    // channels in parts
    compare<T>(shape(1, 140, 2, 2, 150, 1, 1, 1), unit);   // F(2 x 2)
    for (const Conv2dShape& s : {shape(0, 3, 5, 5, 4, 1, 1, 1), shape(2, 0, 5, 5, 4, 1, 1, 1),
                                 shape(2, 3, 5, 5, 0, 1, 1, 1), shape(2, 3, 2, 5, 4, 1, 0, 0)})
        compare<T>(s, unit);
}

}  // namespace

TEST(winograd_agrees_float) { compare_all<float>(6e-8); }
TEST(winograd_agrees_double) { compare_all<double>(1.2e-16); }

TEST(winograd_fits_3x3_of_stride_and_dilation_1) {
    Conv2dShape s = shape(1, 2, 8, 8, 2, 1, 3, 0);
    CHECK(winograd_fits(s));
    for (i64 Conv2dShape::* size : {&Conv2dShape::kh, &Conv2dShape::kw, &Conv2dShape::stride_h, &Conv2dShape::stride_w,
                                    &Conv2dShape::dil_h, &Conv2dShape::dil_w}) {
        Conv2dShape other = s;
        other.*size = 2;
        CHECK(!winograd_fits(other));
    }
}

TEST(winograd_is_accurate_with_512_channels) {
    const Conv2dShape s = shape(1, 512, 8, 8, 32, 1, 1, 1);
    const i64 nx = s.c * 64, ny = s.k * 64, nw = s.k * s.c * 9;
    const auto x = numbers<float>(nx, 1), w = numbers<float>(nw, 2);
    const std::vector<double> x64(x.begin(), x.end()), w64(w.begin(), w.end());
    std::vector<float> y(ny);
    std::vector<double> expected(ny);
    conv2d_winograd(y.data(), x.data(), w.data(), static_cast<const float*>(nullptr), s);
    conv2d_naive(expected.data(), x64.data(), w64.data(), static_cast<const double*>(nullptr), s);
    double error = 0, largest = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
        error = std::max(error, std::abs(static_cast<double>(y[i]) - expected[i]));
        largest = std::max(largest, std::abs(expected[i]));
    }
    CHECK(error <= 1e-5 * largest);
}
