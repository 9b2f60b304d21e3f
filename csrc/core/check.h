// Errors that cross from the kernels to the caller. The bindings map Error to a Python exception.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace glassgrad {

using i64 = std::int64_t;

struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// The caller's interrupt hook asked a long kernel to stop; its outputs are unfinished.
struct Interrupted : std::exception {
    const char* what() const noexcept override { return "interrupted"; }
};

inline void check(bool holds, const char* message) {
    if (!holds) throw Error(message);
}

/// a / b rounded up, for a >= 0 and b > 0: the pieces of size b that hold a.
constexpr i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

/// a * b for sizes, or Error: a 64-bit element count that wraps would become a small allocation.
inline i64 checked_product(i64 a, i64 b) {
    i64 product;
    if (__builtin_mul_overflow(a, b, &product)) throw Error("the number of elements overflows 64 bits");
    return product;
}

}  // namespace glassgrad
