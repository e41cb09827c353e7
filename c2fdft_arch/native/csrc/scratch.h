// Memory for intermediate results.

#pragma once

#include <cstdlib>
#include <cstring>
#include <vector>

// One thread's buffer, kept from call to call: the operating system provides fresh memory page by
// page, which takes longer than most of what is computed in it. Asking again invalidates what was
// returned before.
class Scratch {
 public:
  Scratch() { of_thread().push_back(this); }
  ~Scratch() { std::free(memory); }

  // Frees what the calling thread keeps.
  static void release() {
    for (Scratch* scratch : of_thread()) {
      std::free(scratch->memory);
      scratch->memory = nullptr;
      scratch->size = 0;
    }
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
      std::free(memory);
      memory = std::aligned_alloc(64, bytes);
      if (!memory) std::abort();
      size = bytes;
    }
    return (T*)memory;
  }

 private:
  static std::vector<Scratch*>& of_thread() {
    static thread_local std::vector<Scratch*> all;
    return all;
  }

  void* memory = nullptr;
  long size = 0;
};
