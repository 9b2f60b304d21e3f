// Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011).
//
// A counter-based generator: number i is a function of (seed, i) alone, so that any thread can compute any part and the
// numbers are the same everywhere. With the rounds unrolled the loop over counters has no inner loop, and the compiler
// turns it into vectors.
#include <algorithm>
#include <cstdint>

#include "core/kernels.h"
#include "core/parallel.h"

namespace glassgrad {

namespace {

using Word = std::uint32_t;

constexpr i64 CHUNK = 1 << 14;  // numbers: 64 KiB, about 20 us

struct Words {
    Word w0, w1, w2, w3;
};

inline Words philox(std::uint64_t seed, Counter counter) {
    constexpr std::uint64_t MULTIPLIER_0 = 0xD2511F53, MULTIPLIER_1 = 0xCD9E8D57;
    constexpr Word WEYL_0 = 0x9E3779B9, WEYL_1 = 0xBB67AE85;  // golden ratio, sqrt(3) - 1
    Word key_0 = static_cast<Word>(seed), key_1 = static_cast<Word>(seed >> 32);
    Words c{static_cast<Word>(counter.low), static_cast<Word>(counter.low >> 32), static_cast<Word>(counter.high),
            static_cast<Word>(counter.high >> 32)};
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t product_0 = MULTIPLIER_0 * c.w0, product_1 = MULTIPLIER_1 * c.w2;
        c = {static_cast<Word>(product_1 >> 32) ^ c.w1 ^ key_0, static_cast<Word>(product_1),
             static_cast<Word>(product_0 >> 32) ^ c.w3 ^ key_1, static_cast<Word>(product_0)};
        key_0 += WEYL_0;
        key_1 += WEYL_1;
    }
    return c;
}

inline Counter advance(Counter c, i64 by) {
    const std::uint64_t low = c.low + static_cast<std::uint64_t>(by);
    return {low, c.high + (low < c.low)};
}

}  // namespace

void philox4x32(std::uint32_t* y, i64 n, std::uint64_t seed, Counter offset) {
    parallel_for(n, CHUNK, [=](i64 begin, i64 end) {  // begin is a multiple of 4
        const i64 last = end / 4;
        for (i64 i = begin / 4; i < last; ++i) {
            const Words words = philox(seed, advance(offset, i));
            y[4 * i] = words.w0;
            y[4 * i + 1] = words.w1;
            y[4 * i + 2] = words.w2;
            y[4 * i + 3] = words.w3;
        }
        const Words words = philox(seed, advance(offset, last));
        const Word rest[] = {words.w0, words.w1, words.w2};
        std::copy(rest, rest + end % 4, y + 4 * last);
    });
}

}  // namespace glassgrad
