// Optimizer steps: one pass over each parameter and its state, all parameters in one job.
//
// A step is bound by memory (Adam: 16 bytes read and 12 written per float), so what counts is to touch each array once.
// The job is cut along the concatenation of all parameters: a hundred small ones make one chunk, not a hundred jobs.
// Scalars are worked out in double and used in T, as PyTorch does.
#include <algorithm>
#include <cmath>

#include "core/allocator.h"
#include "core/kernels.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace glassgrad {

namespace {

constexpr i64 CHUNK_ELEMENTS = 1 << 14;  // Adam moves 448 KiB for them: about 30 us at the speed of memory

/// f(parameter, begin, end) for pieces that make up all elements of all parameters.
template <class Parameter, class F>
void each_piece(const Parameter* parameters, i64 count, F&& f) {
    Scratch<i64> ends(count);  // of each parameter in the concatenation
    i64 total = 0;
    for (i64 i = 0; i < count; ++i) ends[i] = total += parameters[i].size;
    parallel_for(total, CHUNK_ELEMENTS, [&, last = ends + count](i64 begin, i64 end) {
        i64 i = std::upper_bound(ends.get(), last, begin) - ends;
        for (; begin < end; ++i) {
            const i64 start = ends[i] - parameters[i].size, stop = std::min(end, ends[i]);
            if (begin < stop) f(parameters[i], begin - start, stop - start);
            begin = stop;
        }
    });
}

/// The gradient as the formula wants it: signed for descent, with the weight's decay.
template <class T>
struct Gradient {
    Gradient(bool maximize, double weight_decay)
        : sign_(maximize ? -1 : 1), decay_(static_cast<T>(weight_decay)), has_decay_(decay_ != 0) {}
    T operator()(T g, T p) const {
        const T signed_g = sign_ * g;
        return has_decay_ ? signed_g + decay_ * p : signed_g;  // without decay an infinite p does no harm
    }

  private:
    T sign_, decay_;
    bool has_decay_;
};

}  // namespace

template <class T>
void sgd_step(const SgdParameter<T>* parameters, i64 count, const SgdOptions& o) {
    const Gradient<T> gradient(o.maximize, o.weight_decay);
    const T lr = static_cast<T>(o.lr), momentum = static_cast<T>(o.momentum);
    const T undamped = static_cast<T>(1 - o.dampening);
    const bool nesterov = o.nesterov;
    each_piece(parameters, count, [=](const SgdParameter<T>& a, i64 begin, i64 end) {
        T* __restrict p = a.p;
        T* __restrict buffer = a.momentum;
        const T* __restrict grad = a.grad;
        if (!buffer) {
            for (i64 i = begin; i < end; ++i) p[i] -= lr * gradient(grad[i], p[i]);
            return;
        }
        // The first step ignores what the buffer holds, be it NaN: hence not a factor of 0.
        const bool first = a.first;
        for (i64 i = begin; i < end; ++i) {
            const T g = gradient(grad[i], p[i]);
            const T b = first ? g : momentum * buffer[i] + undamped * g;
            buffer[i] = b;
            p[i] -= lr * (nesterov ? g + momentum * b : b);
        }
    });
}

template <class T>
void adam_step(const AdamParameter<T>* parameters, i64 count, const AdamOptions& o) {
    const Gradient<T> gradient(o.maximize, o.decoupled ? 0 : o.weight_decay);
    const T shrink = static_cast<T>(o.decoupled ? 1 - o.lr * o.weight_decay : 1);
    const T new_m = static_cast<T>(1 - o.beta1), old_v = static_cast<T>(o.beta2), new_v = static_cast<T>(1 - o.beta2);
    const T eps = static_cast<T>(o.eps);
    struct Correction {  // of the bias towards the zeros that m and v start from
        T lr, v_scale;
    };
    Scratch<Correction> corrections(count);
    for (i64 i = 0; i < count; ++i) {
        const double step = static_cast<double>(parameters[i].step);
        if (i > 0 && parameters[i].step == parameters[i - 1].step)
            corrections[i] = corrections[i - 1];
        else
            corrections[i] = {static_cast<T>(o.lr / (1 - std::pow(o.beta1, step))),
                              static_cast<T>(std::sqrt(1 - std::pow(o.beta2, step)))};
    }
    each_piece(parameters, count, [=, correction = corrections.get()](const AdamParameter<T>& a, i64 begin, i64 end) {
        const T lr = correction[&a - parameters].lr, v_scale = correction[&a - parameters].v_scale;
        T* __restrict p = a.p, * __restrict m = a.m, * __restrict v = a.v, * __restrict v_max = a.v_max;
        const T* __restrict grad = a.grad;
        const auto update = [=](i64 i, auto second_moment) {
            const T g = gradient(grad[i], p[i]);
            m[i] += new_m * (g - m[i]);
            v[i] = old_v * v[i] + new_v * g * g;
            p[i] = shrink * p[i] - lr * m[i] / (std::sqrt(second_moment(i)) / v_scale + eps);
        };
        if (v_max)
            for (i64 i = begin; i < end; ++i) update(i, [=](i64 i) { return v_max[i] = maximum(v_max[i], v[i]); });
        else
            for (i64 i = begin; i < end; ++i) update(i, [=](i64 i) { return v[i]; });
    });
}

template <class T>
void rmsprop_step(const RmspropParameter<T>* parameters, i64 count, const RmspropOptions& o) {
    const Gradient<T> gradient(o.maximize, o.weight_decay);
    const T lr = static_cast<T>(o.lr), old_v = static_cast<T>(o.alpha), new_v = static_cast<T>(1 - o.alpha);
    const T eps = static_cast<T>(o.eps), momentum = static_cast<T>(o.momentum);
    each_piece(parameters, count, [=](const RmspropParameter<T>& a, i64 begin, i64 end) {
        T* __restrict p = a.p, * __restrict v = a.v, * __restrict buffer = a.momentum, * __restrict average = a.average;
        const T* __restrict grad = a.grad;
        const auto update = [=](auto centered, auto with_momentum) {
            for (i64 i = begin; i < end; ++i) {
                const T g = gradient(grad[i], p[i]);
                v[i] = old_v * v[i] + new_v * g * g;
                T variance = v[i];
                if constexpr (centered) {
                    average[i] += new_v * (g - average[i]);
                    variance -= average[i] * average[i];
                }
                T change = g / (std::sqrt(variance) + eps);
                if constexpr (with_momentum) change = buffer[i] = momentum * buffer[i] + change;
                p[i] -= lr * change;
            }
        };
        const std::true_type yes;
        const std::false_type no;
        if (average && buffer)
            update(yes, yes);
        else if (average)
            update(yes, no);
        else if (buffer)
            update(no, yes);
        else
            update(no, no);
    });
}

template <class T>
void adagrad_step(const AdagradParameter<T>* parameters, i64 count, const AdagradOptions& o) {
    const Gradient<T> gradient(o.maximize, o.weight_decay);
    const T eps = static_cast<T>(o.eps);
    each_piece(parameters, count, [=](const AdagradParameter<T>& a, i64 begin, i64 end) {
        const T lr = static_cast<T>(a.lr);
        T* __restrict p = a.p, * __restrict sum = a.sum;
        const T* __restrict grad = a.grad;
        for (i64 i = begin; i < end; ++i) {
            const T g = gradient(grad[i], p[i]);
            sum[i] += g * g;
            p[i] -= lr * g / (std::sqrt(sum[i]) + eps);
        }
    });
}

#define INSTANTIATE(T)                                                                     \
    template void sgd_step<T>(const SgdParameter<T>*, i64, const SgdOptions&);             \
    template void adam_step<T>(const AdamParameter<T>*, i64, const AdamOptions&);          \
    template void rmsprop_step<T>(const RmspropParameter<T>*, i64, const RmspropOptions&); \
    template void adagrad_step<T>(const AdagradParameter<T>*, i64, const AdagradOptions&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace glassgrad
