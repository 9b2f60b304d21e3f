// Every kernel at the edges: sizes round the width of a register, arrays that begin off alignment and end where their
// memory does. What each kernel computes is tested beside its op; here it must compute the same in such places, and
// under AddressSanitizer touch nothing beyond them.
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "core/kernels.h"
#include "core/scalar_ops.h"
#include "core/simd.h"
#include "harness.h"

using namespace glassgrad;

namespace {

/// The arrays of one call. Exact ones start one element beyond an aligned address and are as long as asked for; the
/// others are aligned and have room after them.
template <class T>
class Arrays {
  public:
    explicit Arrays(bool exact) : exact_(exact) {}
    /// n numbers, the same for the same place in the order of calls.
    T* input(i64 n) {
        T* x = array<T>(n);
        for (i64 i = 0; i < n; ++i) x[i] = static_cast<T>((i * 7919 + 31 * count_) % 1009) / 504 - 1;
        return x;
    }
    T* positive(i64 n) {
        T* x = input(n);
        for (i64 i = 0; i < n; ++i) x[i] += T(1.5);
        return x;
    }
    i64* indices(i64 n, i64 below) {
        i64* x = array<i64>(n);
        for (i64 i = 0; i < n; ++i) x[i] = below ? i * 31 % below : -100;
        return x;
    }
    /// n numbers to overwrite: NaN, which no comparison lets pass for a result.
    T* output(i64 n) {
        T* y = array<T>(n);
        std::fill(y, y + n, std::numeric_limits<T>::quiet_NaN());
        return watched(y, n);
    }
    i64* output_indices(i64 n) {
        i64* y = array<i64>(n);
        std::fill(y, y + n, i64{-77});
        return watched(y, n);
    }
    bool* output_bools(i64 n) {
        bool* y = array<bool>(n);
        std::fill(y, y + n, false);
        return watched(y, n);
    }
    std::uint32_t* output_words(i64 n) {
        std::uint32_t* y = array<std::uint32_t>(n);
        std::fill(y, y + n, 0u);
        return watched(y, n);
    }
    /// Numbers to change in place.
    T* state(i64 n) { return watched(positive(n), n); }
    /// The bytes of all outputs and states.
    std::vector<char> results() const {
        std::vector<char> all;
        for (const auto& [p, bytes] : watched_) all.insert(all.end(), p, p + bytes);
        return all;
    }

  private:
    template <class E>
    E* array(i64 n) {
        ++count_;
        const i64 elements = n + (exact_ ? 1 : 64);
        memory_.emplace_back(new char[static_cast<std::size_t>(elements) * sizeof(E)]);
        return reinterpret_cast<E*>(memory_.back().get()) + exact_;
    }
    template <class E>
    E* watched(E* p, i64 n) {
        watched_.push_back({reinterpret_cast<const char*>(p), static_cast<std::size_t>(n) * sizeof(E)});
        return p;
    }
    const bool exact_;
    int count_ = 0;
    std::vector<std::unique_ptr<char[]>> memory_;
    std::vector<std::pair<const char*, std::size_t>> watched_;
};

template <class T>
View<const T> matrix(const T* x, i64 rows, i64 cols) {
    return {x, 2, {rows, cols}, {cols, 1}};
}
MatmulShape product(i64 m, i64 n, i64 k) { return {m, n, k, k, 1, n, 1}; }
Conv2dShape convolution(i64 w) { return {2, 3, 3, w, 5, 3, 3, 1, 1, 1, 2, 1, 1, 1, 3, w + 2}; }
Pool2dShape windows(i64 w) { return {3, 4, w, 2, 3, 1, 1, 0, 1, 1, 1, 3, w}; }

template <class T>
struct Kernel {
    const char* name;
    std::function<void(Arrays<T>&, i64 n)> call;  // n: the size of the axis that vectors run along
};

#define REDUCTION(op)                                                                                    \
    {#op " of rows", [](A a, i64 n) { op(a.output(3), matrix<T>(a.input(3 * n), 3, n), Axes{2}); }}, {   \
        #op " of columns", [](A a, i64 n) { op(a.output(n), matrix<T>(a.input(5 * n), 5, n), Axes{1}); } \
    }
#define MATMUL_RUNG(rung)                                                                                          \
    {#rung, [](Arrays<T>& a,                                                                                       \
               i64 n) { rung<T>(a.output(5 * n), a.input(15), a.input(3 * n), a.input(n), product(5, n, 3)); }},   \
    {                                                                                                              \
        #rung " along k",                                                                                          \
            [](A a, i64 k) { rung<T>(a.output(6), a.input(2 * k), a.input(3 * k), a.input(3), product(2, 3, k)); } \
    }
#define CONV_RUNG(rung)                                                                                             \
    {"conv2d" #rung,                                                                                                \
     [](A a, i64 w) {                                                                                               \
         conv2d##rung<T>(a.output(30 * (w + 2)), a.input(18 * w), a.input(135), a.input(5), convolution(w));        \
     }},                                                                                                            \
        {"conv2d_backward_input" #rung,                                                                             \
         [](A a, i64 w) {                                                                                           \
             conv2d_backward_input##rung<T>(a.output(18 * w), a.input(30 * (w + 2)), a.input(135), convolution(w)); \
         }},                                                                                                        \
    {                                                                                                               \
        "conv2d_backward_weight" #rung, [](A a, i64 w) {                                                            \
            conv2d_backward_weight##rung<T>(a.output(135), a.input(30 * (w + 2)), a.input(18 * w), convolution(w)); \
        }                                                                                                           \
    }

template <class T>
std::vector<Kernel<T>> kernels() {
    using A = Arrays<T>&;
    return {
        REDUCTION(sum),
        REDUCTION(mean),
        REDUCTION(prod),
        REDUCTION(logsumexp),
        {"amax",
         [](A a, i64 n) {
             if (n) amax(a.output(3), matrix<T>(a.input(3 * n), 3, n), Axes{2});
         }},
        {"amin", [](A a, i64 n) { amin(a.output(n), matrix<T>(a.input(5 * n), 5, n), Axes{1}); }},
        {"var", [](A a, i64 n) { var(a.output(3), matrix<T>(a.input(3 * n), 3, n), Axes{2}, 1.0); }},
        {"argmax",
         [](A a, i64 n) {
             if (n) argmax(a.output_indices(3), matrix<T>(a.input(3 * n), 3, n), 1);
         }},
        {"argmin", [](A a, i64 n) { argmin(a.output_indices(n), matrix<T>(a.input(5 * n), 5, n), 0); }},
        {"max", [](A a, i64 n) { max(a.output(n), a.output_indices(n), matrix<T>(a.input(5 * n), 5, n), 0); }},
        {"min",
         [](A a, i64 n) {
             if (n) min(a.output(3), a.output_indices(3), matrix<T>(a.input(3 * n), 3, n), 1);
         }},
        {"cumsum", [](A a, i64 n) { cumsum(a.output(6 * n), a.input(6 * n), 2, n, 3); }},
        {"cumsum of columns", [](A a, i64 n) { cumsum(a.output(6 * n), a.input(6 * n), 2, 3, n); }},

        {"unary", [](A a, i64 n) { unary<scalar::exp>(a.output(3 * n), matrix<T>(a.input(3 * n), 3, n)); }},
        {"unary_backward",
         [](A a, i64 n) {
             unary_backward<scalar::tanh>(a.output(3 * n), matrix<T>(a.input(3 * n), 3, n),
                                          matrix<T>(a.input(3 * n), 3, n));
         }},
        {"predicate",
         [](A a, i64 n) { predicate<scalar::isnan>(a.output_bools(3 * n), matrix<T>(a.input(3 * n), 3, n)); }},
        {"binary",
         [](A a, i64 n) {
             binary<scalar::pow>(a.output(3 * n), matrix<T>(a.positive(3 * n), 3, n),
                                 View<const T>{a.input(n), 2, {3, n}, {0, 1}});
         }},
        {"compare",
         [](A a, i64 n) {
             compare<scalar::lt>(a.output_bools(3 * n), matrix<T>(a.input(3 * n), 3, n),
                                 View<const T>{a.input(3), 2, {3, n}, {1, 0}});
         }},
        {"where",
         [](A a, i64 n) {
             bool* mask = a.output_bools(3 * n);
             predicate<scalar::isfinite>(mask, matrix<T>(a.input(3 * n), 3, n));
             where(a.output(3 * n), matrix<bool>(mask, 3, n), matrix<T>(a.input(3 * n), 3, n),
                   matrix<T>(a.input(3 * n), 3, n));
         }},

        {"softmax", [](A a, i64 n) { softmax<T>(a.output(3 * n), a.input(3 * n), 3, n); }},
        {"softmax_backward",
         [](A a, i64 n) { softmax_backward<T>(a.output(3 * n), a.input(3 * n), a.input(3 * n), 3, n); }},
        {"log_softmax", [](A a, i64 n) { log_softmax<T>(a.output(3 * n), a.input(3 * n), 3, n); }},
        {"log_softmax_backward",
         [](A a, i64 n) { log_softmax_backward<T>(a.output(3 * n), a.input(3 * n), a.input(3 * n), 3, n); }},
        {"cross_entropy",
         [](A a, i64 n) { cross_entropy<T>(a.output(3), a.output(3), a.input(3 * n), a.indices(3, n), 3, n, -100); }},
        {"cross_entropy_backward",
         [](A a, i64 n) {
             cross_entropy_backward<T>(a.output(3 * n), a.input(3), a.input(3 * n), a.input(3), a.indices(3, n), 3, n,
                                       -100);
         }},

        {"layer_norm",
         [](A a, i64 n) {
             layer_norm<T>(a.output(3 * n), a.output(3), a.output(3), a.input(3 * n), a.input(n), a.input(n), 3, n,
                           1e-5);
         }},
        {"layer_norm_backward",
         [](A a, i64 n) {
             layer_norm_backward<T>(a.output(3 * n), a.output(n), a.output(n), a.input(3 * n), a.input(3 * n),
                                    a.input(n), a.input(3), a.positive(3), 3, n);
         }},
        {"batch_norm",
         [](A a, i64 n) {
             batch_norm<T>(a.output(6 * n), a.output(3), a.output(3), a.input(6 * n), a.input(3), a.input(3), 2, 3, n,
                           1e-5);
         }},
        {"batch_norm_backward",
         [](A a, i64 n) {
             batch_norm_backward<T>(a.output(6 * n), a.output(3), a.output(3), a.input(6 * n), a.input(6 * n),
                                    a.input(3), a.input(3), a.positive(3), 2, 3, n);
         }},
        {"batch_norm of columns",
         [](A a, i64 n) {
             batch_norm<T>(a.output(5 * n), a.output(n), a.output(n), a.input(5 * n), a.input(n), a.input(n), 5, n, 1,
                           1e-5);
         }},
        {"batch_norm_backward of columns",
         [](A a, i64 n) {
             batch_norm_backward<T>(a.output(5 * n), a.output(n), a.output(n), a.input(5 * n), a.input(5 * n),
                                    a.input(n), a.input(n), a.positive(n), 5, n, 1);
         }},
        {"batch_norm_eval",
         [](A a, i64 n) {
             batch_norm_eval<T>(a.output(6 * n), a.input(6 * n), a.input(3), a.input(3), a.input(3), a.positive(3), 2,
                                3, n, 1e-5);
         }},

        MATMUL_RUNG(matmul),
        MATMUL_RUNG(matmul_naive),
        MATMUL_RUNG(matmul_reordered),
        MATMUL_RUNG(matmul_tiled),
        MATMUL_RUNG(matmul_vectorised),
        MATMUL_RUNG(matmul_packed),
        CONV_RUNG(),
        CONV_RUNG(_naive),
        CONV_RUNG(_im2col),

        {"max_pool2d",
         [](A a, i64 w) { max_pool2d<T>(a.output(9 * w), a.output_indices(9 * w), a.input(12 * w), windows(w)); }},
        {"max_pool2d_backward",
         [](A a, i64 w) {
             max_pool2d_backward<T>(a.output(12 * w), a.input(9 * w), a.indices(9 * w, 4 * w), windows(w));
         }},
        {"avg_pool2d", [](A a, i64 w) { avg_pool2d<T>(a.output(9 * w), a.input(12 * w), windows(w), true); }},
        {"avg_pool2d_backward",
         [](A a, i64 w) { avg_pool2d_backward<T>(a.output(12 * w), a.input(9 * w), windows(w), false); }},

        {"sgd_step",
         [](A a, i64 n) {
             const SgdParameter<T> p{a.state(n), a.input(n), a.state(n), n, false};
             sgd_step(&p, 1, {0.1, 0.9, 0, 0.01, true, false});
         }},
        {"adam_step",
         [](A a, i64 n) {
             const AdamParameter<T> p{a.state(n), a.input(n), a.state(n), a.state(n), a.state(n), n, 3};
             adam_step(&p, 1, {0.1, 0.9, 0.99, 1e-8, 0.01, true, false});
         }},
        {"rmsprop_step",
         [](A a, i64 n) {
             const RmspropParameter<T> p{a.state(n), a.input(n), a.state(n), a.state(n), nullptr, n};
             rmsprop_step(&p, 1, {0.1, 0.9, 1e-8, 0.01, 0.9, false});
         }},
        {"adagrad_step",
         [](A a, i64 n) {
             const AdagradParameter<T> p{a.state(n), a.input(n), a.state(n), n, 0.1};
             adagrad_step(&p, 1, {1e-8, 0.01, false});
         }},
        {"philox4x32", [](A a, i64 n) { philox4x32(a.output_words(n), n, 1, {2, 3}); }},
    };
}

template <class T>
void everywhere() {
    for (const Kernel<T>& kernel : kernels<T>())
        for (const i64 n : {0, 1, 2, 3, W<T> - 1, W<T>, W<T> + 1, 2 * W<T> - 1, 2 * W<T>, 2 * W<T> + 1, 4 * W<T> + 1,
                            8 * W<T> + 1, 67}) {
            Arrays<T> roomy(false), exact(true);
            kernel.call(roomy, n);
            kernel.call(exact, n);
            if (roomy.results() != exact.results())
                harness::failed(__FILE__, __LINE__, std::string(kernel.name) + " of " + std::to_string(n));
        }
}

}  // namespace

TEST(edges_float) { everywhere<float>(); }
TEST(edges_double) { everywhere<double>(); }
