// Memory for intermediate results, and what becomes of a parallel region for which there is none.

#pragma once

#include <omp.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "vectors.h"

// One thread's buffer, kept from call to call: the operating system provides fresh memory page by
// page, which takes longer than most of what is computed in it. Asking again invalidates what was
// returned before. Throws std::bad_alloc.
class Scratch {
 public:
  // Bytes of all threads; more than `limit` cannot be had.
  static inline std::atomic<long> held{0}, limit{std::numeric_limits<long>::max()};

  Scratch() { of_thread().push_back(this); }
  ~Scratch() { free(); }

  // Frees what the threads of a team keep.
  static void release() {
#pragma omp parallel
    for (Scratch* scratch : of_thread()) scratch->free();
  }

  template <class T>
  T* zeroed(long count) {
    T* items = uninitialised<T>(count);
    std::memset((void*)items, 0, count * sizeof(T));
    return items;
  }

  template <class T>
  T* uninitialised(long count) {
    const long bytes = (count * (long)sizeof(T) + 63) / 64 * 64;
    if (bytes > size) {
      free();
      if (held + bytes > limit) throw std::bad_alloc();
      memory = std::aligned_alloc(64, bytes);
      if (!memory) throw std::bad_alloc();
      size = bytes;
      held += size;
    }
    return (T*)memory;
  }

 private:
  static std::vector<Scratch*>& of_thread() {
    static thread_local std::vector<Scratch*> all;
    return all;
  }

  void free() {
    std::free(memory);
    memory = nullptr;
    held -= size;
    size = 0;
  }

  void* memory = nullptr;
  long size = 0;
};

// The threads of a parallel region. Nothing may be thrown out of a region, and all threads must reach
// its barriers: once one of them has no memory, they leave out the rest of the work.
class Team {
 public:
  template <class Work>
  INLINE void run(Work work) {
    if (failed.load(std::memory_order_relaxed)) return;
    try {
      work();
    } catch (const std::bad_alloc&) {
      failed = true;
    }
  }

  // After the region. Throws std::bad_alloc if one of them failed.
  void check() const {
    if (failed) throw std::bad_alloc();
  }

 private:
  std::atomic<bool> failed{false};
};
