// The caching allocator: free lists by size class behind one mutex.
//
// A block is a 64-byte header (its class, and the next free block while it is cached) and the caller's bytes. Classes
// have four steps per doubling, so rounding up wastes at most a fifth. An uncontended lock costs 20 ns; what is
// saved is one page fault (0.25 us and more) per 4 KiB of a large array.
#include "core/allocator.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define GLASSGRAD_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GLASSGRAD_ASAN 1
#endif
#endif
#ifdef GLASSGRAD_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace glassgrad {

namespace {

constexpr std::size_t HUGE_PAGE = std::size_t{2} << 20;
constexpr std::size_t HUGE_FROM = std::size_t{4} << 20;  // below, half a huge page or more could be waste
constexpr int STEPS = 4;                                 // classes per doubling
constexpr int CLASSES = 58 * STEPS;

struct alignas(ALIGNMENT) Header {
    Header* next;
    std::size_t size;  // of the whole block
    int size_class;
};
static_assert(sizeof(Header) == ALIGNMENT);

struct SizeClass {
    int index;
    std::size_t bytes;  // of the whole block: a multiple of ALIGNMENT, of HUGE_PAGE from HUGE_FROM on
};

SizeClass size_class(std::size_t bytes) {
    const std::size_t total = bytes + sizeof(Header);
    if (total <= STEPS * ALIGNMENT) return {static_cast<int>((total - 1) / ALIGNMENT), (total + 63) / 64 * 64};
    // 2^log < total <= 2^(log + 1), in steps of a quarter of 2^log.
    const int log = std::bit_width(total - 1) - 1;
    const std::size_t step = (std::size_t{1} << log) / STEPS;
    const std::size_t steps = (total - (std::size_t{1} << log) + step - 1) / step;  // 1 ... STEPS
    std::size_t size = (std::size_t{1} << log) + steps * step;
    if (size >= HUGE_FROM) size = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    return {(log - 7) * STEPS + static_cast<int>(steps) - 1, size};
}

/// Memory that starts at a huge page, all of it marked for huge pages; nullptr when there is none.
void* map_huge(std::size_t bytes) {
    const std::size_t mapped = bytes + HUGE_PAGE;
    void* start = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return nullptr;
    const std::size_t before = (HUGE_PAGE - reinterpret_cast<std::uintptr_t>(start) % HUGE_PAGE) % HUGE_PAGE;
    char* block = static_cast<char*>(start) + before;
    if (before) munmap(start, before);
    if (before < HUGE_PAGE) munmap(block + bytes, HUGE_PAGE - before);
#ifdef MADV_HUGEPAGE
    madvise(block, bytes, MADV_HUGEPAGE);  // a wish: where it is refused, 4 KiB pages do
#endif
    return block;
}

Header* from_system(const SizeClass& c) {
    void* p = c.bytes >= HUGE_FROM ? map_huge(c.bytes) : std::aligned_alloc(ALIGNMENT, c.bytes);
    return p ? new (p) Header{nullptr, c.bytes, c.index} : nullptr;
}

void* user_memory(Header* h) { return h + 1; }

/// A cached block is nobody's: under AddressSanitizer a touch of it is reported.
void poison([[maybe_unused]] Header* h) {
#ifdef GLASSGRAD_ASAN
    ASAN_POISON_MEMORY_REGION(user_memory(h), h->size - sizeof(Header));
#endif
}
/// Under AddressSanitizer a block handed out ends where the request did, and holds NaN: a kernel that reads what it has
/// not written shows.
void* hand_out(Header* h, [[maybe_unused]] std::size_t bytes) {
#ifdef GLASSGRAD_ASAN
    poison(h);
    ASAN_UNPOISON_MEMORY_REGION(user_memory(h), bytes);
    std::memset(user_memory(h), 0xff, bytes);
#endif
    return user_memory(h);
}
void unpoison([[maybe_unused]] Header* h) {
#ifdef GLASSGRAD_ASAN
    ASAN_UNPOISON_MEMORY_REGION(user_memory(h), h->size - sizeof(Header));
#endif
}

void to_system(Header* list) noexcept {
    while (list) {
        Header* next = list->next;
        unpoison(list);
        if (list->size >= HUGE_FROM)
            munmap(static_cast<void*>(list), list->size);
        else
            std::free(list);
        list = next;
    }
}

std::size_t default_cache_limit() {
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGE_SIZE);
    constexpr std::size_t least = std::size_t{64} << 20;
    if (pages <= 0 || page <= 0) return least;
    // A quarter of the machine: more would have to be explained to the other programs on it.
    return std::max(least, static_cast<std::size_t>(pages) / 4 * static_cast<std::size_t>(page));
}

struct Cache {
    std::mutex mutex;
    Header* free[CLASSES] = {};
    AllocatorStats stats{};
    const std::size_t limit = default_cache_limit();

    /// Unlinks every cached block; the caller returns them after letting the mutex go: munmap of a large one takes 1
    /// ms.
    Header* take_all() noexcept {
        Header* all = nullptr;
        for (Header*& list : free)
            while (list) {
                Header* h = list;
                list = h->next;
                h->next = all;
                all = h;
            }
        stats.cached = 0;
        return all;
    }
};

// Never destroyed: arrays are freed by the interpreter after the static destructors have run.
Cache& cache() {
    static Cache* const the_cache = [] {
        Cache* c = new Cache;
        // A child that forks while another thread holds the mutex would never see it unlocked.
        pthread_atfork([] { cache().mutex.lock(); }, [] { cache().mutex.unlock(); }, [] { cache().mutex.unlock(); });
        return c;
    }();
    return *the_cache;
}

}  // namespace

void* allocate(std::size_t bytes) {
    if (bytes > (std::size_t{1} << 47)) throw Error("out of memory: got a request beyond 2^47 bytes");
    const SizeClass c = size_class(bytes);
    Cache& k = cache();
    {
        std::lock_guard lock(k.mutex);
        if (Header* h = k.free[c.index]) {
            k.free[c.index] = h->next;
            k.stats.cached -= c.bytes;
            k.stats.in_use += c.bytes;
            ++k.stats.hits;
            return hand_out(h, bytes);
        }
    }
    Header* h = from_system(c);
    if (!h) {
        empty_cache();
        h = from_system(c);
    }
    if (!h) throw Error("out of memory: got a request for " + std::to_string(bytes) + " bytes; the system has no more");
    std::lock_guard lock(k.mutex);
    k.stats.in_use += c.bytes;
    ++k.stats.misses;
    return hand_out(h, bytes);
}

void deallocate(void* block) noexcept {
    if (!block) return;
    Header* h = static_cast<Header*>(block) - 1;
    Header* surplus = nullptr;
    {
        Cache& k = cache();
        std::lock_guard lock(k.mutex);
        k.stats.in_use -= h->size;
        // A full cache is emptied rather than closed: sizes of the past would otherwise keep out those of the present.
        if (k.stats.cached + h->size > k.limit) surplus = k.take_all();
        if (h->size > k.limit) {
            h->next = surplus;
            surplus = h;
        } else {
            poison(h);
            h->next = k.free[h->size_class];
            k.free[h->size_class] = h;
            k.stats.cached += h->size;
        }
    }
    to_system(surplus);
}

void empty_cache() noexcept {
    Header* all;
    {
        Cache& k = cache();
        std::lock_guard lock(k.mutex);
        all = k.take_all();
    }
    to_system(all);
}

AllocatorStats allocator_stats() noexcept {
    Cache& k = cache();
    std::lock_guard lock(k.mutex);
    return k.stats;
}

}  // namespace glassgrad
