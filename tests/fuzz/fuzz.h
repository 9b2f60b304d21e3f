// The words of the fuzz targets: bytes become sizes, strides, alignments and numbers; a kernel's result is compared
// with a definition computed in wider arithmetic, within an error bound.
//
// A target is one file that defines `void target(Input&)`. libFuzzer looks for bytes that reach new code; the first
// wrong number, the first byte read beyond an array and the first undefined operation end the run, and the bytes are
// kept.
#pragma once

#include <sanitizer/asan_interface.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/kernels.h"
#include "core/parallel.h"

namespace fuzz {

using glassgrad::i64;
using glassgrad::View;

/// The bytes of one run; all zeros once they are used up.
class Input {
  public:
    Input(const std::uint8_t* bytes, std::size_t n) : at_(bytes), end_(bytes + n) {}
    unsigned byte() { return at_ < end_ ? *at_++ : 0; }
    bool flag() { return byte() & 1; }
    /// In [low, high], evenly.
    i64 in(i64 low, i64 high) {
        const unsigned first = byte(), second = high - low > 255 ? byte() : 0;
        return low + static_cast<i64>(first | second << 8) % (high - low + 1);
    }
    /// A size up to `high`: mostly small, where edges are close together.
    i64 size(i64 high) { return byte() % 4 ? in(0, std::min<i64>(high, 19)) : in(0, high); }
    template <class E>
    E one_of(std::initializer_list<E> choices) {
        return choices.begin()[byte() % choices.size()];
    }

    // A sum that overflows beside an infinity is NaN or not by the order of its terms: a run has either of the two.
    bool has_wide = false, has_special = false;

  private:
    const std::uint8_t *at_, *end_;
};

/// Halves the largest of the sizes until their product is at most `most`.
inline void limit(i64 most, std::initializer_list<i64*> sizes) {
    for (;;) {
        i64 product = 1;
        for (const i64* s : sizes) product *= *s;
        if (product <= most) return;
        i64& largest = **std::max_element(sizes.begin(), sizes.end(), [](i64* a, i64* b) { return *a < *b; });
        largest /= 2;
    }
}

[[noreturn]] inline void fail(const std::string& what) {
    std::fflush(stdout);
    std::fprintf(stderr, "WRONG: %s\n", what.c_str());
    std::abort();
}
inline std::string list(std::initializer_list<i64> numbers) {
    std::string text = "(";
    for (i64 n : numbers) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
    return text + ")";
}

/// n elements on the heap from `shift` elements beyond its alignment on, to the end of their block: AddressSanitizer
/// sees a step beyond either end. What nobody wrote is NaN.
template <class T>
class Array {
  public:
    explicit Array(i64 n, i64 shift = 0)
        : size_(n), shift_(shift), block_(new char[static_cast<std::size_t>(n + shift) * sizeof(T)]) {
        std::memset(block_.get(), 0xff, static_cast<std::size_t>(n + shift) * sizeof(T));
        ASAN_POISON_MEMORY_REGION(block_.get(), static_cast<std::size_t>(shift) * sizeof(T));
    }
    ~Array() {
        if (block_) ASAN_UNPOISON_MEMORY_REGION(block_.get(), static_cast<std::size_t>(shift_) * sizeof(T));
    }
    Array(Array&&) = default;
    Array(Input& in, i64 n) : Array(n, in.byte() % 16) {}

    T* get() const { return reinterpret_cast<T*>(block_.get()) + shift_; }
    operator T*() const { return get(); }
    T& operator[](i64 i) const { return get()[i]; }
    i64 size() const { return size_; }
    /// As another array of the same size and alignment.
    Array twin() const { return Array(size_, shift_); }
    Array copy() const {
        Array c = twin();
        if (size_) std::memcpy(c.get(), get(), static_cast<std::size_t>(size_) * sizeof(T));
        return c;
    }

  private:
    i64 size_, shift_;
    std::unique_ptr<char[]> block_;
};

enum class Values { INTEGERS, EVEN, SHIFTED, EQUAL, WIDE, TINY, SPECIAL };

/// Fills x with numbers of one kind: small integers (ties, exact sums), even in [-1, 1), the same far from 0
/// (cancellation), all equal, every exponent, denormals, or even ones with NaN, infinities and -0 among them.
template <class T>
Values fill(Input& in, const Array<T>& x, bool finite = false) {
    using Limits = std::numeric_limits<T>;
    auto kind = static_cast<Values>(in.byte() % (finite ? 6 : 7));
    if ((kind == Values::WIDE && in.has_special) || (kind == Values::SPECIAL && in.has_wide)) kind = Values::EVEN;
    in.has_wide |= kind == Values::WIDE;
    in.has_special |= kind == Values::SPECIAL;
    std::uint64_t state = in.byte() << 8 | in.byte();
    const auto random = [&] {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return state >> 33;
    };
    const auto even = [&] { return static_cast<T>(static_cast<double>(random()) / (1u << 30) - 1); };
    const T same = even() * 100;
    for (i64 i = 0; i < x.size(); ++i) {
        const T e = even();
        switch (kind) {
            case Values::INTEGERS:
                x[i] = std::round(e * 4);
                break;
            case Values::EVEN:
                x[i] = e;
                break;
            case Values::SHIFTED:
                x[i] = 1000 + e;
                break;
            case Values::EQUAL:
                x[i] = same;
                break;
            case Values::WIDE:
                x[i] = std::ldexp(e, static_cast<int>(random() % (Limits::max_exponent - Limits::min_exponent)) +
                                         Limits::min_exponent);
                break;
            case Values::TINY:
                x[i] = e * Limits::min() * 2;
                break;
            case Values::SPECIAL: {
                const T specials[] = {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity(), T(-0.0)};
                const auto choice = random() % 16;
                x[i] = choice < 4 ? specials[choice] : e;
            }
        }
    }
    return kind;
}
template <class T>
Array<T> numbers(Input& in, i64 n, bool finite = false) {
    Array<T> x(in, n);
    fill(in, x, finite);
    return x;
}
/// Finite numbers in (-2, 2): what goes through an exponential, and from step to step, is small in a network too.
template <class T>
Array<T> moderate(Input& in, i64 n) {
    Array<T> x = numbers<T>(in, n, true);
    for (i64 i = 0; i < n; ++i) x[i] = std::fmod(x[i], T(2));
    return x;
}

/// A view and the memory it spans, which ends where the view does.
template <class T>
struct Strided {
    Array<T> memory;
    View<const T> view;
};
/// A view of this shape whose axes lie in any order, repeat, run backwards and leave gaps.
template <class T>
Strided<T> strided(Input& in, const std::vector<i64>& shape) {
    View<const T> v;
    v.ndim = static_cast<int>(shape.size());
    std::vector<int> order(shape.size());
    for (int d = 0; d < v.ndim; ++d) order[d] = d;
    for (int d = v.ndim; d > 1; --d)
        if (const unsigned b = in.byte(); b & 64) std::swap(order[d - 1], order[b % static_cast<unsigned>(d)]);
    i64 step = 1, low = 0, high = 0;
    for (int i = v.ndim; i-- > 0;) {
        const int d = order[static_cast<std::size_t>(i)];
        const i64 n = shape[static_cast<std::size_t>(d)];
        const unsigned b = in.byte();
        if (b % 8 == 7) step += b >> 6;  // a gap
        v.shape[d] = n;
        v.stride[d] = b % 8 == 6 ? 0 : b % 8 == 5 ? -step : step;
        if (n == 0) continue;
        (v.stride[d] < 0 ? low : high) += v.stride[d] * (n - 1);
        if (v.stride[d]) step *= n;
    }
    Array<T> memory(in, v.size() ? high - low + 1 : 0);
    if constexpr (std::is_same_v<T, bool>)
        for (i64 i = 0; i < memory.size(); ++i) memory[i] = i * 7919 % 101 < 40;
    else
        fill(in, memory);
    v.data = memory.get() - (v.size() ? low : 0);
    return {std::move(memory), v};
}
/// f(offset into the view's memory), in row-major order.
template <class T, class F>
void each_offset(const View<T>& v, F&& f) {
    i64 index[glassgrad::MAX_DIMS] = {};
    for (i64 left = v.size(), offset = 0; left > 0; --left) {
        f(offset);
        for (int d = v.ndim; d-- > 0;) {
            offset += v.stride[d];
            if (++index[d] < v.shape[d]) break;
            offset -= v.stride[d] * v.shape[d];
            index[d] = 0;
        }
    }
}

// ---- comparing ------------------------------------------------------------------------------------------------------

/// What a definition is computed in: no overflow, and digits to spare.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, float>, double, long double>;

/// Numbers of this size may overflow in a sum or a product of a few.
template <class T>
bool may_overflow(Wide<T> size) {
    return !(size < std::numeric_limits<T>::max() / 8);
}
/// got is within `ulps` roundings of numbers of size `magnitude` of `expected`. NaN and infinity must be met exactly,
/// except where sums of that magnitude may overflow T on the way.
template <class T, class Text>
void expect(T got, Wide<T> expected, Wide<T> magnitude, double ulps, Text&& text) {
    using Limits = std::numeric_limits<T>;
    const auto wrong = [&](Wide<T> bound) {
        char numbers[128];
        std::snprintf(numbers, sizeof numbers, ": got %.17g; expected %.17Lg within %.3Lg", static_cast<double>(got),
                      static_cast<long double>(expected), static_cast<long double>(bound));
        fail(text() + numbers);
    };
    if (std::isnan(expected)) {
        if (!std::isnan(got)) wrong(0);
    } else if (std::isinf(expected)) {
        if (!(got == expected)) wrong(0);
    } else if (may_overflow<T>(magnitude)) {
        return;
    } else {
        const Wide<T> bound = ulps * (static_cast<Wide<T>>(Limits::epsilon()) * magnitude + Limits::denorm_min());
        const Wide<T> error = std::abs(static_cast<Wide<T>>(got) - expected);
        if (!(error <= bound)) wrong(bound);
    }
}
template <class T, class Text>
void expect_same_bits(const T* a, const T* b, i64 n, Text&& text) {
    for (i64 i = 0; i < n; ++i)
        if (std::memcmp(a + i, b + i, sizeof(T)) != 0)
            fail(text() + ": element " + std::to_string(i) + " is " + std::to_string(a[i]) + " and " +
                 std::to_string(b[i]));
}
template <class T, class Text>
void expect_same_bits(const Array<T>& a, const Array<T>& b, Text&& text) {
    expect_same_bits(a.get(), b.get(), a.size(), text);
}

/// f() on one thread, then g() on two; both must do the same.
template <class F, class G>
void one_thread_then_two(F&& f, G&& g) {
    glassgrad::set_num_threads(1);
    f();
    glassgrad::set_num_threads(2);
    g();
}
/// kernel(y) on one thread and on two, into arrays of n elements: the same bits. Returns y.
template <class T, class Kernel, class Text>
Array<T> output(Input& in, i64 n, Text&& text, Kernel&& kernel) {
    Array<T> y(in, n), again = y.twin();
    one_thread_then_two([&] { kernel(y.get()); }, [&] { kernel(again.get()); });
    expect_same_bits(y, again, [&] { return text() + ", one thread and two"; });
    return y;
}
/// kernel(outputs...) on one thread, then with arrays like these on two: the same bits.
template <class T, std::size_t N, class Text, class Kernel>
void same_on_two(const Array<T>* const (&outputs)[N], Text&& text, Kernel&& kernel) {
    const auto run = [&]<std::size_t... I>(const auto& arrays, std::index_sequence<I...>) {
        kernel(arrays[I]->get()...);
    };
    std::vector<Array<T>> twins;
    std::vector<const Array<T>*> others;
    for (const Array<T>* y : outputs) twins.push_back(y->twin());
    for (const Array<T>& y : twins) others.push_back(&y);
    const std::make_index_sequence<N> all;
    one_thread_then_two([&] { run(outputs, all); }, [&] { run(others, all); });
    for (std::size_t i = 0; i < N; ++i)
        expect_same_bits(*outputs[i], twins[i],
                         [&] { return text() + " " + std::to_string(i) + ", one thread and two"; });
}

// ---- formulas whose errors are followed -----------------------------------------------------------------------------

/// A number of a formula and a `size`, the same formula of absolute values and slopes: to first order, one that takes n
/// roundings on its longest path errs by at most n * epsilon * size. A product that underflows in T errs by up to the
/// least normal number; whence the min() in its size.
template <class T>
struct Sized {
    using W = Wide<T>;
    static constexpr W LEAST = std::numeric_limits<T>::min();
    Sized(W v = 0) : value(v), size(std::abs(v)) {}
    Sized(W v, W s) : value(v), size(s) {}
    friend Sized operator+(const Sized& a, const Sized& b) { return {a.value + b.value, a.size + b.size}; }
    friend Sized operator-(const Sized& a, const Sized& b) { return {a.value - b.value, a.size + b.size}; }
    friend Sized operator*(const Sized& a, const Sized& b) { return {a.value * b.value, a.size * b.size + LEAST}; }
    friend Sized operator/(const Sized& a, const Sized& b) {
        const W q = a.value / b.value;
        return {q, (a.size + std::abs(q) * b.size) / std::abs(b.value)};
    }
    friend Sized exp(const Sized& x) {
        const W y = std::exp(x.value);
        return {y, y * (1 + x.size) + LEAST};
    }
    friend Sized tanh(const Sized& x) {
        const W y = std::tanh(x.value);
        return {y, std::abs(y) + (1 - y * y) * x.size + LEAST};
    }
    friend Sized sigmoid(const Sized& x) {
        const W y = 1 / (1 + std::exp(-x.value));
        return {y, y + y * (1 - y) * x.size + LEAST};
    }
    W value, size;
};
/// Beyond first order, where the error reaches the number's own scale, there is nothing to compare.
template <class T, class Text>
void expect(T got, const Sized<T>& expected, double roundings, Text&& text) {
    if (roundings * std::numeric_limits<T>::epsilon() * expected.size < 0.1 + std::abs(expected.value) / 16)
        expect<T>(got, expected.value, expected.size, roundings, text);
}

}  // namespace fuzz

void target(fuzz::Input& in);
