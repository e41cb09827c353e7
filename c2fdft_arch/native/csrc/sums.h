// Sums over pixels, of which the gradients of weights are made.
//
// Threads work in one of two ways. Where there are many pixels for the size of the matrices, each
// thread adds up the products of its own pixels ("per thread"), which stay in its own cache, and the
// threads' sums are added at the end. Otherwise all threads compute a block of pixels and then, each
// for a part of the matrix, the sums over the block: large matrices are written only once.

#pragma once

#include <omp.h>

#include "microkernel.h"

// One thread's part of a range, or all of it.
struct Share {
  int index = 0, of = 1;

  static Share of_thread() { return {omp_get_thread_num(), omp_get_num_threads()}; }
  long begin(long count) const { return count * index / of; }
  long end(long count) const { return count * (index + 1) / of; }
};

INLINE bool sums_per_thread(long pixels, int channels) {
  return pixels / omp_get_max_threads() >= 4L * channels;
}

// How many chunks of pixels make a block: what they leave stays in a core's cache, or the shared one.
template <class F>
INLINE int block_size(bool per_thread, int channels) {
  if (per_thread) return std::max(2, 200 * F::kDotWidth / channels);
  return std::max(16, 2 * omp_get_max_threads());
}

// The scalars of a block of pixels, as packed operands of pixels that follow each other: panels of
// kPanel channels (the last may be narrower), each with a row for every packed operand.
template <class F>
struct Panels {
  typename F::packed* data;
  int channels;
  long pairs;  // of the block

  int width(int channel) const { return std::min(kPanel, channels - channel / kPanel * kPanel); }

  typename F::packed* at(int channel, long pair) const {
    const int inside = channel % kPanel;
    return data + (channel - inside) * pairs + pair * width(channel) + inside;
  }

  // `count` rows of pixels become `pairs` packed operands, as if zeros followed them.
  template <class Scalar>
  void put_rows(const Scalar* rows, long next_row, int count, long first_pair, int pairs) const {
    constexpr int STEP = F::kDotWidth;
    for (int n = 0; n < channels; n += kLanes) {
      typename F::packed* to = at(n, first_pair);
      for (int pair = 0; pair < pairs; pair++) {
        const int row = pair * STEP, last = row + STEP - 1;
        const vec first = row < count ? F::load(rows + row * next_row + n) : vec{};
        const vec second = last < count ? F::load(rows + last * next_row + n) : vec{};
        store((float*)(to + (long)pair * width(n)), F::interleave(first, second));
      }
    }
  }

  void clear(long first, long end) const {
    for (int n = 0; n < channels; n += kPanel)
      std::memset((void*)at(n, first), 0, (end - first) * width(n) * sizeof(typename F::packed));
  }
};

// MR rows of sums: to[m][n] = the sum over `pairs` packed operands i of a[m * next_row + i * next_pair]
// times the vectors at b + i * next_vectors; or that is added to it. Operands may come in several
// segments, `next_a` and `next_b` apart.
template <class F>
INLINE void sum_rows_of_products(const typename F::packed* a, long next_row, long next_pair,
                                 const float* b, long next_vectors, int pairs, int vectors,
                                 bool add, float* to, long next_to, int segments = 1,
                                 long next_a = 0, long next_b = 0) {
  with_width(vectors, [&](auto width) INLINE_LAMBDA {
    constexpr int N = decltype(width)::value;
    vec total[MR][N] = {};
    if (add)
      for (int m = 0; m < MR; m++)
        for (int n = 0; n < N; n++) total[m][n] = load(to + m * next_to + n * kLanes);
    for (int i = 0; i < segments; i++)
      accumulate<F, N>(total, a + i * next_a, next_row, next_pair, b + i * next_b, next_vectors,
                       pairs);
    for (int m = 0; m < MR; m++)
      for (int n = 0; n < N; n++) store(to + m * next_to + n * kLanes, total[m][n]);
  });
}

// Channels and packed operands that are summed at a time: what is read of them stays in the L1 cache.
constexpr int kSumRows = 24, kSumPairs = 128;

// to[m][n] = the sum over `pairs` packed operands of a's channel m times b's channel n; or that is
// added to it. A thread computes its share.
template <class F>
void sum_products(const Panels<F>& a, const Panels<F>& b, int pairs, bool add, float* to,
                  long next_to, Share share) {
  const int groups = (a.channels + kSumRows - 1) / kSumRows;
  const int panels = (b.channels + kPanel - 1) / kPanel;
  for (int i = share.begin(groups * panels); i < share.end(groups * panels); i++) {
    const int from = i % groups * kSumRows, until = std::min(from + kSumRows, a.channels);
    const int n = i / groups * kPanel;
    for (int done = 0; done < pairs; done += kSumPairs)
      for (int m = from; m < until; m += MR)
        sum_rows_of_products<F>(a.at(m, done), 1, a.width(m), (const float*)b.at(n, done),
                                b.width(n), std::min(kSumPairs, pairs - done),
                                b.width(n) / kLanes, add || done > 0, to + m * next_to + n,
                                next_to);
  }
}

// The product of small matrices in float32: to (m, n) = a (m, k) times b (k, n); or that is added to
// it. `a` has a stride for either index, the others one for their rows. m is a multiple of MR (or
// there is room for it), n one of kLanes.
INLINE void small_gemm(const float* a, long next_m, long next_k, const float* b, long next_row,
                       int m, int n, int k, bool add, float* to, long next_to) {
  for (int column = 0; column < n; column += kPanel)
    for (int row = 0; row < m; row += MR)
      sum_rows_of_products<Float32>(a + row * next_m, next_m, next_k, b + column, next_row, k,
                                    std::min(kPanel, n - column) / kLanes, add,
                                    to + row * next_to + column, next_to);
}

// to[n] = the sum over packed operands of channel n; or that is added to it. A thread computes its
// share.
template <class F>
void sum_channels(const Panels<F>& panels, int pairs, bool add, float* to, Share share) {
  const vec ones = F::interleave(broadcast(1.0f), broadcast(1.0f));
  const int vectors = panels.channels / kLanes;
  for (int i = share.begin(vectors); i < share.end(vectors); i++) {
    const int n = i * kLanes;
    vec total = add ? load(to + n) : vec{};
    for (int pair = 0; pair < pairs; pair++)
      total = F::dot(total, load((const float*)panels.at(n, pair)), ones);
    store(to + n, total);
  }
}

// to (width) = the sum of rows, `next_row` apart. The width is whole vectors.
inline void sum_rows(const float* rows, long count, long next_row, long width, float* to) {
#pragma omp parallel for schedule(static)
  for (long n = 0; n < width; n += kLanes) {
    vec total = {};
    for (long i = 0; i < count; i++) total += load(rows + i * next_row + n);
    store(to + n, total);
  }
}

// A sum over pixels, made in place, or per thread and added up at the end. Nothing is done if there is
// no place for it.
class PixelSum {
 public:
  PixelSum(Scratch& scratch, bool per_thread, float* to, long size) : to(to), size(size) {
    if (per_thread && to) memory = scratch.zeroed<float>(omp_get_max_threads() * size);
  }

  // Where the calling thread makes it, or null.
  float* here() const { return memory ? memory + omp_get_thread_num() * size : to; }

  void finish() const {
    if (memory) sum_rows(memory, omp_get_max_threads(), size, size, to);
  }

 private:
  float* const to;
  const long size;
  float* memory = nullptr;
};

// Calls compute(unit, index) for units of pixels, `block` of them at a time, and after each block
// add(count, more, share) for the sums over it. Called by all threads of a team.
template <class Compute, class Add>
INLINE void sum_in_blocks(Team& team, bool per_thread, int units, int block, Compute compute,
                          Add add) {
  const Share thread = Share::of_thread(), share = per_thread ? Share() : thread;
  const int begin = per_thread ? thread.begin(units) : 0;
  const int end = per_thread ? thread.end(units) : units;
  for (int first = begin; first < end; first += block) {
    const int count = std::min(block, end - first);
    for (int i = share.index; i < count; i += share.of)
      team.run([&]() INLINE_LAMBDA { compute(first + i, i); });
    if (!per_thread) {
#pragma omp barrier
    }
    team.run([&]() INLINE_LAMBDA { add(count, first > begin, share); });
    if (!per_thread) {
#pragma omp barrier
    }
  }
}
