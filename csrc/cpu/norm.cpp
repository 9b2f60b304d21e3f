// layer_norm and batch_norm.
//
// Statistics take two passes, mean first, then the squared distances from it: E[x^2] - E[x]^2 in float has no digit
// left once the mean is 3000 times the deviation (2^-24 * 3000^2 > 1/2). The second pass reads what the first left in
// cache. Sums run in vectors of T over at most BLOCK elements (BAND rows), which are added up in double.
#include <algorithm>
#include <cmath>

#include "core/allocator.h"
#include "core/kernels.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace glassgrad {

namespace {

constexpr i64 BLOCK = 1024;
constexpr i64 CHUNK_ELEMENTS = 1 << 15;  // 128 KiB: about 10 us at the speed of memory

/// Sum of f(vector at j, lanes) over [0, n). f gives 0 in lanes beyond the end.
template <class T, class F>
double blocked_sum(i64 n, F&& f) {
    double total = 0;
    for (i64 begin = 0; begin < n; begin += BLOCK) {
        const i64 end = std::min(n, begin + BLOCK);
        Vec<T> even{}, odd{};  // two chains: an addition waits 4 cycles for the one before
        i64 j = begin;
        for (; j + 2 * W<T> <= end; j += 2 * W<T>) {
            even += f(j, W<T>);
            odd += f(j + W<T>, W<T>);
        }
        if (j + W<T> <= end) {
            even += f(j, W<T>);
            j += W<T>;
        }
        if (j < end) odd += f(j, static_cast<int>(end - j));
        total += horizontal_sum<T>(even + odd);
    }
    return total;
}
template <class T>
double sum(const T* x, i64 n) {
    return blocked_sum<T>(n, [=](i64 j, int lanes) { return load_lanes(x + j, lanes); });
}
template <class T>
double sum_of_squared_distances(const T* x, T mean, i64 n) {
    return blocked_sum<T>(n, [=](i64 j, int lanes) {
        const Vec<T> d = load_lanes(x + j, lanes, mean) - mean;
        return d * d;
    });
}
template <class T>
double sum_of_products(const T* dy, const T* x, T mean, i64 n) {  // sum(dy * (x - mean))
    return blocked_sum<T>(
        n, [=](i64 j, int lanes) { return load_lanes(dy + j, lanes) * (load_lanes(x + j, lanes, mean) - mean); });
}

}  // namespace

template <class T>
void layer_norm(T* y, T* mean, T* rstd, const T* x, const T* weight, const T* bias, i64 rows, i64 cols, double eps) {
    parallel_for(rows, ceil_div(CHUNK_ELEMENTS, cols + 1), [=](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i) {
            const T* xi = x + i * cols;
            T* yi = y + i * cols;
            const T m = static_cast<T>(sum(xi, cols) / static_cast<double>(cols));
            const double variance = sum_of_squared_distances(xi, m, cols) / static_cast<double>(cols);
            const T r = static_cast<T>(1 / std::sqrt(variance + eps));
            mean[i] = m;
            rstd[i] = r;
            if (weight && bias)
                for (i64 j = 0; j < cols; ++j) yi[j] = (xi[j] - m) * r * weight[j] + bias[j];
            else if (weight)
                for (i64 j = 0; j < cols; ++j) yi[j] = (xi[j] - m) * r * weight[j];
            else
                for (i64 j = 0; j < cols; ++j) yi[j] = (xi[j] - m) * r + (bias ? bias[j] : T(0));
        }
    });
}

template <class T>
void layer_norm_backward(T* dx, T* dweight, T* dbias, const T* dy, const T* x, const T* weight, const T* mean,
                         const T* rstd, i64 rows, i64 cols) {
    // With h = (x - mean) * rstd and g = dy * weight:  dx = rstd * (g - mean(g) - h * mean(g * h)).
    // dweight and dbias: at most 32 partials, of the shape alone, added up in order.
    const i64 per_chunk = std::max(ceil_div(rows, 32), ceil_div(CHUNK_ELEMENTS, cols + 1));
    const i64 chunks = ceil_div(rows, per_chunk);
    const i64 pitch = ceil_div(cols, W<T>) * W<T>;
    Scratch<T> partials(chunks * 2 * pitch);
    T* const partial = partials.get();
    parallel_for(chunks, 1, [=](i64 first, i64 last) {
        for (i64 chunk = first; chunk < last; ++chunk) {
            T* dw = partial + chunk * 2 * pitch;
            T* db = dw + pitch;
            std::fill(dw, dw + 2 * pitch, T(0));
            for (i64 i = chunk * per_chunk; i < std::min(rows, (chunk + 1) * per_chunk); ++i) {
                const T *dyi = dy + i * cols, *xi = x + i * cols;
                T* dxi = dx + i * cols;
                const T m = mean[i], r = rstd[i];
                const auto g = [=](i64 j, int lanes) {
                    const Vec<T> v = load_lanes(dyi + j, lanes);
                    return weight ? v * load_lanes(weight + j, lanes) : v;
                };
                const double scale = 1 / static_cast<double>(cols);
                const T mean_g = static_cast<T>(blocked_sum<T>(cols, g) * scale);
                const T mean_gh = static_cast<T>(r * scale * blocked_sum<T>(cols, [=](i64 j, int lanes) {
                                                     return g(j, lanes) * (load_lanes(xi + j, lanes, m) - m);
                                                 }));
                // In vectors by hand: six arrays that might overlap are more than the compiler checks for.
                for (i64 j = 0; j < cols; j += W<T>) {
                    const int lanes = static_cast<int>(std::min<i64>(W<T>, cols - j));
                    const Vec<T> d = load_lanes(dyi + j, lanes), h = (load_lanes(xi + j, lanes, m) - m) * r;
                    store(dw + j, load(dw + j) + d * h);
                    store(db + j, load(db + j) + d);
                    store_lanes(dxi + j, r * (g(j, lanes) - mean_g - h * mean_gh), lanes);
                }
            }
        }
    });
    const auto combine = [=](T* out, i64 offset) {
        if (!out) return;
        parallel_for(cols, ceil_div(CHUNK_ELEMENTS, chunks + 1), [=](i64 begin, i64 end) {
            std::fill(out + begin, out + end, T(0));
            for (i64 chunk = 0; chunk < chunks; ++chunk)
                for (i64 j = begin; j < end; ++j) out[j] += partial[chunk * 2 * pitch + offset + j];
        });
    };
    combine(dweight, 0);
    combine(dbias, pitch);
}

namespace {

constexpr i64 COLUMNS = 64;

/// f(c0, c1) over channels, COLUMNS of them at most.
template <class F>
void for_channels(i64 n, i64 c, i64 spatial, F&& f) {
    const i64 chunk = std::min(COLUMNS, ceil_div(CHUNK_ELEMENTS, n * spatial + 1));
    parallel_for(c, chunk, [&](i64 begin, i64 end) {
        for (i64 c0 = begin; c0 < end; c0 += COLUMNS) f(c0, std::min(end, c0 + COLUMNS));  // one chunk may be all of c
    });
}

/// y = (x - center) * scale + shift for the channels [c0, c1); the three arrays start at c0.
template <class T>
void normalise(T* y, const T* x, const T* center, const T* scale, const T* shift, i64 n, i64 c, i64 spatial, i64 c0,
               i64 c1) {
    for (i64 i = 0; i < n; ++i) {
        for (i64 ch = c0; ch < c1; ++ch) {
            const T m = center[ch - c0], a = scale[ch - c0], b = shift[ch - c0];
            const T* from = x + (i * c + ch) * spatial;
            T* to = y + (i * c + ch) * spatial;
            for (i64 j = 0; j < spatial; ++j) to[j] = (from[j] - m) * a + b;
        }
    }
}

// spatial == 1: the channels of a row lie side by side, so x is walked row by row, in tiles of BAND rows and STRIP
// columns, and never twice from memory. A tile leaves a partial for each of its columns: terms of one column are added
// in T within a band, and in double over the bands, in order.
constexpr i64 BAND = 64, STRIP = 512;  // 128 KiB of float: the second look at a tile finds it in L2

/// f(band, i0, i1, c0, c1) for every tile, in parallel.
template <class F>
void for_tiles(i64 n, i64 c, F&& f) {
    const i64 strips = ceil_div(c, STRIP);
    const i64 elements = std::min(n, BAND) * std::min(c, STRIP);
    parallel_for(ceil_div(n, BAND) * strips, ceil_div(CHUNK_ELEMENTS, elements + 1), [&](i64 begin, i64 end) {
        for (i64 tile = begin; tile < end; ++tile) {
            const i64 i0 = tile / strips * BAND, c0 = tile % strips * STRIP;
            f(tile / strips, i0, std::min(n, i0 + BAND), c0, std::min(c, c0 + STRIP));
        }
    });
}
/// add(u, rows...) for u in [0, width), four rows of [i0, i1) at once: a sum in memory waits 10 cycles for the one
/// before.
template <class F>
void each_four_rows(i64 i0, i64 i1, i64 width, F&& add) {
    i64 i = i0;
    for (; i + 4 <= i1; i += 4)
        for (i64 u = 0; u < width; ++u) add(u, i, i + 1, i + 2, i + 3);
    for (; i < i1; ++i)
        for (i64 u = 0; u < width; ++u) add(u, i);
}
/// f(c0, c1) over strips of columns, with `terms` operations for each column.
template <class F>
void for_strips(i64 c, i64 terms, F&& f) {
    parallel_for(c, std::min(STRIP, ceil_div(CHUNK_ELEMENTS, terms + 1)), [&](i64 begin, i64 end) {
        for (i64 c0 = begin; c0 < end; c0 += STRIP) f(c0, std::min(end, c0 + STRIP));
    });
}

template <class T>
void normalise_rows(T* y, const T* x, const T* center, const T* scale, const T* shift, i64 n, i64 c) {
    parallel_for(n, ceil_div(CHUNK_ELEMENTS, c + 1), [=](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i)
            for (i64 ch = 0; ch < c; ++ch) y[i * c + ch] = (x[i * c + ch] - center[ch]) * scale[ch] + shift[ch];
    });
}

/// Each band measures its squares from a mean m of its own; with d = x - m and e = m - mean, the squares from the mean
/// of all are the sum of d^2 + 2 e d + e^2 (Chan, Golub & LeVeque 1979). Keeping the sum of d makes up for m's
/// rounding.
template <class T>
void batch_norm_rows(T* y, T* mean, T* rstd, const T* x, const T* weight, const T* bias, i64 n, i64 c, double eps) {
    const i64 bands = ceil_div(n, BAND);
    Scratch<T> memory((3 * bands + 2) * c);
    T *const center = memory, *const first = center + bands * c, *const second = first + bands * c;
    T *const scale = second + bands * c, *const shift = scale + c;
    for_tiles(n, c, [=](i64 band, i64 i0, i64 i1, i64 c0, i64 c1) {
        const i64 width = c1 - c0;
        T m[STRIP], d1[STRIP], d2[STRIP];
        std::fill(m, m + width, T(0));
        std::fill(d1, d1 + width, T(0));
        std::fill(d2, d2 + width, T(0));
        each_four_rows(i0, i1, width, [&](i64 u, auto... i) { m[u] += (x[i * c + c0 + u] + ...); });
        for (i64 u = 0; u < width; ++u) m[u] /= static_cast<T>(i1 - i0);
        each_four_rows(i0, i1, width, [&](i64 u, auto... i) {
            const auto d = [&](i64 row) { return x[row * c + c0 + u] - m[u]; };
            d1[u] += (d(i) + ...);
            d2[u] += ((d(i) * d(i)) + ...);
        });
        const i64 at = band * c + c0;
        std::copy(m, m + width, center + at);
        for (i64 u = 0; u < width; ++u)  // what is infinitely far on average is so without the NaN of inf - inf
            first[at + u] = std::isfinite(m[u]) ? d1[u] : T(0);
        std::copy(d2, d2 + width, second + at);
    });
    for_strips(c, 6 * bands, [=](i64 c0, i64 c1) {
        const i64 width = c1 - c0;
        const double count = static_cast<double>(n);
        double total[STRIP], squares[STRIP];
        std::fill(total, total + width, 0.0);
        std::fill(squares, squares + width, 0.0);
        const auto rows_of = [=](i64 band) { return static_cast<double>(std::min(BAND, n - band * BAND)); };
        for (i64 band = 0; band < bands; ++band)
            for (i64 u = 0, at = band * c + c0; u < width; ++u, ++at)
                total[u] += rows_of(band) * center[at] + first[at];
        for (i64 u = 0; u < width; ++u) total[u] /= count;
        for (i64 band = 0; band < bands; ++band)
            for (i64 u = 0, at = band * c + c0; u < width; ++u, ++at) {
                const double e = center[at] - total[u];
                squares[u] += second[at] + e * (2.0 * first[at] + rows_of(band) * e);
            }
        for (i64 u = 0; u < width; ++u) {
            const i64 ch = c0 + u;
            mean[ch] = static_cast<T>(total[u]);
            rstd[ch] = static_cast<T>(1 / std::sqrt(std::max(squares[u], 0.0) / count + eps));
            scale[ch] = weight ? rstd[ch] * weight[ch] : rstd[ch];
            shift[ch] = bias ? bias[ch] : T(0);
        }
    });
    normalise_rows(y, x, mean, scale, shift, n, c);
}

template <class T>
void batch_norm_rows_backward(T* dx, T* dweight, T* dbias, const T* dy, const T* x, const T* weight, const T* mean,
                              const T* rstd, i64 n, i64 c) {
    const i64 bands = ceil_div(n, BAND);
    Scratch<T> memory((2 * bands + 3) * c);
    T *const plain = memory, *const product = plain + bands * c;
    T *const scale = product + bands * c, *const mean_dy = scale + c, *const slope = mean_dy + c;
    for_tiles(n, c, [=](i64 band, i64 i0, i64 i1, i64 c0, i64 c1) {
        const i64 width = c1 - c0;
        T g[STRIP], gh[STRIP];
        std::fill(g, g + width, T(0));
        std::fill(gh, gh + width, T(0));
        each_four_rows(i0, i1, width, [&](i64 u, auto... i) {
            const auto term = [&](i64 at) { return dy[at] * (x[at] - mean[c0 + u]); };
            g[u] += (dy[i * c + c0 + u] + ...);
            gh[u] += (term(i * c + c0 + u) + ...);
        });
        std::copy(g, g + width, plain + band * c + c0);
        std::copy(gh, gh + width, product + band * c + c0);
    });
    for_strips(c, 2 * bands, [=](i64 c0, i64 c1) {
        const i64 width = c1 - c0;
        const double count = static_cast<double>(n);
        double g[STRIP], gh[STRIP];
        std::fill(g, g + width, 0.0);
        std::fill(gh, gh + width, 0.0);
        for (i64 band = 0; band < bands; ++band)
            for (i64 u = 0, at = band * c + c0; u < width; ++u, ++at) {
                g[u] += plain[at];
                gh[u] += product[at];
            }
        for (i64 u = 0; u < width; ++u) {
            const i64 ch = c0 + u;
            const double r = n ? rstd[ch] : 0;  // of no elements rstd is NaN, their sum 0 nonetheless
            if (dweight) dweight[ch] = static_cast<T>(gh[u] * r);
            if (dbias) dbias[ch] = static_cast<T>(g[u]);
            scale[ch] = weight ? rstd[ch] * weight[ch] : rstd[ch];
            mean_dy[ch] = static_cast<T>(g[u] / count);
            slope[ch] = static_cast<T>(gh[u] * r * r / count);
        }
    });
    parallel_for(n, ceil_div(CHUNK_ELEMENTS, c + 1), [=](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i)
            for (i64 ch = 0, at = i * c; ch < c; ++ch, ++at)
                dx[at] = scale[ch] * (dy[at] - mean_dy[ch] - (x[at] - mean[ch]) * slope[ch]);
    });
}

}  // namespace

template <class T>
void batch_norm(T* y, T* mean, T* rstd, const T* x, const T* weight, const T* bias, i64 n, i64 c, i64 spatial,
                double eps) {
    if (spatial == 1) return batch_norm_rows(y, mean, rstd, x, weight, bias, n, c, eps);
    const double count = static_cast<double>(n) * static_cast<double>(spatial);
    for_channels(n, c, spatial, [=](i64 c0, i64 c1) {
        double total[COLUMNS];
        T scale[COLUMNS], shift[COLUMNS];
        const auto statistics = [&](auto&& row_sum) {
            for (i64 ch = c0; ch < c1; ++ch) {
                total[ch - c0] = 0;
                for (i64 i = 0; i < n; ++i) total[ch - c0] += row_sum(ch, x + (i * c + ch) * spatial);
            }
        };
        statistics([=](i64, const T* row) { return sum(row, spatial); });
        for (i64 ch = c0; ch < c1; ++ch) mean[ch] = static_cast<T>(total[ch - c0] / count);
        statistics([=](i64 ch, const T* row) { return sum_of_squared_distances(row, mean[ch], spatial); });
        for (i64 ch = c0; ch < c1; ++ch) {
            rstd[ch] = static_cast<T>(1 / std::sqrt(total[ch - c0] / count + eps));
            scale[ch - c0] = weight ? rstd[ch] * weight[ch] : rstd[ch];
            shift[ch - c0] = bias ? bias[ch] : T(0);
        }
        normalise(y, x, mean + c0, scale, shift, n, c, spatial, c0, c1);
    });
}

template <class T>
void batch_norm_backward(T* dx, T* dweight, T* dbias, const T* dy, const T* x, const T* weight, const T* mean,
                         const T* rstd, i64 n, i64 c, i64 spatial) {
    // With h = (x - mean) * rstd:  dx = rstd * weight * (dy - mean(dy) - h * mean(dy * h)).
    if (spatial == 1) return batch_norm_rows_backward(dx, dweight, dbias, dy, x, weight, mean, rstd, n, c);
    const double count = static_cast<double>(n) * static_cast<double>(spatial);
    for_channels(n, c, spatial, [=](i64 c0, i64 c1) {
        double plain[COLUMNS], product[COLUMNS];
        for (i64 ch = c0; ch < c1; ++ch) {
            plain[ch - c0] = product[ch - c0] = 0;
            for (i64 i = 0; i < n; ++i) {
                const i64 at = (i * c + ch) * spatial;
                plain[ch - c0] += sum(dy + at, spatial);
                product[ch - c0] += sum_of_products(dy + at, x + at, mean[ch], spatial);
            }
        }
        T scale[COLUMNS], mean_dy[COLUMNS], slope[COLUMNS];
        for (i64 ch = c0; ch < c1; ++ch) {
            const double r = count > 0 ? rstd[ch] : 0;  // of no elements rstd is NaN, their sum 0 nonetheless
            if (dweight) dweight[ch] = static_cast<T>(product[ch - c0] * r);
            if (dbias) dbias[ch] = static_cast<T>(plain[ch - c0]);
            scale[ch - c0] = weight ? rstd[ch] * weight[ch] : rstd[ch];
            mean_dy[ch - c0] = static_cast<T>(plain[ch - c0] / count);
            slope[ch - c0] = static_cast<T>(product[ch - c0] * r * r / count);
        }
        for (i64 i = 0; i < n; ++i) {
            for (i64 ch = c0; ch < c1; ++ch) {
                const T a = scale[ch - c0], m_dy = mean_dy[ch - c0], b = slope[ch - c0], m = mean[ch];
                for (i64 at = (i * c + ch) * spatial; at < (i * c + ch + 1) * spatial; ++at)
                    dx[at] = a * (dy[at] - m_dy - (x[at] - m) * b);
            }
        }
    });
}

template <class T>
void batch_norm_eval(T* y, const T* x, const T* weight, const T* bias, const T* mean, const T* var, i64 n, i64 c,
                     i64 spatial, double eps) {
    const auto prepare = [=](T* scale, T* shift, i64 c0, i64 c1) {
        for (i64 ch = c0; ch < c1; ++ch) {
            scale[ch - c0] = static_cast<T>(1 / std::sqrt(var[ch] + eps) * (weight ? weight[ch] : T(1)));
            shift[ch - c0] = bias ? bias[ch] : T(0);
        }
    };
    if (spatial == 1) {
        Scratch<T> scale(c), shift(c);
        prepare(scale, shift, 0, c);
        return normalise_rows<T>(y, x, mean, scale, shift, n, c);
    }
    for_channels(n, c, spatial, [=](i64 c0, i64 c1) {
        T scale[COLUMNS], shift[COLUMNS];
        prepare(scale, shift, c0, c1);
        normalise(y, x, mean + c0, scale, shift, n, c, spatial, c0, c1);
    });
}

#define INSTANTIATE(T)                                                                                                 \
    template void layer_norm<T>(T*, T*, T*, const T*, const T*, const T*, i64, i64, double);                           \
    template void layer_norm_backward<T>(T*, T*, T*, const T*, const T*, const T*, const T*, const T*, i64, i64);      \
    template void batch_norm<T>(T*, T*, T*, const T*, const T*, const T*, i64, i64, i64, double);                      \
    template void batch_norm_backward<T>(T*, T*, T*, const T*, const T*, const T*, const T*, const T*, i64, i64, i64); \
    template void batch_norm_eval<T>(T*, const T*, const T*, const T*, const T*, const T*, i64, i64, i64, double);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
