#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <limits>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "core/parallel.h"
#include "harness.h"

using namespace glassgrad;

namespace {

using Clock = std::chrono::steady_clock;

/// The number of threads within, 1 after.
struct Threads {
    explicit Threads(int n) { set_num_threads(n); }
    ~Threads() { set_num_threads(1); }
};

/// Waits until `flag` is set, but no longer than a loaded machine may need.
template <class T>
bool comes_true(const std::atomic<T>& flag) {
    const auto end = Clock::now() + std::chrono::seconds(20);
    while (!flag && Clock::now() < end) std::this_thread::yield();
    return flag != 0;
}

i64 sum_in_parallel(i64 n, i64 chunk) {
    std::vector<i64> partial(static_cast<std::size_t>((n + chunk - 1) / chunk));
    parallel_for(n, chunk, [&](i64 begin, i64 end) {
        for (i64 i = begin; i < end; ++i) partial[static_cast<std::size_t>(begin / chunk)] += i;
    });
    return std::accumulate(partial.begin(), partial.end(), i64{0});
}

template <class E, class F>
bool throws(F&& f) {
    try {
        f();
    } catch (const E&) {
        return true;
    }
    return false;
}

// An interrupt hook is a plain function: what it tells is kept here.
std::atomic<int> hook_calls{0};
std::atomic<bool> hook_was_elsewhere{false};
std::thread::id hook_thread;
bool count_only() {
    ++hook_calls;
    if (std::this_thread::get_id() != hook_thread) hook_was_elsewhere = true;
    return false;
}
bool count_and_stop() {
    count_only();
    return true;
}
struct Hook {
    explicit Hook(InterruptHook hook) {
        hook_calls = 0;
        hook_was_elsewhere = false;
        hook_thread = std::this_thread::get_id();
        // The hook was perhaps asked a moment ago, and is not asked twice within 50 ms.
        std::this_thread::sleep_for(std::chrono::milliseconds(60));
        set_interrupt_hook(hook);
    }
    ~Hook() { set_interrupt_hook(nullptr); }
};

}  // namespace

TEST(parallel_every_chunk_once) {
    for (int threads : {1, 2, 3, 8}) {
        const Threads within(threads);
        for (i64 n : {1, 2, 7, 64, 1000, 4097})
            for (i64 chunk : {1, 2, 3, 64, 999, 1000, 5000}) {
                std::vector<std::atomic<int>> visits(static_cast<std::size_t>(n));
                std::atomic<bool> as_promised{true};
                parallel_for(n, chunk, [&](i64 begin, i64 end) {
                    if (begin % chunk != 0 || end != std::min(n, begin + chunk)) as_promised = false;
                    for (i64 i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
                });
                CHECK(as_promised);
                for (const auto& v : visits) CHECK(v == 1);
            }
    }
}

TEST(parallel_nothing_to_do) {
    const Threads within(4);
    for (i64 n : {i64{0}, i64{-1}, std::numeric_limits<i64>::min()})
        parallel_for(n, 1, [&](i64, i64) { CHECK(false); });
    int calls = 0;
    parallel_for(3, 0, [&](i64, i64) { ++calls; });  // a chunk is at least one element
    CHECK(calls >= 1);
}

TEST(parallel_ends_do_not_overflow) {
    const i64 most = std::numeric_limits<i64>::max();
    for (int threads : {1, 4}) {
        const Threads within(threads);
        for (i64 chunk : {most, most - 1, most / 2, most / 3 + 1}) {
            std::atomic<i64> total{0}, last{0}, empty{0};
            parallel_for(most, chunk, [&](i64 begin, i64 end) {
                total += end - begin;
                if (end == most) ++last;
                if (begin >= end) ++empty;
            });
            CHECK(total == most);
            CHECK(empty == 0);
            CHECK(last == 1);
        }
    }
}

TEST(parallel_chunks_run_at_the_same_time) {
    const Threads within(3);
    std::atomic<int> started{0};
    std::atomic<bool> all{false}, met{true};
    parallel_for(3, 1, [&](i64, i64) {
        if (++started == 3) all = true;
        if (!comes_true(all)) met = false;  // each waits for the others: no thread can have run two
    });
    CHECK(met);
}

TEST(parallel_an_exception_reaches_the_caller) {
    for (int threads : {1, 2, 4}) {
        const Threads within(threads);
        for (int round = 0; round < 50; ++round) {
            std::string message;
            try {
                parallel_for(100, 1, [&](i64 begin, i64) {
                    if (begin == round) throw Error("chunk " + std::to_string(begin));
                });
            } catch (const Error& e) {
                message = e.what();
            }
            CHECK(message == "chunk " + std::to_string(round));
            CHECK(throws<Error>([&] { parallel_for(100, 1, [](i64, i64) { throw Error("all of them"); }); }));
            CHECK(sum_in_parallel(1000, 7) == 499500);
        }
    }
}
TEST(parallel_an_exception_stops_the_rest) {
    for (int threads : {1, 2}) {
        const Threads within(threads);
        std::atomic<i64> ran{0};
        CHECK(throws<Error>([&] {
            parallel_for(1000000, 1, [&](i64, i64) {
                ++ran;
                throw Error("first");
            });
        }));
        CHECK(ran <= threads);
    }
}

TEST(parallel_within_a_chunk_is_serial) {
    const Threads within(4);
    std::atomic<bool> same_thread{true};
    std::atomic<i64> total{0};
    parallel_for(20, 1, [&](i64, i64) {
        const auto outer = std::this_thread::get_id();
        i64 inner = 0;  // not atomic: one thread
        parallel_for(100, 3, [&](i64 begin, i64 end) {
            if (std::this_thread::get_id() != outer) same_thread = false;
            inner += end - begin;
            parallel_for(2, 1, [&](i64, i64) {});
        });
        total += inner;
    });
    CHECK(same_thread);
    CHECK(total == 2000);
    // After a nested call, and after one that threw, the pool is what it was.
    CHECK(throws<Error>(
        [&] { parallel_for(4, 1, [](i64, i64) { parallel_for(4, 1, [](i64, i64) { throw Error("inner"); }); }); }));
    CHECK(sum_in_parallel(1000, 7) == 499500);
}

TEST(parallel_many_callers) {
    const Threads within(3);
    std::atomic<int> right{0};
    std::vector<std::thread> callers;
    for (int c = 0; c < 4; ++c)
        callers.emplace_back([&] {
            for (int round = 0; round < 200; ++round) right += sum_in_parallel(1000, 10) == 499500;
        });
    for (auto& c : callers) c.join();
    CHECK(right == 800);
}

TEST(parallel_number_of_threads) {
    const int before = num_threads();
    CHECK(before >= 1);
    for (int wrong : {0, -1, 1025, std::numeric_limits<int>::max(), std::numeric_limits<int>::min()})
        CHECK(throws<Error>([=] { set_num_threads(wrong); }));
    CHECK(num_threads() == before);
    for (int n : {1, 5, 1024, 2}) {
        set_num_threads(n);
        CHECK(num_threads() == n);
        CHECK(sum_in_parallel(100, 9) == 4950);  // never more threads than chunks
    }
    set_num_threads(1);
}

TEST(parallel_stops_when_the_hook_says_so) {
    for (int threads : {1, 4}) {
        const Threads within(threads);
        {
            const Hook hook(count_and_stop);
            std::atomic<i64> ran{0};
            CHECK(throws<Interrupted>([&] {
                parallel_for(1000000, 1, [&](i64, i64) {
                    if (std::this_thread::get_id() != hook_thread) comes_true(hook_calls);  // the caller gets its turn
                    ++ran;
                });
            }));
            CHECK(ran < 1000000);
            CHECK(hook_calls >= 1);
            CHECK(!hook_was_elsewhere);
        }
        CHECK(sum_in_parallel(1000, 7) == 499500);
        {
            const Hook hook(count_and_stop);
            CHECK(throws<Interrupted>([] { poll_interrupt(); }));
        }
        {
            const Hook hook(count_only);
            const auto start = Clock::now();
            for (int i = 0; i < 1000; ++i) poll_interrupt();
            CHECK(hook_calls >= 1);
            CHECK(hook_calls <= 1 + (Clock::now() - start) / std::chrono::milliseconds(50));
        }
    }
    poll_interrupt();  // without a hook
}
TEST(parallel_hook_is_asked_while_others_work) {
    const Threads within(2);
    const Hook hook(count_only);
    const auto caller = std::this_thread::get_id();
    std::atomic<bool> helper_came{false};
    parallel_for(2, 1, [&](i64, i64) {
        if (std::this_thread::get_id() == caller) {
            CHECK(comes_true(helper_came));
        } else {
            helper_came = true;
            std::this_thread::sleep_for(std::chrono::milliseconds(400));
        }
    });
    CHECK(hook_calls >= 3);
    CHECK(!hook_was_elsewhere);
}

#if !defined(__SANITIZE_THREAD__)  // which allows no threads after a fork
TEST(parallel_after_fork) {
    const Threads within(3);
    CHECK(sum_in_parallel(1000, 7) == 499500);  // the parent has its workers
    for (int depth = 0; depth < 2; ++depth) {
        const pid_t child = fork();
        if (child == 0) {
            bool right = sum_in_parallel(1000, 7) == 499500;
            if (depth == 1) {  // and a grandchild
                const pid_t grandchild = fork();
                if (grandchild == 0) _exit(sum_in_parallel(1000, 7) == 499500 ? 42 : 1);
                int status = 0;
                right = right && waitpid(grandchild, &status, 0) == grandchild && WEXITSTATUS(status) == 42;
            }
            _exit(right ? 42 : 1);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
        CHECK(sum_in_parallel(1000, 7) == 499500);
    }
}
TEST(parallel_fork_while_another_thread_works) {
    const Threads within(3);
    std::atomic<bool> stop{false}, started{false};
    std::thread busy([&] {
        while (!stop) {
            parallel_for(64, 1, [&](i64, i64) { started = true; });
        }
    });
    CHECK(comes_true(started));
    for (int round = 0; round < 20; ++round) {
        const pid_t child = fork();
        if (child == 0) _exit(sum_in_parallel(1000, 7) == 499500 ? 42 : 1);
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    }
    stop = true;
    busy.join();
}
#endif
