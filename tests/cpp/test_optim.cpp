#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/kernels.h"
#include "core/parallel.h"
#include "harness.h"

using namespace glassgrad;

namespace {

constexpr int ARRAYS = 5;                                                           // p, grad and at most three more
const std::vector<i64> SIZES = {1, 0, 7, 16, 33, 1000, 0, 16384, 16385, 40000, 3};  // some end where a chunk does

/// For each parameter its arrays, each starting off alignment.
template <class T>
struct Memory {
    Memory() {
        for (i64 size : SIZES)
            for (int k = 0; k < ARRAYS; ++k) {
                std::vector<T>& array = arrays.emplace_back(static_cast<std::size_t>(size) + 2);
                for (std::size_t i = 0; i < array.size(); ++i) {
                    const double wave = std::sin(static_cast<double>(i + 37 * arrays.size()));
                    array[i] = static_cast<T>(k < 3 ? wave : 1.5 + wave);  // from the fourth on: squares
                }
            }
    }
    T* at(std::size_t parameter, int k) { return arrays[parameter * ARRAYS + static_cast<std::size_t>(k)].data() + 1; }
    std::vector<std::vector<T>> arrays;
};

/// step(memory) against definition(arrays of one element), for 1, 2 and 4 threads.
template <class T, class Step, class Definition>
void against_definition(Step&& step, Definition&& definition) {
    Memory<T> before, first;
    step(first);
    for (std::size_t p = 0; p < SIZES.size(); ++p) {
        for (i64 i = 0; i < SIZES[p]; ++i) {
            double element[ARRAYS];
            for (int k = 0; k < ARRAYS; ++k) element[k] = static_cast<double>(before.at(p, k)[i]);
            definition(element, p);
            for (int k = 0; k < ARRAYS; ++k)
                CHECK_CLOSE(first.at(p, k)[i], element[k], 8 * std::numeric_limits<T>::epsilon());
        }
        for (int k = 0; k < ARRAYS; ++k)
            for (i64 outside : {i64{-1}, SIZES[p]}) CHECK(first.at(p, k)[outside] == before.at(p, k)[outside]);
    }
    for (int threads : {2, 4}) {
        set_num_threads(threads);
        Memory<T> again;
        step(again);
        CHECK(again.arrays == first.arrays);
    }
    set_num_threads(1);
}

template <class T>
void sgd() {
    for (double momentum : {0.0, 0.9})
        for (double decay : {0.0, 0.1})
            for (bool nesterov : {false, true})
                for (bool maximize : {false, true}) {
                    const SgdOptions o{0.1, momentum, 0.25, decay, nesterov, maximize};
                    const auto step = [&](Memory<T>& m) {
                        std::vector<SgdParameter<T>> parameters;
                        for (std::size_t p = 0; p < SIZES.size(); ++p)
                            parameters.push_back(
                                {m.at(p, 0), m.at(p, 1), momentum != 0 ? m.at(p, 2) : nullptr, SIZES[p], p % 2 == 0});
                        sgd_step(parameters.data(), std::ssize(parameters), o);
                    };
                    against_definition<T>(step, [&](double* e, std::size_t p) {
                        double g = (maximize ? -e[1] : e[1]) + decay * e[0];
                        if (momentum != 0) {
                            e[2] = p % 2 == 0 ? g : momentum * e[2] + 0.75 * g;
                            g = nesterov ? g + momentum * e[2] : e[2];
                        }
                        e[0] -= 0.1 * g;
                    });
                }
}

template <class T>
void adam() {
    for (bool decoupled : {false, true})
        for (bool amsgrad : {false, true})
            for (double decay : {0.0, 0.1})
                for (bool maximize : {false, true}) {
                    const AdamOptions o{0.1, 0.75, 0.875, 0.01, decay, decoupled, maximize};
                    const auto step = [&](Memory<T>& m) {
                        std::vector<AdamParameter<T>> parameters;
                        for (std::size_t p = 0; p < SIZES.size(); ++p)
                            parameters.push_back({m.at(p, 0), m.at(p, 1), m.at(p, 2), m.at(p, 3),
                                                  amsgrad ? m.at(p, 4) : nullptr, SIZES[p],
                                                  1 + static_cast<i64>(p) / 2});
                        adam_step(parameters.data(), std::ssize(parameters), o);
                    };
                    against_definition<T>(step, [&](double* e, std::size_t p) {
                        const double steps = 1 + static_cast<double>(p / 2);
                        const double g = (maximize ? -e[1] : e[1]) + (decoupled ? 0 : decay * e[0]);
                        if (decoupled) e[0] *= 1 - 0.1 * decay;
                        e[2] = 0.75 * e[2] + 0.25 * g;
                        e[3] = 0.875 * e[3] + 0.125 * g * g;
                        if (amsgrad) e[4] = std::max(e[4], e[3]);
                        const double m = e[2] / (1 - std::pow(0.75, steps));
                        const double v = e[amsgrad ? 4 : 3] / (1 - std::pow(0.875, steps));
                        e[0] -= 0.1 * m / (std::sqrt(v) + 0.01);
                    });
                }
}

template <class T>
void rmsprop() {
    for (double momentum : {0.0, 0.9})
        for (bool centered : {false, true})
            for (double decay : {0.0, 0.1})
                for (bool maximize : {false, true}) {
                    const RmspropOptions o{0.1, 0.875, 0.5, decay, momentum, maximize};
                    const auto step = [&](Memory<T>& m) {
                        std::vector<RmspropParameter<T>> parameters;
                        for (std::size_t p = 0; p < SIZES.size(); ++p) {
                            for (i64 i = 0; i < SIZES[p]; ++i) m.at(p, 3)[i] += 2;  // more than the average's square
                            parameters.push_back({m.at(p, 0), m.at(p, 1), m.at(p, 3),
                                                  momentum != 0 ? m.at(p, 4) : nullptr, centered ? m.at(p, 2) : nullptr,
                                                  SIZES[p]});
                        }
                        rmsprop_step(parameters.data(), std::ssize(parameters), o);
                    };
                    against_definition<T>(step, [&](double* e, std::size_t) {
                        const double g = (maximize ? -e[1] : e[1]) + decay * e[0];
                        e[3] = 0.875 * (e[3] + 2) + 0.125 * g * g;
                        if (centered) e[2] = 0.875 * e[2] + 0.125 * g;
                        double change = g / (std::sqrt(e[3] - (centered ? e[2] * e[2] : 0)) + 0.5);
                        if (momentum != 0) change = e[4] = momentum * e[4] + change;
                        e[0] -= 0.1 * change;
                    });
                }
}

template <class T>
void adagrad() {
    for (double decay : {0.0, 0.1})
        for (bool maximize : {false, true}) {
            const auto step = [&](Memory<T>& m) {
                std::vector<AdagradParameter<T>> parameters;
                for (std::size_t p = 0; p < SIZES.size(); ++p)
                    parameters.push_back(
                        {m.at(p, 0), m.at(p, 1), m.at(p, 3), SIZES[p], 1 / (1 + static_cast<double>(p))});
                adagrad_step(parameters.data(), std::ssize(parameters), {0.01, decay, maximize});
            };
            against_definition<T>(step, [&](double* e, std::size_t p) {
                const double g = (maximize ? -e[1] : e[1]) + decay * e[0];
                e[3] += g * g;
                e[0] -= 1 / (1 + static_cast<double>(p)) * g / (std::sqrt(e[3]) + 0.01);
            });
        }
}

}  // namespace

TEST(sgd_definition) {
    sgd<float>();
    sgd<double>();
}
TEST(adam_definition) {
    adam<float>();
    adam<double>();
}
TEST(rmsprop_definition) {
    rmsprop<float>();
    rmsprop<double>();
}
TEST(adagrad_definition) {
    adagrad<float>();
    adagrad<double>();
}
TEST(optimizers_of_no_parameters) {
    sgd_step<float>(nullptr, 0, {0.1, 0, 0, 0, false, false});
    adam_step<float>(nullptr, 0, {0.1, 0.9, 0.999, 1e-8, 0, false, false});
}
TEST(sgd_first_step_ignores_the_buffer) {
    float p = 1, b = std::numeric_limits<float>::quiet_NaN();
    const float grad = 2;
    const SgdParameter<float> parameter{&p, &grad, &b, 1, true};
    sgd_step(&parameter, 1, {0.5, 0.9, 0, 0, false, false});
    CHECK(p == 0 && b == 2);
}
TEST(optimizers_without_decay_spare_the_gradient) {
    // 0 * p is NaN for an infinite p: the buffer, which outlives p's accident, stays a number.
    float p = std::numeric_limits<float>::infinity(), b = 1;
    const float grad = 2;
    const SgdParameter<float> parameter{&p, &grad, &b, 1, false};
    sgd_step(&parameter, 1, {0.5, 0.5, 0, 0, false, false});
    CHECK(std::isinf(p) && b == 2.5f);
}
TEST(adam_amsgrad_keeps_nan) {
    float p = 1, m = 0, v = 0, v_max = std::numeric_limits<float>::quiet_NaN();
    const float grad = 2;
    const AdamParameter<float> parameter{&p, &grad, &m, &v, &v_max, 1, 1};
    adam_step(&parameter, 1, {0.1, 0.9, 0.999, 1e-8, 0, false, false});
    CHECK(std::isnan(v_max) && std::isnan(p));
}
