// Every rung of the matmul ladder: any strides, batches, bias; within k + 2 roundings of the sum of |a| |b|.
#include "fuzz.h"

using namespace fuzz;
using namespace glassgrad;

namespace {

template <class T>
using Kernel = void (*)(T*, const T*, const T*, const T*, const MatmulShape&);
template <class T>
constexpr std::pair<const char*, Kernel<T>> RUNGS[] = {
    {"matmul", matmul<T>},
    {"matmul_naive", matmul_naive<T>},
    {"matmul_reordered", matmul_reordered<T>},
    {"matmul_tiled", matmul_tiled<T>},
    {"matmul_vectorised", matmul_vectorised<T>},
    {"matmul_packed", matmul_packed<T>},
};

template <class T>
void products(Input& in) {
    i64 m = in.size(140), n = in.size(300), k = in.size(600), outer = in.size(3), inner = in.size(3);
    const bool batched = in.flag();
    if (!batched) outer = inner = 1;
    limit(1 << 17, {&m, &n, &k, &outer, &inner});
    const auto a = strided<T>(in, {outer, inner, m, k}), b = strided<T>(in, {outer, inner, k, n});
    const Array<T> bias = numbers<T>(in, n);
    const T* const bias_or_none = in.flag() ? bias.get() : nullptr;
    const auto &u = a.view, &v = b.view;
    const BatchAxis axes[] = {{outer, u.stride[0], v.stride[0]}, {inner, u.stride[1], v.stride[1]}};
    const MatmulShape s{
        m, n, k, u.stride[2], u.stride[3], v.stride[2], v.stride[3], batched * 2, batched ? axes : nullptr};
    const auto& [name, kernel] = RUNGS<T>[in.byte() % 2 ? 0 : in.byte() % std::size(RUNGS<T>)];
    const auto text = [&, name = name] {
        return name + list({m, n, k}) + " batch " + list({outer, inner}) + " strides " +
               list({s.a_row, s.a_col, s.b_row, s.b_col});
    };
    const Array<T> c = output<T>(in, outer * inner * m * n, text,
                                 [&, kernel = kernel](T* c) { kernel(c, u.data, v.data, bias_or_none, s); });
    i64 at = 0;
    for (i64 p = 0; p < outer * inner; ++p) {
        const T* ap = u.data + p / inner * u.stride[0] + p % inner * u.stride[1];
        const T* bp = v.data + p / inner * v.stride[0] + p % inner * v.stride[1];
        for (i64 i = 0; i < m; ++i)
            for (i64 j = 0; j < n; ++j, ++at) {
                Wide<T> sum = bias_or_none ? bias[j] : 0, size = std::abs(sum);
                for (i64 l = 0; l < k; ++l) {
                    const Wide<T> term =
                        static_cast<Wide<T>>(ap[i * s.a_row + l * s.a_col]) * bp[l * s.b_row + j * s.b_col];
                    sum += term;
                    size += std::abs(term);
                }
                expect<T>(c[at], sum, size, static_cast<double>(k + 2),
                          [&] { return text() + " at " + list({p, i, j}); });
            }
    }
}

}  // namespace

void target(Input& in) { in.flag() ? products<float>(in) : products<double>(in); }
