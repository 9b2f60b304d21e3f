#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "core/allocator.h"
#include "core/kernels.h"
#include "core/parallel.h"
#include "harness.h"

using namespace glassgrad;

namespace {

template <class T>
constexpr T INF = std::numeric_limits<T>::infinity();

enum class Order { HEAD_MAJOR, ROW_MAJOR };
enum class Masked { NO, OPEN, ADDED };

/// batch x heads matrices (length, features) in a buffer of just that size, by head and row or by row and head.
template <class T>
struct Heads {
    Heads(const AttentionShape& s, i64 length, i64 features, Order order, int seed = 0)
        : numbers(static_cast<std::size_t>(s.batch * s.heads * length * features)) {
        for (std::size_t i = 0; i < numbers.size() && seed; ++i)
            numbers[i] = static_cast<T>(static_cast<i64>(i) * seed % 1009) / 504 - 1;
        const bool by_row = order == Order::ROW_MAJOR;
        stride = {numbers.data(), s.heads * length * features, by_row ? features : length * features,
                  by_row ? s.heads * features : features};
    }
    HeadRows<T> out() { return stride; }
    HeadRows<const T> in() const { return {stride.data, stride.batch, stride.head, stride.row}; }
    double at(i64 b, i64 h, i64 i, i64 f) const { return stride.of(b, h)[i * stride.row + f]; }

    std::vector<T> numbers;
    HeadRows<T> stride;
};

/// The mask of the test: about a third of the pairs closed, and query 1 wholly.
bool is_open(i64 b, i64 h, i64 i, i64 j) { return i != 1 && (b + 2 * h + 3 * i + 5 * j) % 7 > 1; }

template <class T>
struct Run {
    Run(const AttentionShape& s, Order order, Masked masked)
        : s(s),
          q(s, s.l, s.e, order, 7919),
          k(s, s.s, s.e, order, 104729),
          v(s, s.s, s.ev, order, 1299709),
          dy(s, s.l, s.ev, order, 15485863),
          y(s, s.l, s.ev, order),
          dq(s, s.l, s.e, order),
          dk(s, s.s, s.e, order),
          dv(s, s.s, s.ev, order),
          lse(static_cast<std::size_t>(s.batch * s.heads * s.l)),
          pairs(masked == Masked::NO ? 0 : s.batch * s.heads * s.l * s.s),
          open(new bool[static_cast<std::size_t>(pairs)]),
          added(static_cast<std::size_t>(pairs)) {
        for (i64 at = 0; at < pairs; ++at) {
            const i64 j = at % s.s, i = at / s.s % s.l, h = at / s.s / s.l % s.heads, b = at / s.s / s.l / s.heads;
            open[static_cast<std::size_t>(at)] = is_open(b, h, i, j);
            added[static_cast<std::size_t>(at)] = is_open(b, h, i, j) ? static_cast<T>(at % 5) / 4 : -INF<T>;
        }
        if (masked != Masked::NO) mask = {nullptr, nullptr, s.heads * s.l * s.s, s.l * s.s, s.s, 1};
        if (masked == Masked::OPEN) mask.open = open.get();
        if (masked == Masked::ADDED) mask.added = added.data();
    }
    void forward() { scaled_dot_product_attention(y.out(), lse.data(), q.in(), k.in(), v.in(), mask, s); }
    void backward() {
        scaled_dot_product_attention_backward(dq.out(), dk.out(), dv.out(), dy.in(), q.in(), k.in(), v.in(), mask,
                                              y.in(), lse.data(), s);
    }

    double score(i64 b, i64 h, i64 i, i64 j) const {
        if (s.causal && j > i) return -INF<double>;
        double sum = 0;
        for (i64 f = 0; f < s.e; ++f) sum += q.at(b, h, i, f) * k.at(b, h, j, f);
        const auto at = static_cast<std::size_t>(((b * s.heads + h) * s.l + i) * s.s + j);
        if (mask.open && !open[at]) return -INF<double>;
        return sum * s.scale + (mask.added ? added[at] : 0);
    }

    /// Everything from the definition, in double, one query at a time.
    void check(double tolerance) const {
        for (i64 b = 0; b < s.batch; ++b)
            for (i64 h = 0; h < s.heads; ++h) {
                std::vector<double> dk_sum(k.numbers.size()), dv_sum(v.numbers.size());
                for (i64 i = 0; i < s.l; ++i) {
                    std::vector<double> p(static_cast<std::size_t>(s.s)), dp(p);
                    double most = -INF<double>, total = 0, d = 0;
                    for (i64 j = 0; j < s.s; ++j) most = std::max(most, p[j] = score(b, h, i, j));
                    for (double& x : p) total += x = most == -INF<double> ? 0 : std::exp(x - most);
                    CHECK_CLOSE(lse[(b * s.heads + h) * s.l + i], total ? most + std::log(total) : -1e30,
                                total ? tolerance : INF<double>);
                    for (double& x : p) x = total ? x / total : 0;
                    for (i64 f = 0; f < s.ev; ++f) {
                        double sum = 0;
                        for (i64 j = 0; j < s.s; ++j) {
                            sum += p[j] * v.at(b, h, j, f);
                            dp[j] += dy.at(b, h, i, f) * v.at(b, h, j, f);
                            dv_sum[j * s.ev + f] += p[j] * dy.at(b, h, i, f);
                        }
                        CHECK_CLOSE(y.at(b, h, i, f), sum, tolerance);
                        d += sum * dy.at(b, h, i, f);
                    }
                    for (i64 f = 0; f < s.e; ++f) {
                        double sum = 0;
                        for (i64 j = 0; j < s.s; ++j) {
                            const double ds = p[j] * (dp[j] - d) * s.scale;
                            sum += ds * k.at(b, h, j, f);
                            dk_sum[j * s.e + f] += ds * q.at(b, h, i, f);
                        }
                        CHECK_CLOSE(dq.at(b, h, i, f), sum, 4 * tolerance);
                    }
                }
                for (i64 j = 0; j < s.s; ++j) {
                    for (i64 f = 0; f < s.e; ++f) CHECK_CLOSE(dk.at(b, h, j, f), dk_sum[j * s.e + f], 8 * tolerance);
                    for (i64 f = 0; f < s.ev; ++f) CHECK_CLOSE(dv.at(b, h, j, f), dv_sum[j * s.ev + f], 8 * tolerance);
                }
            }
    }

    AttentionShape s;
    Heads<T> q, k, v, dy, y, dq, dk, dv;
    std::vector<T> lse;
    i64 pairs;
    std::unique_ptr<bool[]> open;
    std::vector<T> added;
    AttentionMask<T> mask{};
};

template <class T>
void against_definition(double tolerance) {
    const auto run = [&](const AttentionShape& s, Order order, Masked masked) {
        Run<T> r(s, order, masked);
        r.forward();
        r.backward();
        r.check(tolerance);
    };
    // Round the vectors (4 to 16 lanes), the panels (8 to 32 queries) and the blocks (108 or 112 keys).
    for (bool causal : {false, true})
        for (i64 l : {0, 1, 3, 16, 33, 70})
            for (i64 s : {0, 1, 5, 31, 113}) run({1, 2, l, s, 5, 7, causal, 0.5}, Order::HEAD_MAJOR, Masked::NO);
    for (bool causal : {false, true})
        for (i64 e : {0, 1, 4, 16, 33, 65})
            for (i64 ev : {0, 1, 8, 17, 40}) run({2, 1, 19, 23, e, ev, causal, 0.3}, Order::ROW_MAJOR, Masked::NO);
    for (Masked masked : {Masked::OPEN, Masked::ADDED})
        for (Order order : {Order::HEAD_MAJOR, Order::ROW_MAJOR}) {
            run({2, 3, 35, 130, 8, 6, false, 0.5}, order, masked);
            run({1, 2, 140, 120, 8, 6, true, 0.5}, order, masked);
        }
    run({1, 40, 20, 20, 4, 4, true, 0.5}, Order::ROW_MAJOR, Masked::NO);  // many heads: one range of keys each
    run({1, 1, 150, 300, 12, 20, true, 0.5}, Order::HEAD_MAJOR, Masked::NO);
    run({1, 1, 300, 150, 12, 20, false, 0.5}, Order::HEAD_MAJOR, Masked::NO);
}

template <class T>
void same_for_any_threads() {
    for (bool causal : {false, true}) {
        Run<T> first({2, 2, 300, 250, 20, 12, causal, 0.2}, Order::ROW_MAJOR, Masked::ADDED);
        set_num_threads(1);
        first.forward();
        first.backward();
        for (int threads : {2, 3, 4}) {
            Run<T> again({2, 2, 300, 250, 20, 12, causal, 0.2}, Order::ROW_MAJOR, Masked::ADDED);
            set_num_threads(threads);
            again.forward();
            again.backward();
            CHECK(again.y.numbers == first.y.numbers && again.lse == first.lse);
            CHECK(again.dq.numbers == first.dq.numbers && again.dk.numbers == first.dk.numbers);
            CHECK(again.dv.numbers == first.dv.numbers);
        }
        set_num_threads(1);
    }
}

}  // namespace

TEST(attention_definition_float) { against_definition<float>(2e-6); }
TEST(attention_definition_double) { against_definition<double>(1e-14); }
TEST(attention_threads_float) { same_for_any_threads<float>(); }
TEST(attention_threads_double) { same_for_any_threads<double>(); }

TEST(attention_not_a_number) {
    const AttentionShape s{1, 1, 3, 40, 4, 4, false, 0.5};
    Run<float> r(s, Order::HEAD_MAJOR, Masked::NO);
    r.q.numbers[4] = std::numeric_limits<float>::quiet_NaN();  // of query 1
    r.q.numbers[8] = INF<float>;                               // of query 2: a score of inf - inf
    r.forward();
    r.backward();
    for (i64 f = 0; f < 4; ++f) {
        CHECK(std::isfinite(r.y.at(0, 0, 0, f)));
        CHECK(std::isnan(r.y.at(0, 0, 1, f)) && std::isnan(r.y.at(0, 0, 2, f)));
        CHECK(std::isnan(r.dq.at(0, 0, 1, f)) && std::isnan(r.dv.at(0, 0, 0, f)));
    }
    CHECK(std::isnan(r.lse[1]));
    Run<float> spoilt(s, Order::HEAD_MAJOR, Masked::NO);
    spoilt.k.numbers[35 * 4] = std::numeric_limits<float>::quiet_NaN();  // of one key: every query meets it
    spoilt.forward();
    for (i64 i = 0; i < 3; ++i) CHECK(std::isnan(spoilt.y.at(0, 0, i, 0)));
}

TEST(attention_memory_is_linear) {
    // The scores of 2000 queries and keys would be 16 MB. What the kernels hold is freed at their end, so the peak
    // shows in what the allocator caches.
    empty_cache();
    Run<float> r({1, 1, 2000, 2000, 8, 8, false, 0.3}, Order::HEAD_MAJOR, Masked::NO);
    r.forward();
    r.backward();
    const AllocatorStats stats = allocator_stats();
    CHECK(stats.in_use + stats.cached < std::size_t{4} << 20);
}
