// The three passes of conv2d, every rung against the definition in wider arithmetic.
//
// Each result is a sum of products: any order of summation is within as many roundings of the sum of their sizes as
// there are terms. Winograd mixes the pixels of a tile with every tap, and its errors are those of the largest of them:
// see ROUNDINGS.
#include "fuzz.h"

using namespace fuzz;
using namespace glassgrad;

namespace {

template <class T>
struct Rung {
    const char* name;
    void (*forward)(T*, const T*, const T*, const T*, const Conv2dShape&);
    void (*input)(T*, const T*, const T*, const Conv2dShape&);
    void (*weight)(T*, const T*, const T*, const Conv2dShape&);
};
template <class T>
constexpr Rung<T> RUNGS[] = {
    {"conv2d", conv2d<T>, conv2d_backward_input<T>, conv2d_backward_weight<T>},
    {"conv2d_naive", conv2d_naive<T>, conv2d_backward_input_naive<T>, conv2d_backward_weight_naive<T>},
    {"conv2d_im2col", conv2d_im2col<T>, conv2d_backward_input_im2col<T>, conv2d_backward_weight_im2col<T>},
    {"conv2d_implicit", conv2d_implicit<T>, conv2d_backward_input_implicit<T>, conv2d_backward_weight_implicit<T>},
    {"conv2d_winograd", conv2d_winograd<T>, conv2d_backward_input_winograd<T>, conv2d_backward_weight_winograd<T>},
};

/// Of Winograd, in units of the largest pixel times the sum of all taps. The three transforms of F(4 x 4) multiply
/// sizes by up to 217, and each product goes through some 40 roundings: 9000 if all had one sign. Theirs differ, and
/// 1000 is 1e-4 in float, ten times what normal data shows; a wrong index is off by 1e6.
constexpr double ROUNDINGS = 1000;
/// Its transforms may add up 26 times the largest pixel, 52 times the largest dy, and, back from the points, 52 times a
/// sum of products of such: finite numbers so near to the largest one may then overflow, and leave inf - inf.
constexpr double MAGNIFIED = 26 * 52 * 52;

template <class T>
void passes(Input& in) {
    i64 n = in.size(4), h = in.size(40), w = in.size(60);
    i64 groups = in.byte() % 2 ? 1 : in.in(1, 5), cg = in.size(40), kg = in.size(60);
    i64 kh = in.in(1, 5), kw = in.in(1, 5);
    const i64 pad_h = in.in(0, 5), pad_w = in.in(0, 5);
    i64 stride_h = in.in(1, 4), stride_w = in.in(1, 4), dil_h = in.in(1, 3), dil_w = in.in(1, 3);
    if (in.flag()) kh = kw = 3, stride_h = stride_w = dil_h = dil_w = 1;  // what Winograd is for
    limit(1 << 14, {&n, &h, &w, &cg, &kg, &kh, &kw});
    kh = std::max<i64>(1, kh), kw = std::max<i64>(1, kw);
    const i64 room_h = h + 2 * pad_h - dil_h * (kh - 1) - 1, room_w = w + 2 * pad_w - dil_w * (kw - 1) - 1;
    if (room_h < 0 || room_w < 0) return;  // the bindings refuse a kernel larger than the image
    const Conv2dShape s{n,
                        cg * groups,
                        h,
                        w,
                        kg * groups,
                        kh,
                        kw,
                        stride_h,
                        stride_w,
                        pad_h,
                        pad_w,
                        dil_h,
                        dil_w,
                        groups,
                        room_h / stride_h + 1,
                        room_w / stride_w + 1};
    if (n * s.k * s.oh * s.ow * cg * kh * kw > 1 << 17) return;
    const auto text = [&](const char* rung, const char* pass) {
        return [=] {
            return std::string(rung) + pass + " x " + list({s.n, s.c, s.h, s.w}) + " w " + list({s.k, cg, s.kh, s.kw}) +
                   " stride " + list({s.stride_h, s.stride_w}) + " pad " + list({s.pad_h, s.pad_w}) + " dilation " +
                   list({s.dil_h, s.dil_w}) + " groups " + list({s.groups});
        };
    };
    // What lies in the padding may be multiplied by 0 or left out: finite numbers, for which that is the same.
    const auto x = numbers<T>(in, n * s.c * h * w, true), weight = numbers<T>(in, s.k * cg * kh * kw, true);
    const auto bias = numbers<T>(in, s.k, true), dy = numbers<T>(in, n * s.k * s.oh * s.ow, true);
    const T* const bias_or_none = in.flag() ? bias.get() : nullptr;
    std::size_t choice = in.byte() % 2 ? 0 : in.byte() % std::size(RUNGS<T>);
    if (RUNGS<T>[choice].forward == &conv2d_winograd<T> && !winograd_fits(s)) choice = 0;
    const auto& rung = RUNGS<T>[choice];
    const bool transformed = rung.forward == &conv2d_winograd<T> ||
                             (rung.forward == &conv2d<T> && winograd_fits(s) && std::min(cg, kg) >= 16);

    using W = Wide<T>;
    struct Sum {
        W value = 0, size = 0;
        i64 terms = 0;
        void add(W term) {
            value += term;
            size += std::abs(term);
            ++terms;
        }
    };
    std::vector<Sum> y(dy.size()), dx(x.size()), dw(weight.size());
    for (i64 o = 0; o < dy.size(); ++o) {
        const i64 image = o / (s.k * s.oh * s.ow), k = o / (s.oh * s.ow) % s.k, oy = o / s.ow % s.oh, ox = o % s.ow;
        if (bias_or_none) y[o].add(bias[k]);
        for (i64 c = 0; c < cg; ++c)
            for (i64 r = 0; r < kh; ++r)
                for (i64 q = 0; q < kw; ++q) {
                    const i64 iy = oy * stride_h - pad_h + r * dil_h, ix = ox * stride_w - pad_w + q * dil_w;
                    if (iy < 0 || iy >= h || ix < 0 || ix >= w) continue;
                    const i64 from = ((image * s.c + k / kg * cg + c) * h + iy) * w + ix;
                    const i64 tap = ((k * cg + c) * kh + r) * kw + q;
                    y[o].add(W(x[from]) * weight[tap]);
                    dx[from].add(W(dy[o]) * weight[tap]);
                    dw[tap].add(W(dy[o]) * x[from]);
                }
    }
    const auto largest = [](const Array<T>& a) {
        W m = 0;
        for (i64 i = 0; i < a.size(); ++i) m = std::max(m, std::abs(W(a[i])));
        return m;
    };
    const W top = std::max({largest(x), largest(weight), largest(dy)});
    const auto compare = [&](const char* pass, const std::vector<Sum>& expected, W mixed, auto&& kernel) {
        const auto got = output<T>(in, static_cast<i64>(expected.size()), text(rung.name, pass), kernel);
        W size = 0;
        i64 terms = 0;
        for (const Sum& e : expected) size = std::max(size, e.size), terms = std::max(terms, e.terms);
        const bool magnified = transformed && may_overflow<T>(MAGNIFIED * std::max(mixed, top));
        for (std::size_t i = 0; i < expected.size(); ++i) {
            if (magnified && !std::isfinite(got[static_cast<i64>(i)])) continue;
            expect<T>(got[static_cast<i64>(i)], expected[i].value, transformed ? mixed : size,
                      transformed ? ROUNDINGS : static_cast<double>(terms + 2),
                      [&] { return text(rung.name, pass)() + " at " + std::to_string(i); });
        }
    };
    // The largest pixel times all taps of an output, or all of dy that a tap meets.
    std::vector<W> taps_out(s.k), taps_in(s.c), slopes(s.k);
    for (i64 i = 0; i < weight.size(); ++i) {
        const i64 k = i / (cg * kh * kw), c = k / kg * cg + i / (kh * kw) % cg;
        taps_out[k] += std::abs(W(weight[i]));
        taps_in[c] += std::abs(W(weight[i]));
    }
    for (i64 i = 0; i < dy.size(); ++i) slopes[i / (s.oh * s.ow) % s.k] += std::abs(W(dy[i]));
    const auto most = [](const std::vector<W>& v) { return v.empty() ? W(0) : *std::max_element(v.begin(), v.end()); };
    compare("", y, largest(x) * most(taps_out) + largest(bias),
            [&](T* y) { rung.forward(y, x.get(), weight.get(), bias_or_none, s); });
    compare("_backward_input", dx, largest(dy) * most(taps_in),
            [&](T* dx) { rung.input(dx, dy.get(), weight.get(), s); });
    compare("_backward_weight", dw, largest(x) * most(slopes), [&](T* dw) { rung.weight(dw, dy.get(), x.get(), s); });
}

}  // namespace

void target(Input& in) { in.flag() ? passes<float>(in) : passes<double>(in); }
