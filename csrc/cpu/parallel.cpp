// The thread pool. No OpenMP: a forked child hangs with GNU's, and two OpenMP runtimes in one process clash.
//
// One job at a time. Its chunks are handed out by a counter, so a slow core takes fewer; what a chunk computes does not
// depend on who runs it. A second caller who finds the pool busy runs its own job alone: all cores work already.
#include "core/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

namespace glassgrad {

namespace {

constexpr int MAX_THREADS = 1024;

// ---- how many threads -----------------------------------------------------------------------------------------------

int affinity_cpus() {
#ifdef __linux__
    for (int cpus = 1024; cpus <= (1 << 20);
         cpus *= 2) {  // the mask must be as large as the kernel's, which is unknown
        cpu_set_t* set = CPU_ALLOC(cpus);
        const std::size_t size = CPU_ALLOC_SIZE(cpus);
        const bool known = set && sched_getaffinity(0, size, set) == 0;
        const bool too_small = set && !known && errno == EINVAL;
        const int count = known ? CPU_COUNT_S(size, set) : 0;
        if (set) CPU_FREE(set);
        if (known && count > 0) return count;
        if (!too_small) break;
    }
#endif
    return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

int cpus_of(double quota, double period) {
    if (!(quota > 0) || !(period > 0)) return MAX_THREADS;
    return static_cast<int>(std::clamp(quota / period + 0.999, 1.0, double{MAX_THREADS}));  // rounded up
}

/// CPUs the cgroup lets us use, the tightest of ours and those above; MAX_THREADS where nothing is limited.
int cgroup_cpus() {
    int least = MAX_THREADS;
    std::ifstream groups("/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
        const auto first = line.find(':'), second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        const bool v2 = controllers.empty();
        if (!v2 && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
        const std::string root = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/" + controllers;
        for (std::string path = line.substr(second + 1);; path.resize(path.rfind('/'))) {
            if (path == "/") path.clear();
            double quota = 0, period = 0;
            if (v2) {
                std::ifstream(root + path + "/cpu.max") >> quota >> period;  // "max 100000" leaves quota 0
            } else {
                std::ifstream(root + path + "/cpu.cfs_quota_us") >> quota;
                std::ifstream(root + path + "/cpu.cfs_period_us") >> period;
            }
            least = std::min(least, cpus_of(quota, period));
            if (path.empty() || path.rfind('/') == std::string::npos) break;
        }
    }
    return least;
}

int default_threads() {
    if (const char* asked = std::getenv("GLASSGRAD_NUM_THREADS"); asked && *asked) {
        char* end;
        const long n = std::strtol(asked, &end, 10);
        if (*end || n < 1 || n > MAX_THREADS)
            throw Error(std::string("GLASSGRAD_NUM_THREADS: got '") + asked + "'; expected an integer from 1 to 1024.");
        return static_cast<int>(n);
    }
    return std::min({affinity_cpus(), cgroup_cpus(), MAX_THREADS});
}

std::atomic<int> threads_wanted{0};  // 0: not asked for yet

// ---- interrupts -----------------------------------------------------------------------------------------------------

using Clock = std::chrono::steady_clock;
constexpr auto POLL_EVERY = std::chrono::milliseconds(50);

std::atomic<InterruptHook> interrupt_hook{nullptr};
thread_local Clock::time_point last_poll{};
thread_local bool is_worker = false;  // of the pool: never asks the hook, which may need what the caller holds
thread_local bool in_job = false;     // inside a chunk: a parallel_for here is serial

bool wants_to_stop() {
    const InterruptHook hook = interrupt_hook.load(std::memory_order_acquire);
    if (!hook || is_worker) return false;
    const auto now = Clock::now();
    if (now - last_poll < POLL_EVERY) return false;
    last_poll = now;
    return hook();
}

// ---- the pool -------------------------------------------------------------------------------------------------------

struct Job {
    const i64 n, chunk;
    const detail::ChunkFunction f;
    void* const context;
    const int caller_cpu;
    int helpers_wanted;                  // guarded by Pool::mutex
    std::atomic<int> helpers_active{0};  // changed under Pool::mutex; read without it by a caller that spins
    std::exception_ptr error = {};       // guarded by Pool::mutex: the first
    std::atomic<i64> next{0};            // chunk to hand out
    std::atomic<bool> stop{false};
};

struct Pool {
    std::mutex caller;  // held by the one whose job it is
    std::mutex mutex;
    std::condition_variable work, done;
    Job* job = nullptr;
    std::atomic<unsigned> generation{0};  // counts jobs; read without the mutex by a worker that spins
    int workers = 0;
    Pool* before_fork =
        nullptr;  // keeps the parent's pool reachable: its memory is left alone, its threads do not exist
};

std::atomic<Pool*> current_pool{nullptr};

void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}
// 10 to 100 us, at 20 to 140 cycles a pause. Waking a sleeping thread costs 5 to 15 us of the waker's time, and up to
// 60 pass before it runs: kernels that follow each other find the workers awake, and a caller waits awake for the last
// chunk.
constexpr int SPINS = 2500;

void fail(Pool& pool, Job& job, std::exception_ptr error) {
    job.stop.store(true, std::memory_order_relaxed);
    std::lock_guard lock(pool.mutex);
    if (!job.error) job.error = error;
}

void run_some(Pool& pool, Job& job) {
    const i64 chunks = (job.n - 1) / job.chunk + 1;
    in_job = true;
    try {
        while (!job.stop.load(std::memory_order_relaxed)) {
            const i64 i = job.next.fetch_add(1, std::memory_order_relaxed);
            if (i >= chunks) break;
            job.f(job.context, i * job.chunk, std::min(job.n - i * job.chunk, job.chunk) + i * job.chunk);
            if (wants_to_stop()) throw Interrupted();
        }
    } catch (...) {
        fail(pool, job, std::current_exception());
    }
    in_job = false;
}

int current_cpu() {
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

/// Moves the calling thread off `cpu`, where the system likes to put whom a thread there wakes; after that every core is
/// allowed again. Two threads on one core stay there until the load is balanced: in the first 1.5 ms after a rest, products
/// of 128 to 512 now run 1.1 to 1.5 times as fast on two threads.
void leave([[maybe_unused]] int cpu) {
#ifdef __linux__
    if (cpu < 0 || cpu >= CPU_SETSIZE || current_cpu() != cpu) return;
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2) return;
    cpu_set_t others = allowed;
    CPU_CLR(static_cast<std::size_t>(cpu), &others);
    if (sched_setaffinity(0, sizeof others, &others) == 0) sched_setaffinity(0, sizeof allowed, &allowed);
#endif
}

void worker(Pool* pool) {
    is_worker = true;
    unsigned seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && pool->generation.load(std::memory_order_relaxed) == seen; ++i) relax();
        std::unique_lock lock(pool->mutex);
        pool->work.wait(lock, [&] { return pool->generation.load(std::memory_order_relaxed) != seen; });
        seen = pool->generation.load(std::memory_order_relaxed);
        Job* job = pool->job;
        if (!job || job->helpers_wanted == 0) continue;  // woken too late, or one too many
        --job->helpers_wanted;
        ++job->helpers_active;
        const int caller_cpu = job->caller_cpu;
        lock.unlock();
        leave(caller_cpu);
        run_some(*pool, *job);
        lock.lock();
        if (--job->helpers_active == 0) pool->done.notify_one();
    }
}

/// Starts workers until there are `count`, or as many as the system allows. The caller holds pool.caller.
void grow(Pool& pool, int count) {
    if (pool.workers >= count) return;
    sigset_t all, before;  // signals are for the interpreter's threads
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        for (; pool.workers < count; ++pool.workers) std::thread(worker, &pool).detach();
    } catch (const std::system_error&) {  // no more threads: fewer do the same work
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Pool& the_pool() {
    // A forked child has one thread: the pool it inherited is a picture of one.
    static const int registered = pthread_atfork(nullptr, nullptr, [] {
        Pool* fresh = new Pool;
        fresh->before_fork = current_pool.load();
        current_pool.store(fresh);
        is_worker = false;
    });
    (void)registered;
    Pool* pool = current_pool.load(std::memory_order_acquire);
    if (pool) return *pool;
    Pool* fresh = new Pool;
    if (current_pool.compare_exchange_strong(pool, fresh)) return *fresh;
    delete fresh;
    return *pool;
}

/// The same chunks, one after the other.
void run_serially(i64 n, i64 chunk, detail::ChunkFunction f, void* context) {
    const bool outermost = !in_job;
    struct Restore {
        bool value;
        ~Restore() { in_job = value; }
    } restore{in_job};
    in_job = true;
    for (i64 begin = 0; begin < n;) {
        const i64 end = begin + std::min(chunk, n - begin);
        f(context, begin, end);
        begin = end;
        if (outermost && wants_to_stop()) throw Interrupted();
    }
}

}  // namespace

int num_threads() {
    int n = threads_wanted.load(std::memory_order_relaxed);
    if (n == 0) {
        const int found = default_threads();
        n = threads_wanted.compare_exchange_strong(n, found) ? found : n;
    }
    return n;
}

void set_num_threads(int n) {
    if (n < 1 || n > MAX_THREADS)
        throw Error("set_num_threads: got " + std::to_string(n) + "; expected an integer from 1 to 1024.");
    threads_wanted.store(n);
}

void set_interrupt_hook(InterruptHook hook) { interrupt_hook.store(hook, std::memory_order_release); }

void poll_interrupt() {
    if (wants_to_stop()) throw Interrupted();
}

void detail::run_chunks(i64 n, i64 chunk, ChunkFunction f, void* context) {
    const int threads = in_job ? 1 : num_threads();
    if (threads == 1) return run_serially(n, chunk, f, context);
    Pool& pool = the_pool();
    std::unique_lock mine(pool.caller, std::try_to_lock);
    if (!mine) return run_serially(n, chunk, f, context);

    const int helpers = static_cast<int>(std::min<i64>(threads - 1, (n - 1) / chunk));
    grow(pool, helpers);
    Job job{.n = n, .chunk = chunk, .f = f, .context = context, .caller_cpu = current_cpu(), .helpers_wanted = helpers};
    {
        std::lock_guard lock(pool.mutex);
        pool.job = &job;
        pool.generation.fetch_add(1, std::memory_order_relaxed);
    }
    if (helpers == 1)
        pool.work.notify_one();
    else
        pool.work.notify_all();
    run_some(pool, job);

    for (int i = 0; i < SPINS && job.helpers_active.load(std::memory_order_relaxed) > 0; ++i) relax();
    std::unique_lock lock(pool.mutex);
    pool.job = nullptr;  // who comes now is too late
    while (job.helpers_active > 0) {
        if (pool.done.wait_for(lock, POLL_EVERY, [&] { return job.helpers_active == 0; })) break;
        lock.unlock();
        if (wants_to_stop()) fail(pool, job, std::make_exception_ptr(Interrupted()));
        lock.lock();
    }
    const std::exception_ptr error = job.error;
    lock.unlock();
    if (error) std::rethrow_exception(error);
}

}  // namespace glassgrad
