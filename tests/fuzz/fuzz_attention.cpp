// scaled_dot_product_attention and its gradients, against the matrix of scores in wider arithmetic.
//
// The error of a score is its exponential's relative error: Sized follows it. Backward starts from the y and lse that
// forward left: its errors are its own.
#include "fuzz.h"

using namespace fuzz;
using namespace glassgrad;

namespace {

/// A matrix (length, features) for each head, by head and row or by row and head, with or without gaps between rows.
template <class T>
struct Heads {
    Heads(Input& in, const AttentionShape& s, i64 length, i64 features, bool filled)
        : by_row(in.flag()),
          gap(in.byte() % 4 ? 0 : 3),
          row((by_row ? s.heads : 1) * features + gap),
          head(by_row ? features : length * row),
          batch((by_row ? 1 : s.heads) * length * row),
          memory(filled ? moderate<T>(in, s.batch * batch) : Array<T>(in, s.batch * batch)) {}
    HeadRows<T> rows(const Array<T>& of) const { return {of.get(), batch, head, row}; }
    HeadRows<const T> input() const { return {memory.get(), batch, head, row}; }
    Sized<T> at(i64 b, i64 h, i64 i, i64 f) const { return memory[b * batch + h * head + i * row + f]; }

    bool by_row;
    i64 gap, row, head, batch;
    Array<T> memory;
};

template <class T>
void heads(Input& in) {
    using W = Wide<T>;
    AttentionShape s{in.in(1, 2), in.in(1, 3), in.size(150), in.size(250), in.size(70), in.size(70), in.flag(), 0};
    limit(in.byte() % 16 ? 6000 : 100000, {&s.batch, &s.heads, &s.l, &s.s, &s.e, &s.ev});
    s.scale = in.one_of({0.125, 1.0, 0.3, 0.0, -0.5});
    const auto text = [&](const char* what) {
        return [=] {
            return std::string(s.causal ? "causal " : "") + what + list({s.batch, s.heads, s.l, s.s, s.e, s.ev}) +
                   " scale " + std::to_string(s.scale);
        };
    };
    const Heads<T> q(in, s, s.l, s.e, true), k(in, s, s.s, s.e, true), v(in, s, s.s, s.ev, true);
    const Heads<T> dy(in, s, s.l, s.ev, true), y(in, s, s.l, s.ev, false);
    const Heads<T> dq(in, s, s.l, s.e, false), dk(in, s, s.s, s.e, false), dv(in, s, s.s, s.ev, false);
    const Array<T> lse(in, s.batch * s.heads * s.l);

    // No mask, a bool or a float of each pair, or of each key.
    const unsigned masked = in.byte() % 4;
    const bool per_key = in.flag();
    const i64 pairs = per_key ? s.s : s.batch * s.heads * s.l * s.s;
    const Array<bool> open(in, pairs);
    const auto added = moderate<T>(in, pairs);
    for (i64 i = 0; i < pairs; ++i) {
        open[i] = i * 7919 % 101 < 70;
        if (!open[i]) added[i] = -std::numeric_limits<T>::infinity();
    }
    AttentionMask<T> mask{};
    if (masked > 1 && !per_key) mask = {nullptr, nullptr, s.heads * s.l * s.s, s.l * s.s, s.s, 1};
    if (masked > 1 && per_key) mask = {nullptr, nullptr, 0, 0, 0, 1};
    if (masked == 2) mask.open = open;
    if (masked == 3) mask.added = added;

    const auto forward = [&](T* y_memory, T* lse) {
        scaled_dot_product_attention<T>({y_memory, y.batch, y.head, y.row}, lse, q.input(), k.input(), v.input(), mask,
                                        s);
    };
    same_on_two({&y.memory, &lse}, text("attention"), forward);
    const auto backward = [&](T* dq_memory, T* dk_memory, T* dv_memory) {
        scaled_dot_product_attention_backward<T>({dq_memory, dq.batch, dq.head, dq.row},
                                                 {dk_memory, dk.batch, dk.head, dk.row},
                                                 {dv_memory, dv.batch, dv.head, dv.row}, dy.input(), q.input(),
                                                 k.input(), v.input(), mask, y.input(), lse, s);
    };
    same_on_two({&dq.memory, &dk.memory, &dv.memory}, text("attention backward"), backward);

    // The longest path: a score (e terms), a sum over keys, dy . v (ev terms), a sum over queries or keys.
    const double roundings = static_cast<double>(s.e + 2 * s.ev + 2 * s.s + s.l + 40);
    for (i64 b = 0; b < s.batch; ++b)
        for (i64 h = 0; h < s.heads; ++h) {
            std::vector<Sized<T>> edk(s.s * s.e), edv(s.s * s.ev);
            for (i64 i = 0; i < s.l; ++i) {
                const auto here = [&](const char* what, i64 f) {
                    return [=] { return text(what)() + " at " + list({b, h, i, f}); };
                };
                std::vector<Sized<T>> score(s.s), p(s.s), dp(s.s);
                std::vector<char> meets(s.s);
                W most = -std::numeric_limits<W>::infinity();
                for (i64 j = 0; j < s.s; ++j) {
                    const i64 pair = per_key ? j : ((b * s.heads + h) * s.l + i) * s.s + j;
                    meets[j] = !(s.causal && j > i) && !(masked > 1 && !open[pair]);
                    for (i64 f = 0; f < s.e; ++f) score[j] = score[j] + q.at(b, h, i, f) * k.at(b, h, j, f);
                    score[j] = score[j] * Sized<T>(s.scale);
                    if (masked == 3 && meets[j]) score[j] = score[j] + Sized<T>(added[pair]);
                    if (meets[j]) most = std::max(most, score[j].value);
                }
                const i64 query = (b * s.heads + h) * s.l + i;
                Sized<T> total, d;
                for (i64 j = 0; j < s.s; ++j)
                    if (meets[j]) total = total + (p[j] = exp(score[j] - Sized<T>(most)));
                if (total.value == 0) {
                    if (!(std::isinf(lse[query]) && lse[query] < 0)) fail(here("lse", 0)() + ": not -inf");
                } else {
                    const W log_sum = std::log(total.value);
                    expect(lse[query],
                           Sized<T>(most + log_sum, std::abs(most) + std::abs(log_sum) + total.size / total.value),
                           roundings, here("lse", 0));
                }
                for (i64 f = 0; f < s.ev; ++f) {
                    Sized<T> sum;
                    for (i64 j = 0; j < s.s; ++j)
                        if (meets[j]) sum = sum + p[j] * v.at(b, h, j, f);
                    expect(y.memory[b * y.batch + h * y.head + i * y.row + f],
                           total.value == 0 ? Sized<T>() : sum / total, roundings, here("y", f));
                    d = d + y.at(b, h, i, f) * dy.at(b, h, i, f);
                }
                for (i64 j = 0; j < s.s; ++j) {
                    if (!meets[j]) continue;
                    p[j] = exp(score[j] - Sized<T>(lse[query]));
                    for (i64 f = 0; f < s.ev; ++f) {
                        dp[j] = dp[j] + dy.at(b, h, i, f) * v.at(b, h, j, f);
                        edv[j * s.ev + f] = edv[j * s.ev + f] + p[j] * dy.at(b, h, i, f);
                    }
                    dp[j] = p[j] * (dp[j] - d) * Sized<T>(s.scale);
                }
                for (i64 f = 0; f < s.e; ++f) {
                    Sized<T> sum;
                    for (i64 j = 0; j < s.s; ++j) {
                        if (!meets[j]) continue;
                        sum = sum + dp[j] * k.at(b, h, j, f);
                        edk[j * s.e + f] = edk[j * s.e + f] + dp[j] * q.at(b, h, i, f);
                    }
                    expect(dq.memory[b * dq.batch + h * dq.head + i * dq.row + f], sum, roundings, here("dq", f));
                }
            }
            for (i64 j = 0; j < s.s; ++j) {
                const auto here = [&](const char* what, i64 f) {
                    return [=] { return text(what)() + " at " + list({b, h, j, f}); };
                };
                for (i64 f = 0; f < s.e; ++f)
                    expect(dk.memory[b * dk.batch + h * dk.head + j * dk.row + f], edk[j * s.e + f], roundings,
                           here("dk", f));
                for (i64 f = 0; f < s.ev; ++f)
                    expect(dv.memory[b * dv.batch + h * dv.head + j * dv.row + f], edv[j * s.ev + f], roundings,
                           here("dv", f));
            }
        }
}

}  // namespace

void target(Input& in) { in.flag() ? heads<float>(in) : heads<double>(in); }
