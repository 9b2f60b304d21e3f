// A caching allocator for array memory: a fresh large array costs one page fault per 4 KiB, which on the machines
// measured is 3 to 4 times the cost of writing the array; a block handed back is kept and handed out again.
#pragma once

#include <cstddef>

#include "core/check.h"

namespace glassgrad {

/// Every block starts at a multiple of this: one AVX-512 register, one cache line.
inline constexpr std::size_t ALIGNMENT = 64;

/// At least `bytes` bytes, not initialised; Error when there is no memory. Thread-safe.
void* allocate(std::size_t bytes);
/// Gives back what allocate returned; nullptr is allowed. Thread-safe.
void deallocate(void* block) noexcept;
/// Returns cached blocks to the system.
void empty_cache() noexcept;

struct AllocatorStats {
    std::size_t in_use, cached, hits, misses;  // bytes, bytes, calls, calls
};
AllocatorStats allocator_stats() noexcept;

/// Scratch memory of a kernel, n elements: freed at the end of the scope. Error when their bytes overflow.
template <class T>
class Scratch {
  public:
    explicit Scratch(i64 n)
        : data_(static_cast<T*>(allocate(static_cast<std::size_t>(checked_product(n, sizeof(T)))))) {}
    ~Scratch() { deallocate(data_); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    T* get() const { return data_; }
    operator T*() const { return data_; }

  private:
    T* data_;
};

}  // namespace glassgrad
