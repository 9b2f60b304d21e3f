#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "core/allocator.h"
#include "harness.h"

using namespace glassgrad;

namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

bool refuses(std::size_t bytes) {
    try {
        deallocate(allocate(bytes));
    } catch (const Error&) {
        return true;
    }
    return false;
}

/// Sizes on both sides of the borders between size classes, of the border to huge pages too.
std::vector<std::size_t> sizes() {
    std::vector<std::size_t> all = {0, 1, 2, 63, 64, 65, 127, 128, 129, 191, 192, 193, 1000};
    for (std::size_t border : {std::size_t{256}, std::size_t{512}, std::size_t{5120}, MiB, 4 * MiB, 5 * MiB, 9 * MiB})
        for (std::size_t header : {std::size_t{0}, std::size_t{64}})
            for (int delta = -1; delta <= 1; ++delta) all.push_back(border - header + static_cast<std::size_t>(delta));
    return all;
}

/// Marks the whole of a block, or its two ends where it is long.
void fill(void* block, std::size_t bytes, unsigned char mark) {
    auto* p = static_cast<unsigned char*>(block);
    const std::size_t part = std::min<std::size_t>(bytes, 4096);
    std::memset(p, mark, part);
    std::memset(p + bytes - part, mark, part);
}
bool is_filled(const void* block, std::size_t bytes, unsigned char mark) {
    const auto* p = static_cast<const unsigned char*>(block);
    const std::size_t part = std::min<std::size_t>(bytes, 4096);
    const auto marked = [=](unsigned char c) { return c == mark; };
    return std::all_of(p, p + part, marked) && std::all_of(p + bytes - part, p + bytes, marked);
}

}  // namespace

TEST(allocator_blocks_are_aligned_and_apart) {
    struct Block {
        void* p;
        std::size_t bytes;
    };
    std::vector<Block> blocks;
    for (int round = 0; round < 2; ++round) {  // the second is served from the cache
        for (std::size_t bytes : sizes()) {
            void* p = allocate(bytes);
            CHECK(p != nullptr);
            CHECK(reinterpret_cast<std::uintptr_t>(p) % ALIGNMENT == 0);
            fill(p, bytes, static_cast<unsigned char>(blocks.size()));
            blocks.push_back({p, bytes});
        }
        for (std::size_t i = 0; i < blocks.size(); ++i)
            CHECK(is_filled(blocks[i].p, blocks[i].bytes, static_cast<unsigned char>(i)));
        for (const Block& b : blocks) deallocate(b.p);
        blocks.clear();
    }
    deallocate(nullptr);
}

TEST(allocator_scratch_knows_sizes_that_overflow) {
    int refused = 0;
    for (i64 n : {i64{-1}, std::numeric_limits<i64>::max() / 8 + 1, std::numeric_limits<i64>::max() / 2 + 2}) try {
            const Scratch<double> s(n);
        } catch (const Error&) {
            ++refused;
        }
    CHECK(refused == 3);
    const Scratch<double> none(0);
    CHECK(none.get() != nullptr);
}

TEST(allocator_gives_back_what_it_was_given) {
    empty_cache();
    for (std::size_t bytes : sizes()) {
        const auto before = allocator_stats();
        void* first = allocate(bytes);
        const auto held = allocator_stats();
        CHECK(held.misses + held.hits == before.misses + before.hits + 1);
        CHECK(held.in_use >= before.in_use + bytes);
        // At most a quarter more than was asked for, a header, and in huge pages one of 2 MiB.
        CHECK(held.in_use - before.in_use <= (bytes + 64) * 5 / 4 + 64 + (bytes > 3 * MiB ? 2 * MiB : 0));
        deallocate(first);
        CHECK(allocator_stats().in_use == before.in_use);
        void* again = allocate(bytes);
        CHECK(again == first);
        CHECK(allocator_stats().hits == held.hits + 1);
        CHECK(allocator_stats().misses == held.misses);
        deallocate(again);
    }
}

TEST(allocator_empty_cache) {
    const std::size_t in_use = allocator_stats().in_use;
    void* kept = allocate(100);
    std::memset(kept, 7, 100);
    for (std::size_t bytes : sizes()) deallocate(allocate(bytes));
    CHECK(allocator_stats().cached > 0);
    empty_cache();
    CHECK(allocator_stats().cached == 0);
    CHECK(is_filled(kept, 100, 7));
    const auto before = allocator_stats();
    deallocate(allocate(5 * MiB));
    CHECK(allocator_stats().misses == before.misses + 1);
    deallocate(kept);
    CHECK(allocator_stats().in_use == in_use);
    empty_cache();
    empty_cache();
}

TEST(allocator_refuses_what_cannot_be) {
    const auto before = allocator_stats();
    for (std::size_t bytes : {std::numeric_limits<std::size_t>::max(), std::numeric_limits<std::size_t>::max() - 63,
                              std::size_t{1} << 63, (std::size_t{1} << 47) + 1})
        CHECK(refuses(bytes));
    CHECK(allocator_stats().in_use == before.in_use);
    CHECK(!refuses(1000));
}

TEST(allocator_scratch) {
    const std::size_t before = allocator_stats().in_use;
    {
        const Scratch<double> scratch(1000);
        for (int i = 0; i < 1000; ++i) scratch[i] = i;
        CHECK(scratch.get()[999] == 999);
        CHECK(allocator_stats().in_use > before);
        const Scratch<float> none(0);
        CHECK(none.get() != nullptr);
    }
    CHECK(allocator_stats().in_use == before);
}

TEST(allocator_many_threads) {
    const std::size_t in_use = allocator_stats().in_use;
    struct Block {
        void* p;
        std::size_t bytes;
        unsigned char mark;
    };
    std::mutex mutex;
    std::vector<Block> shared;  // blocks go from thread to thread
    std::atomic<bool> intact{true};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            std::mt19937 random(t);
            for (int i = 0; i < 2000; ++i) {
                const std::size_t bytes = random() % (i % 500 == 0 ? 6 * MiB : 5000);
                const Block mine{allocate(bytes), bytes, static_cast<unsigned char>(random())};
                fill(mine.p, bytes, mine.mark);
                Block other{};
                {
                    std::lock_guard lock(mutex);
                    shared.push_back(mine);
                    if (shared.size() > 20) {
                        std::swap(shared[random() % shared.size()], shared.back());
                        other = shared.back();
                        shared.pop_back();
                    }
                }
                if (other.p && !is_filled(other.p, other.bytes, other.mark)) intact = false;
                deallocate(other.p);
                if (i % 700 == 699) empty_cache();
            }
        });
    for (auto& t : threads) t.join();
    CHECK(intact);
    for (const Block& b : shared) deallocate(b.p);
    CHECK(allocator_stats().in_use == in_use);
}

TEST(allocator_after_fork) {
    std::atomic<bool> stop{false};
    std::thread busy([&] {
        while (!stop) deallocate(allocate(1000));
    });
    for (int round = 0; round < 20; ++round) {
        const pid_t child = fork();
        if (child == 0) {
            void* p = allocate(1000);
            std::memset(p, 1, 1000);
            deallocate(p);
            _exit(42);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    }
    stop = true;
    busy.join();
}
