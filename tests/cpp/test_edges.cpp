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
    /// n numbers to overwrite. They differ between exact arrays and others, so that what a kernel leaves out shows.
    T* output(i64 n) {
        T* y = array<T>(n);
        std::fill(y, y + n, exact_ ? std::numeric_limits<T>::quiet_NaN() : T(77));
        return watched(y, n);
    }
    i64* output_indices(i64 n) {
        i64* y = array<i64>(n);
        std::fill(y, y + n, exact_ ? i64{-77} : i64{-78});
        return watched(y, n);
    }
    bool* output_bools(i64 n) {
        bool* y = array<bool>(n);
        std::fill(y, y + n, exact_);
        return watched(y, n);
    }
    std::uint32_t* output_words(i64 n) {
        std::uint32_t* y = array<std::uint32_t>(n);
        std::fill(y, y + n, exact_ ? 1u : 0u);
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
Conv2dShape convolution(i64 c, i64 w, i64 k) { return {2, c, 3, w, k, 3, 3, 1, 1, 1, 2, 1, 1, 1, 3, w + 2}; }
Conv2dShape wide(i64 w) { return convolution(3, w, 5); }
Conv2dShape deep(i64 c) { return convolution(c, 4, c + 1); }
Conv2dShape per_channel(i64 w) { return {2, 3, 3, w, 3, 3, 3, 1, 1, 1, 2, 1, 1, 3, 3, w + 2}; }
i64 inputs(const Conv2dShape& s) { return s.n * s.c * s.h * s.w; }
i64 weights(const Conv2dShape& s) { return s.k * (s.c / s.groups) * 9; }
i64 outputs(const Conv2dShape& s) { return s.n * s.k * s.oh * s.ow; }
Pool2dShape windows(i64 w) { return {3, 4, w, 2, 3, 1, 1, 0, 1, 1, 1, 3, w}; }

/// Two heads whose rows lie in one row of features.
template <class T>
HeadRows<T> heads(T* data, i64 rows, i64 features) {
    return {data, 2 * rows * features, features, 2 * features};
}
AttentionShape attention(i64 l, i64 s, i64 e) { return {1, 2, l, s, e, e + 1, false, 0.5}; }
template <class T>
AttentionMask<T> added(Arrays<T>& a, const AttentionShape& s) {
    return {nullptr, a.input(s.l * s.s), 0, 0, s.s, 1};
}
template <class T>
void attend(Arrays<T>& a, const AttentionShape& s) {
    scaled_dot_product_attention<T>(heads(a.output(2 * s.l * s.ev), s.l, s.ev), a.output(2 * s.l),
                                    heads<const T>(a.input(2 * s.l * s.e), s.l, s.e),
                                    heads<const T>(a.input(2 * s.s * s.e), s.s, s.e),
                                    heads<const T>(a.input(2 * s.s * s.ev), s.s, s.ev), added(a, s), s);
}
template <class T>
void attend_backward(Arrays<T>& a, const AttentionShape& s) {
    const i64 q = 2 * s.l * s.e, k = 2 * s.s * s.e, v = 2 * s.s * s.ev, y = 2 * s.l * s.ev;
    scaled_dot_product_attention_backward<T>(heads(a.output(q), s.l, s.e), heads(a.output(k), s.s, s.e),
                                             heads(a.output(v), s.s, s.ev), heads<const T>(a.input(y), s.l, s.ev),
                                             heads<const T>(a.input(q), s.l, s.e), heads<const T>(a.input(k), s.s, s.e),
                                             heads<const T>(a.input(v), s.s, s.ev), added(a, s),
                                             heads<const T>(a.input(y), s.l, s.ev), a.input(2 * s.l), s);
}

/// The arrays of a recurrent layer: of one gate rnn, of three gru, of four lstm.
template <class T>
struct Recurrence {
    Recurrence(Arrays<T>& a, const RecurrentShape& s, i64 g)
        : state(s.batch * s.hidden),
          states(s.steps * state),
          x(a.input(s.steps * s.batch * s.inputs)),
          h0(a.input(state)),
          c0(a.input(state)),
          w_ih(a.input(g * s.hidden * s.inputs)),
          w_hh(a.input(g * s.hidden * s.hidden)),
          b_ih(a.input(g * s.hidden)),
          b_hh(a.input(g * s.hidden)),
          dy(a.input(states)),
          dh_n(a.input(state)),
          dc_n(a.input(state)),
          y(a.output(states)),
          h_n(a.output(state)),
          c_n(g == 4 ? a.output(state) : nullptr),
          gates(g > 1 ? a.output(g * states) : nullptr),
          kept(g > 1 ? a.output(states) : nullptr),
          dx(a.output(s.steps * s.batch * s.inputs)),
          dh0(a.output(state)),
          dc0(g == 4 ? a.output(state) : nullptr),
          dw_ih(a.output(g * s.hidden * s.inputs)),
          dw_hh(a.output(g * s.hidden * s.hidden)),
          db_ih(a.output(g * s.hidden)),
          db_hh(g == 3 ? a.output(g * s.hidden) : nullptr) {}
    i64 state, states;
    const T *x, *h0, *c0, *w_ih, *w_hh, *b_ih, *b_hh, *dy, *dh_n, *dc_n;
    T *y, *h_n, *c_n, *gates, *kept, *dx, *dh0, *dc0, *dw_ih, *dw_hh, *db_ih, *db_hh;
};
template <class T>
void rnn(Arrays<T>& a, const RecurrentShape& s) {
    const Recurrence<T> r(a, s, 1);
    rnn_layer<T>(r.y, r.h_n, r.x, r.h0, r.w_ih, r.w_hh, r.b_ih, r.b_hh, false, s);
    rnn_layer_backward<T>(r.dx, r.dh0, r.dw_ih, r.dw_hh, r.db_ih, r.dy, r.dh_n, r.x, r.h0, r.w_ih, r.w_hh, r.y, false,
                          s);
}
template <class T>
void lstm(Arrays<T>& a, const RecurrentShape& s) {
    const Recurrence<T> r(a, s, 4);
    lstm_layer<T>(r.y, r.h_n, r.c_n, r.gates, r.kept, r.x, r.h0, r.c0, r.w_ih, r.w_hh, r.b_ih, r.b_hh, s);
    lstm_layer_backward<T>(r.dx, r.dh0, r.dc0, r.dw_ih, r.dw_hh, r.db_ih, r.dy, r.dh_n, r.dc_n, r.x, r.h0, r.c0, r.w_ih,
                           r.w_hh, r.y, r.gates, r.kept, s);
}
template <class T>
void gru(Arrays<T>& a, const RecurrentShape& s) {
    const Recurrence<T> r(a, s, 3);
    gru_layer<T>(r.y, r.h_n, r.gates, r.kept, r.x, r.h0, r.w_ih, r.w_hh, r.b_ih, r.b_hh, s);
    gru_layer_backward<T>(r.dx, r.dh0, r.dw_ih, r.dw_hh, r.db_ih, r.db_hh, r.dy, r.dh_n, r.x, r.h0, r.w_ih, r.w_hh, r.y,
                          r.gates, r.kept, s);
}

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
#define CONV_RUNG(rung, backward_input, backward_weight, shape)                                   \
    {#rung " " #shape,                                                                            \
     [](A a, i64 n) {                                                                             \
         const Conv2dShape s = shape(n);                                                          \
         rung<T>(a.output(outputs(s)), a.input(inputs(s)), a.input(weights(s)), a.input(s.k), s); \
     }},                                                                                          \
        {#backward_input " " #shape,                                                              \
         [](A a, i64 n) {                                                                         \
             const Conv2dShape s = shape(n);                                                      \
             backward_input<T>(a.output(inputs(s)), a.input(outputs(s)), a.input(weights(s)), s); \
         }},                                                                                      \
    {                                                                                             \
        #backward_weight " " #shape, [](A a, i64 n) {                                             \
            const Conv2dShape s = shape(n);                                                       \
            backward_weight<T>(a.output(weights(s)), a.input(outputs(s)), a.input(inputs(s)), s); \
        }                                                                                         \
    }
#define SOFTMAX(kernel)                                                                                  \
    {#kernel " of rows", [](A a, i64 n) { kernel<T>(a.output(3 * n), a.input(3 * n), 3, n, 1); }}, {     \
        #kernel " of columns", [](A a, i64 n) { kernel<T>(a.output(10 * n), a.input(10 * n), 2, 5, n); } \
    }
#define SOFTMAX_BACKWARD(kernel)                                                                                     \
    {#kernel " of rows", [](A a, i64 n) { kernel<T>(a.output(3 * n), a.input(3 * n), a.input(3 * n), 3, n, 1); }}, { \
        #kernel " of columns",                                                                                       \
            [](A a, i64 n) { kernel<T>(a.output(10 * n), a.input(10 * n), a.input(10 * n), 2, 5, n); }               \
    }
#define SOFTMAX_RUNG(rung) {#rung, [](A a, i64 n) { rung<T>(a.output(3 * n), a.input(3 * n), 3, n); }}
#define RECURRENT(kernel)                                                                     \
    {#kernel " of inputs", [](A a, i64 n) { kernel<T>(a, {3, 2, n, 5, false}); }},            \
        {#kernel " of hidden units", [](A a, i64 n) { kernel<T>(a, {3, 2, 3, n, true}); }}, { \
        #kernel " of a batch", [](A a, i64 n) { kernel<T>(a, {3, n, 3, 5, false}); }          \
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

        SOFTMAX(softmax),
        SOFTMAX_BACKWARD(softmax_backward),
        SOFTMAX(log_softmax),
        SOFTMAX_BACKWARD(log_softmax_backward),
        SOFTMAX_RUNG(softmax_naive),
        SOFTMAX_RUNG(softmax_online),
        SOFTMAX_RUNG(softmax_vectorised),
        {"cross_entropy",
         [](A a, i64 n) {
             cross_entropy<T>(a.output(3), a.output(3), a.output(3), a.input(3 * n), a.indices(3, n), 3, n, -100,
                              Reduction::NONE);
         }},
        {"cross_entropy of rows",
         [](A a, i64 n) {
             cross_entropy<T>(a.output(1), a.output(n), a.output(n), a.input(5 * n), a.indices(n, 5), n, 5, -100,
                              Reduction::MEAN);
         }},
        {"cross_entropy_backward",
         [](A a, i64 n) {
             cross_entropy_backward<T>(a.output(3 * n), a.input(1), a.input(3 * n), a.input(3), a.input(3),
                                       a.indices(3, n), 3, n, -100, Reduction::SUM);
         }},

        {"attention of keys", [](A a, i64 n) { attend(a, attention(3, n, 5)); }},
        {"attention of queries", [](A a, i64 n) { attend(a, attention(n, 3, 5)); }},
        {"attention of features", [](A a, i64 n) { attend(a, attention(3, 5, n)); }},
        {"attention backward of keys", [](A a, i64 n) { attend_backward(a, attention(3, n, 5)); }},
        {"attention backward of queries", [](A a, i64 n) { attend_backward(a, attention(n, 3, 5)); }},
        {"attention backward of features", [](A a, i64 n) { attend_backward(a, attention(3, 5, n)); }},

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

        {"index_select",
         [](A a, i64 n) { index_select<T>(a.output(2 * 5 * n), a.input(2 * 3 * n), a.indices(5, 3), 2, 3, n, 5); }},
        {"index_add",
         [](A a, i64 n) {
             index_add<T>(a.output(2 * 3 * n), a.input(2 * 3 * n), a.input(2 * 5 * n), a.indices(5, 3), 2, 3, n, 5);
         }},
        {"gather",
         [](A a, i64 n) {
             gather<T>(a.output(2 * 5 * n), a.input(2 * 3 * n), a.indices(2 * 5 * n, 3), {2, 3, n, 2, 5, n});
         }},
        {"scatter_add",
         [](A a, i64 n) {
             scatter_add<T>(a.output(2 * 3 * n), a.input(2 * 3 * n), a.input(2 * 5 * n), a.indices(2 * 5 * n, 3),
                            {2, 3, n, 2, 5, n});
         }},

        MATMUL_RUNG(matmul),
        MATMUL_RUNG(matmul_naive),
        MATMUL_RUNG(matmul_reordered),
        MATMUL_RUNG(matmul_tiled),
        MATMUL_RUNG(matmul_vectorised),
        MATMUL_RUNG(matmul_packed),
        {"linear_backward of inputs",
         [](A a, i64 n) {
             linear_backward<T>(a.output(3 * n), a.output(5 * n), a.output(5), a.input(15), a.input(3 * n),
                                a.input(5 * n), 3, n, 5);
         }},
        {"linear_backward of outputs",
         [](A a, i64 n) {
             linear_backward<T>(a.output(15), a.output(5 * n), a.output(n), a.input(3 * n), a.input(15), a.input(5 * n),
                                3, 5, n);
         }},
        MATMUL_RUNG(matmul_relu),
        {"linear_relu_backward",
         [](A a, i64 n) {
             linear_relu_backward<T>(a.output(3 * n), a.output(5 * n), a.output(5), a.input(15), a.input(15),
                                     a.input(3 * n), a.input(5 * n), 3, n, 5);
         }},
        CONV_RUNG(conv2d, conv2d_backward_input, conv2d_backward_weight, wide),
        CONV_RUNG(conv2d, conv2d_backward_input, conv2d_backward_weight, deep),
        CONV_RUNG(conv2d, conv2d_backward_input, conv2d_backward_weight, per_channel),
        CONV_RUNG(conv2d_naive, conv2d_backward_input_naive, conv2d_backward_weight_naive, wide),
        CONV_RUNG(conv2d_im2col, conv2d_backward_input_im2col, conv2d_backward_weight_im2col, wide),
        CONV_RUNG(conv2d_implicit, conv2d_backward_input_implicit, conv2d_backward_weight_implicit, wide),
        CONV_RUNG(conv2d_implicit, conv2d_backward_input_implicit, conv2d_backward_weight_implicit, deep),
        CONV_RUNG(conv2d_winograd, conv2d_backward_input_winograd, conv2d_backward_weight_winograd, wide),
        CONV_RUNG(conv2d_winograd, conv2d_backward_input_winograd, conv2d_backward_weight_winograd, deep),

        {"max_pool2d",
         [](A a, i64 w) { max_pool2d<T>(a.output(9 * w), a.output_indices(9 * w), a.input(12 * w), windows(w)); }},
        {"max_pool2d_backward",
         [](A a, i64 w) {
             max_pool2d_backward<T>(a.output(12 * w), a.input(9 * w), a.indices(9 * w, 4 * w), windows(w));
         }},
        {"avg_pool2d", [](A a, i64 w) { avg_pool2d<T>(a.output(9 * w), a.input(12 * w), windows(w), true); }},
        {"avg_pool2d_backward",
         [](A a, i64 w) { avg_pool2d_backward<T>(a.output(12 * w), a.input(9 * w), windows(w), false); }},

        RECURRENT(rnn),
        RECURRENT(lstm),
        RECURRENT(gru),

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
