#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/kernels.h"
#include "core/parallel.h"
#include "harness.h"

using namespace glassgrad;

namespace {

using Words = std::vector<std::uint32_t>;

Words numbers(i64 n, std::uint64_t seed, Counter offset) {
    Words y(static_cast<std::size_t>(n) + 1, 12345);
    philox4x32(y.data(), n, seed, offset);
    CHECK(y.back() == 12345);
    y.pop_back();
    return y;
}

}  // namespace

// The known answers of the Random123 library. Its words come lowest first.
TEST(philox_known_answers) {
    constexpr std::uint64_t ONES = ~std::uint64_t{0};
    CHECK((numbers(4, 0, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
    CHECK((numbers(4, ONES, {ONES, ONES}) == Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
    CHECK((numbers(4, 0x299f31d0a4093822, {0x85a308d3243f6a88, 0x0370734413198a2e}) ==
           Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}
TEST(philox_any_number_of_threads) {
    const i64 n = 100003;
    const Words first = numbers(n, 42, {7, 9});
    for (int threads : {2, 4}) {
        set_num_threads(threads);
        CHECK(numbers(n, 42, {7, 9}) == first);
    }
    set_num_threads(1);
}
TEST(philox_part_is_the_same_as_of_the_whole) {
    constexpr std::uint64_t NEAR = ~std::uint64_t{0} - 20;  // the low half wraps on the way, then the whole counter
    for (const Counter offset : {Counter{0, 0}, Counter{NEAR, 5}, Counter{NEAR, ~std::uint64_t{0}}}) {
        const Words all = numbers(300, 1, offset);
        for (i64 n : {0, 1, 3, 4, 5, 63, 64, 65, 127, 129})
            for (std::uint64_t skip : {0, 1, 15, 16, 17, 21, 30}) {
                const std::uint64_t low = offset.low + skip;
                const Words part = numbers(n, 1, {low, offset.high + (low < offset.low)});
                CHECK(std::equal(part.begin(), part.end(), all.begin() + 4 * static_cast<std::ptrdiff_t>(skip)));
            }
    }
}
