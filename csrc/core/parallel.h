// parallel_for: split [0, n) into chunks and run them on the thread pool.
//
// Results are bit-identical for any number of threads because the chunks are fixed by n and grain alone; which thread
// runs a chunk is the only thing that varies. A reduction writes one partial per chunk and combines them in order.
#pragma once

#include <functional>
#include <type_traits>

#include "core/check.h"

namespace glassgrad {

/// Threads a large job uses, this one included. Default: CPUs of the affinity mask, at most the cgroup's quota.
int num_threads();
/// Error unless 1 <= n <= 1024. Takes effect at the next job.
void set_num_threads(int n);

/// Called by the thread that started a job, at most every 50 ms; true asks the job to stop. The bindings set it to
/// look for Ctrl-C; the default never stops.
using InterruptHook = bool (*)();
void set_interrupt_hook(InterruptHook hook);
/// For long serial loops: throws Interrupted when the hook asks for it. Costs one clock read.
void poll_interrupt();

namespace detail {
using ChunkFunction = void (*)(void* context, i64 begin, i64 end);
void run_chunks(i64 n, i64 chunk, ChunkFunction f, void* context);
}  // namespace detail

/// f(begin, end) for every chunk [begin, end) of [0, n); all chunks have `chunk` elements but the last. One chunk, or
/// a call from inside a chunk, runs on the calling thread. Throws Interrupted, or the first exception of f.
template <class F>
void parallel_for(i64 n, i64 chunk, F&& f) {
    if (n <= 0) return;
    if (chunk < 1) chunk = 1;
    if (n <= chunk) {
        f(i64{0}, n);
        return;
    }
    using Body = std::remove_reference_t<F>;
    detail::run_chunks(
        n, chunk, [](void* context, i64 begin, i64 end) { (*static_cast<Body*>(context))(begin, end); },
        const_cast<void*>(static_cast<const void*>(&f)));
}

}  // namespace glassgrad
