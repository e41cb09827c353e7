// Memory for intermediate results.

#pragma once

#include <cstdlib>
#include <cstring>

// One thread's buffer, kept from call to call: the operating system provides fresh memory page by
// page, which takes longer than most of what is computed in it. Asking again invalidates what was
// returned before.
class Scratch {
 public:
  ~Scratch() { std::free(memory); }

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
  void* memory = nullptr;
  long size = 0;
};
