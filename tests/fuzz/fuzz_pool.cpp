// Max and average pooling and their gradients, window by window.
#include "fuzz.h"

using namespace fuzz;
using namespace glassgrad;

namespace {

template <class T>
void windows(Input& in) {
    Pool2dShape s{in.size(40),
                  in.size(40),
                  in.size(80),
                  in.in(1, 5),
                  in.in(1, 5),
                  in.in(1, 4),
                  in.in(1, 4),
                  0,
                  0,
                  in.in(1, 3),
                  in.in(1, 3),
                  0,
                  0};
    limit(1500, {&s.planes, &s.h, &s.w});
    s.pad_h = in.in(0, s.kh), s.pad_w = in.in(0, s.kw);
    const bool average = in.flag(), include = in.flag();
    if (average) s.dil_h = s.dil_w = 1;
    // Any number of windows: those of the formula, fewer, or some that hang over the edge or lie beyond it.
    const auto windows_of = [&](i64 size, i64 pad, i64 kernel, i64 dil, i64 stride) {
        const i64 room = size + 2 * pad - dil * (kernel - 1) - 1;
        return std::max<i64>(0, (room < 0 ? 0 : room / stride + 1) + in.in(0, 3) - 1);
    };
    s.oh = windows_of(s.h, s.pad_h, s.kh, s.dil_h, s.stride_h);
    s.ow = windows_of(s.w, s.pad_w, s.kw, s.dil_w, s.stride_w);
    const i64 inputs = s.h * s.w, outputs = s.oh * s.ow, n = s.planes * outputs;
    const auto text = [&](const char* op) {
        return [=] {
            return op + list({s.planes, s.h, s.w}) + " to " + list({s.oh, s.ow}) + " kernel " + list({s.kh, s.kw}) +
                   " stride " + list({s.stride_h, s.stride_w}) + " pad " + list({s.pad_h, s.pad_w}) + " dilation " +
                   list({s.dil_h, s.dil_w}) + (average && include ? " counting padding" : "");
        };
    };
    const auto x = numbers<T>(in, s.planes * inputs), dy = numbers<T>(in, n);
    using W = Wide<T>;
    std::vector<W> dx(static_cast<std::size_t>(s.planes * inputs)), dx_size(dx.size());
    /// f(input) for the elements of a window; the number of positions inside the padding too.
    const auto each_tap = [&](i64 o, auto&& f) {
        const i64 p = o / outputs, y0 = o % outputs / s.ow * s.stride_h - s.pad_h, x0 = o % s.ow * s.stride_w - s.pad_w;
        i64 counted = 0;
        for (i64 r = 0; r < s.kh; ++r)
            for (i64 q = 0; q < s.kw; ++q) {
                const i64 iy = y0 + r * s.dil_h, ix = x0 + q * s.dil_w;
                counted += iy < s.h + s.pad_h && ix < s.w + s.pad_w;
                if (iy >= 0 && iy < s.h && ix >= 0 && ix < s.w) f((p * s.h + iy) * s.w + ix);
            }
        return counted;
    };
    const auto slopes = [&](const char* op, auto&& kernel) {
        const auto got = output<T>(in, s.planes * inputs, text(op), kernel);
        for (i64 i = 0; i < got.size(); ++i)
            expect<T>(got[i], dx[static_cast<std::size_t>(i)], dx_size[static_cast<std::size_t>(i)],
                      static_cast<double>(s.kh * s.kw + 3), [&] { return text(op)() + " at " + list({i}); });
    };
    const auto add = [&](i64 i, W d) {
        dx[static_cast<std::size_t>(i)] += d;
        dx_size[static_cast<std::size_t>(i)] += std::abs(d);
    };
    if (average) {
        const auto y = output<T>(in, n, text("avg_pool2d"), [&](T* y) { avg_pool2d(y, x.get(), s, include); });
        for (i64 o = 0; o < n; ++o) {
            W sum = 0, size = 0;
            i64 inside = 0;
            const i64 counted = each_tap(o, [&](i64 i) {
                sum += x[i];
                size += std::abs(x[i]);
                ++inside;
            });
            const W divisor = static_cast<W>(std::max<i64>(1, include ? counted : inside));
            expect<T>(y[o], sum / divisor, size, static_cast<double>(s.kh * s.kw + 3),
                      [&] { return text("avg_pool2d")() + " at " + list({o}); });
            each_tap(o, [&](i64 i) { add(i, dy[o] / divisor); });
        }
        slopes("avg_pool2d_backward", [&](T* dx) { avg_pool2d_backward(dx, dy.get(), s, include); });
        return;
    }
    Array<i64> index(in, n), again = index.twin();
    Array<T> y(in, n), y_again = y.twin();
    one_thread_then_two([&] { max_pool2d(y.get(), index.get(), x.get(), s); },
                        [&] { max_pool2d(y_again.get(), again.get(), x.get(), s); });
    expect_same_bits(y, y_again, text("max_pool2d"));
    expect_same_bits(index, again, text("max_pool2d index"));
    for (i64 o = 0; o < n; ++o) {
        const i64 plane = o / outputs * inputs;
        i64 best = -1;
        each_tap(o, [&](i64 i) {
            if (best < 0 || x[i] > x[best] || std::isnan(x[i])) best = i;
        });
        const auto here = [&] { return text("max_pool2d")() + " at " + list({o}); };
        if (index[o] != (best < 0 ? -1 : best - plane)) fail(here() + ": index " + std::to_string(index[o]));
        expect<T>(y[o], best < 0 ? -std::numeric_limits<T>::infinity() : x[best], 0, 0, here);
        if (best >= 0) add(best, dy[o]);
    }
    slopes("max_pool2d_backward", [&](T* dx) { max_pool2d_backward(dx, dy.get(), index.get(), s); });
}

}  // namespace

void target(Input& in) { in.flag() ? windows<float>(in) : windows<double>(in); }
