#include <cstring>
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

struct Case {
    i64 n, c, h, w, k, kh, kw, groups;
};
constexpr Case CASES[] = {
    {1, 1, 1, 1, 1, 1, 1, 1},  {0, 2, 5, 5, 3, 3, 3, 1},    {2, 3, 7, 9, 5, 3, 3, 1},    {2, 4, 13, 11, 6, 3, 2, 2},
    {2, 6, 9, 9, 12, 3, 3, 6}, {1, 33, 9, 21, 50, 3, 3, 1}, {1, 300, 5, 6, 17, 1, 1, 1}, {2, 5, 11, 12, 5, 5, 5, 5},
    {1, 0, 3, 3, 2, 1, 1, 1},  {1, 2, 3, 3, 0, 1, 1, 1},    {3, 8, 1, 40, 9, 1, 5, 1},   {5, 2, 17, 31, 49, 2, 3, 1},
};

/// Every rung and pass against naive, and production for any number of threads.
template <class T>
void compare_at(const Conv2dShape& s, double unit) {
    const i64 ny = s.n * s.k * s.oh * s.ow, nx = s.n * s.c * s.h * s.w;
    const i64 nw = s.k * (s.c / s.groups) * s.kh * s.kw;
    const auto x = numbers<T>(nx, 1), w = numbers<T>(nw, 2), b = numbers<T>(s.k, 3), dy = numbers<T>(ny, 4);
    std::vector<T> y(ny), dx(nx), dw(nw);
    conv2d_naive(y.data(), x.data(), w.data(), b.data(), s);
    conv2d_backward_input_naive(dx.data(), dy.data(), w.data(), s);
    conv2d_backward_weight_naive(dw.data(), dy.data(), x.data(), s);
    const auto close = [&](const std::vector<T>& a, const std::vector<T>& e, i64 terms) {
        // Terms are at most 1, so the error of a sum is at most terms^2 ulp; sqrt as often as not.
        for (std::size_t i = 0; i < e.size(); ++i) CHECK_CLOSE(a[i], e[i], unit * 8 * static_cast<double>(terms + 1));
    };
    const i64 forward = s.c / s.groups * s.kh * s.kw + 1, input = s.k / s.groups * s.kh * s.kw;
    std::vector<T> y1(ny), dx1(nx), dw1(nw);
    const auto rung = [&](auto forward_pass, auto input_pass, auto weight_pass) {
        forward_pass(y1.data(), x.data(), w.data(), b.data(), s);
        input_pass(dx1.data(), dy.data(), w.data(), s);
        weight_pass(dw1.data(), dy.data(), x.data(), s);
        close(y1, y, forward);
        close(dx1, dx, input);
        close(dw1, dw, s.n * s.oh * s.ow);
    };
    rung(conv2d_im2col<T>, conv2d_backward_input_im2col<T>, conv2d_backward_weight_im2col<T>);
    rung(conv2d_implicit<T>, conv2d_backward_input_implicit<T>, conv2d_backward_weight_implicit<T>);
    std::vector<T> y2(ny), dx2(nx), dw2(nw);
    for (int threads : {1, 2, 4}) {
        set_num_threads(threads);
        conv2d(y2.data(), x.data(), w.data(), b.data(), s);
        conv2d_backward_input(dx2.data(), dy.data(), w.data(), s);
        conv2d_backward_weight(dw2.data(), dy.data(), x.data(), s);
        if (threads == 1) {
            close(y2, y, forward);
            close(dx2, dx, input);
            close(dw2, dw, s.n * s.oh * s.ow);
            y1 = y2, dx1 = dx2, dw1 = dw2;
        }
        CHECK(y1 == y2);
        CHECK(dx1 == dx2);
        CHECK(dw1 == dw2);
    }
    set_num_threads(1);
    conv2d(y2.data(), x.data(), w.data(), static_cast<const T*>(nullptr), s);
    conv2d_naive(y.data(), x.data(), w.data(), static_cast<const T*>(nullptr), s);
    close(y2, y, forward);
}

i64 outputs(i64 in, i64 kernel, i64 stride, i64 pad, i64 dil) {
    const i64 room = in + 2 * pad - dil * (kernel - 1) - 1;
    return room < 0 ? 0 : room / stride + 1;
}

template <class T>
void compare_rungs(double unit) {
    for (const Case& c : CASES)
        for (i64 stride = 1; stride <= 3; ++stride)
            for (i64 pad : {0, 1, 4})
                for (i64 dil = 1; dil <= 2; ++dil) {
                    const i64 oh = outputs(c.h, c.kh, stride, pad, dil), ow = outputs(c.w, c.kw, stride, pad, dil);
                    if (oh > 0 && ow > 0)
                        compare_at<T>(
                            {c.n, c.c, c.h, c.w, c.k, c.kh, c.kw, stride, stride, pad, pad, dil, dil, c.groups, oh, ow},
                            unit);
                }
    // Several bands and blocks, images joined, axes that differ, strides beyond the kernel, planes a power of 2 apart.
    constexpr i64 LARGE[][14] = {
        // n, c, h, w, k, kernel, stride, padding, dilation, groups
        {3, 5, 40, 37, 21, 3, 4, 2, 3, 1, 2, 1, 2, 1},  {2, 40, 30, 31, 33, 3, 3, 1, 1, 2, 0, 2, 1, 1},
        {1, 3, 50, 49, 17, 7, 7, 2, 2, 3, 3, 1, 1, 1},  {50, 16, 7, 7, 24, 1, 1, 1, 1, 0, 0, 1, 1, 1},
        {2, 33, 32, 32, 20, 1, 1, 1, 1, 0, 0, 1, 1, 1}, {2, 4, 23, 19, 6, 2, 2, 5, 4, 1, 1, 1, 1, 2},
        {1, 3, 32, 32, 40, 8, 8, 8, 8, 0, 0, 1, 1, 1},  {2, 6, 33, 35, 12, 5, 7, 2, 1, 2, 3, 1, 2, 6},
        {1, 70, 9, 9, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1},   {20, 2, 16, 12, 30, 3, 3, 1, 2, 1, 1, 3, 1, 1},
        {1, 3, 70, 6, 4, 2, 3, 1, 1, 0, 1, 1, 1, 1},    {2, 90, 33, 8, 70, 3, 3, 2, 1, 1, 1, 1, 1, 1},
    };
    for (const auto& [n, c, h, w, k, kh, kw, sh, sw, ph, pw, dh, dw, groups] : LARGE)
        compare_at<T>({n, c, h, w, k, kh, kw, sh, sw, ph, pw, dh, dw, groups, outputs(h, kh, sh, ph, dh),
                       outputs(w, kw, sw, pw, dw)},
                      unit);
}

}  // namespace

TEST(conv_rungs_agree_float) { compare_rungs<float>(6e-8); }
TEST(conv_rungs_agree_double) { compare_rungs<double>(1.2e-16); }
