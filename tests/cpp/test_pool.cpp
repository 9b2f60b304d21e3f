#include <cmath>
#include <limits>
#include <vector>

#include "core/kernels.h"
#include "core/parallel.h"
#include "harness.h"

using namespace glassgrad;

namespace {

template <class T>
void against_definition() {
    for (i64 h : {1, 2, 5, 16, 19, 40})
        for (i64 k : {1, 2, 3})
            for (i64 stride = 1; stride <= 3; ++stride)
                for (i64 pad = 0; pad <= k / 2; ++pad)
                    for (i64 beyond = 0; beyond < 2; ++beyond) {  // beyond: the window of ceil_mode
                        const i64 w = h + 3, planes = 3;
                        if (h + 2 * pad < k) continue;
                        const Pool2dShape s{planes,
                                            h,
                                            w,
                                            k,
                                            k,
                                            stride,
                                            stride,
                                            pad,
                                            pad,
                                            1,
                                            1,
                                            (h + 2 * pad - k) / stride + 1 + beyond,
                                            (w + 2 * pad - k) / stride + 1 + beyond};
                        std::vector<T> x(planes * h * w), y(planes * s.oh * s.ow), mean(y.size());
                        std::vector<i64> at(y.size());
                        for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(i * 7919 % 101);
                        x[h * w / 2] = std::numeric_limits<T>::quiet_NaN();
                        x[x.size() - 1] = -std::numeric_limits<T>::infinity();
                        max_pool2d(y.data(), at.data(), x.data(), s);
                        avg_pool2d(mean.data(), x.data(), s, false);
                        std::vector<T> expected_dx(x.size()), dx(x.size()), dy(y.size());
                        for (std::size_t o = 0; o < y.size(); ++o) {
                            const i64 p = o / (s.oh * s.ow), oy = o / s.ow % s.oh, ox = o % s.ow;
                            i64 best = -1, count = 0;
                            T sum = 0;
                            for (i64 iy = oy * stride - pad; iy < oy * stride - pad + k; ++iy)
                                for (i64 ix = ox * stride - pad; ix < ox * stride - pad + k; ++ix) {
                                    if (iy < 0 || iy >= h || ix < 0 || ix >= w) continue;
                                    const T v = x[(p * h + iy) * w + ix];
                                    if (best < 0 || v > x[p * h * w + best] || std::isnan(v)) best = iy * w + ix;
                                    sum += v;
                                    ++count;
                                }
                            CHECK(at[o] == best);
                            const T top = best < 0 ? -std::numeric_limits<T>::infinity() : x[p * h * w + best];
                            CHECK(y[o] == top || (std::isnan(y[o]) && std::isnan(top)));
                            const T m = count ? sum / static_cast<T>(count) : T(0);
                            CHECK(mean[o] == m || (std::isnan(mean[o]) && std::isnan(m)) ||
                                  std::abs(mean[o] - m) <= 1e-5 * std::abs(m));
                            dy[o] = static_cast<T>(o % 13) - 6;
                            if (best >= 0) expected_dx[p * h * w + best] += dy[o];
                        }
                        max_pool2d_backward(dx.data(), dy.data(), at.data(), s);
                        CHECK(dx == expected_dx);
                        // <avg(x), dy> = <x, avg_backward(dy)>
                        for (bool include : {false, true}) {
                            for (auto& e : x)
                                if (!std::isfinite(e)) e = 1;
                            avg_pool2d(mean.data(), x.data(), s, include);
                            avg_pool2d_backward(dx.data(), dy.data(), s, include);
                            double left = 0, right = 0, size = 1;
                            for (std::size_t o = 0; o < y.size(); ++o) left += double(mean[o]) * dy[o];
                            for (std::size_t i = 0; i < x.size(); ++i) {
                                right += double(x[i]) * dx[i];
                                size += std::abs(double(x[i]) * dx[i]);
                            }
                            CHECK_CLOSE(left, right, 1e-5 * size);
                        }
                    }
}

}  // namespace

TEST(pool_definition_float) { against_definition<float>(); }
TEST(pool_definition_double) { against_definition<double>(); }
TEST(pool_threads_do_not_matter) {
    const Pool2dShape s{40, 33, 35, 3, 3, 2, 2, 1, 1, 1, 1, 17, 18};
    std::vector<float> x(s.planes * s.h * s.w), y(s.planes * s.oh * s.ow), dx(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7919 % 1013) / 7;
    std::vector<float> first_y, first_dx;
    for (int threads : {1, 2, 4}) {
        set_num_threads(threads);
        avg_pool2d(y.data(), x.data(), s, true);
        avg_pool2d_backward(dx.data(), y.data(), s, true);
        if (threads == 1) first_y = y, first_dx = dx;
        CHECK(y == first_y);
        CHECK(dx == first_dx);
    }
    set_num_threads(1);
}
