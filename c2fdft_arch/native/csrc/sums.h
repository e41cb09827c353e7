// Sums over pixels, of which the gradients of weights are made, and the gradient of the layer norm.

#pragma once

#include <omp.h>

#include <type_traits>
#include <vector>

#include "products.h"

INLINE int tiles_of(long pixels) { return (pixels + TILE_PIXELS - 1) / TILE_PIXELS; }

// A thread's part of what a team does together, or all of it.
struct Share {
  int index = 0, of = 1;

  static Share of_thread() { return {omp_get_thread_num(), omp_get_num_threads()}; }
  long begin(long count) const { return count * index / of; }
  long end(long count) const { return count * (index + 1) / of; }
};

// Whether each thread adds up the products of its own pixels, which stay in its own cache, and the
// sums of all threads are added at the end. Otherwise all threads compute some pixels, then each a
// part of their sums: matrices that are large beside the pixels are written but once.
INLINE bool threads_work_alone(long pixels, int channels) {
  return pixels / omp_get_max_threads() >= 4L * channels;
}

// Tiles of pixels between two sums.
template <class F>
INLINE int tiles_together(bool alone, int channels) {
  if (alone) return std::max(2, 200 * F::PER_WORD / channels);  // stay in the cache of a core
  return std::max(16, 2 * omp_get_max_threads());               // stay in the shared cache
}

// Numbers of a chunk of pixels, as words of pixels that follow each other, in panels of channels.
template <class F>
struct Panels {
  typename F::word* data;
  int channels;
  long words;  // of the chunk

  int width(int channel) const { return std::min(PANEL, channels - channel / PANEL * PANEL); }

  typename F::word* at(int channel, long word) const {
    const int inside = channel % PANEL;
    return data + (channel - inside) * words + word * width(channel) + inside;
  }

  // `count` rows of pixels become `words` words, as if zeros followed them.
  template <class Number>
  void put_rows(const Number* rows, long next_row, int count, long first_word, int words) const {
    constexpr int STEP = F::PER_WORD;
    for (int n = 0; n < channels; n += LANES) {
      typename F::word* to = at(n, first_word);
      for (int word = 0; word < words; word++) {
        const int row = word * STEP, last = row + STEP - 1;
        const vec first = row < count ? F::load(rows + row * next_row + n) : vec{};
        const vec second = last < count ? F::load(rows + last * next_row + n) : vec{};
        store((float*)(to + (long)word * width(n)), F::words(first, second));
      }
    }
  }

  void clear(long first, long end) const {
    for (int n = 0; n < channels; n += PANEL)
      std::memset((void*)at(n, first), 0, (end - first) * width(n) * sizeof(typename F::word));
  }
};

// Several panels, in memory for the words of all of them.
template <class F>
class PanelMemory {
 public:
  PanelMemory(typename F::word* memory, long words) : words(words), next(memory) {}

  Panels<F> take(int channels) {
    const Panels<F> panels{next, channels, words};
    next += channels * words;
    return panels;
  }

 private:
  long words;
  typename F::word* next;
};

// to[m][n], rows `next_to` apart, or what is added to it, is the sum over words i of
// a[m * next_row + i * next_word] times the vectors at b + i * next_vectors: ROWS rows. The words may
// lie in several segments, `next_a` and `next_b` apart.
template <class F>
INLINE void sum_tile(const typename F::word* a, long next_row, long next_word, const float* b,
                     long next_vectors, int words, int vectors, bool add, float* to, long next_to,
                     int segments = 1, long next_a = 0, long next_b = 0) {
  const auto some = [&](auto count) INLINE_LAMBDA {
    constexpr int N = decltype(count)::value;
    vec total[ROWS][N] = {};
    if (add)
      for (int m = 0; m < ROWS; m++)
        for (int n = 0; n < N; n++) total[m][n] = load(to + m * next_to + n * LANES);
    for (int i = 0; i < segments; i++)
      add_products<F, N>(total, a + i * next_a, next_row, next_word, b + i * next_b, next_vectors, words);
    for (int m = 0; m < ROWS; m++)
      for (int n = 0; n < N; n++) store(to + m * next_to + n * LANES, total[m][n]);
  };
  if (vectors == 3) return some(std::integral_constant<int, 3>());
  if (vectors == 2) return some(std::integral_constant<int, 2>());
  some(std::integral_constant<int, 1>());
}

// Channels and words that are summed together: what is read of them stays in the L1 cache.
constexpr int SUM_ROWS = 24, SUM_WORDS = 128;

// to[m][n], or what is added to it, is the sum over `words` words from the first one of a's channel m
// times b's channel n. A thread computes its share.
template <class F>
void sum_products(const Panels<F>& a, const Panels<F>& b, long first, int words, bool add, float* to,
                  long next_to, Share share) {
  const int groups = (a.channels + SUM_ROWS - 1) / SUM_ROWS, panels = (b.channels + PANEL - 1) / PANEL;
  for (int i = share.begin(groups * panels); i < share.end(groups * panels); i++) {
    const int from = i % groups * SUM_ROWS, until = std::min(from + SUM_ROWS, a.channels);
    const int n = i / groups * PANEL;
    for (int done = 0; done < words; done += SUM_WORDS)
      for (int m = from; m < until; m += ROWS)
        sum_tile<F>(a.at(m, first + done), 1, a.width(m), (const float*)b.at(n, first + done), b.width(n),
                    std::min(SUM_WORDS, words - done), b.width(n) / LANES, add || done > 0,
                    to + m * next_to + n, next_to);
  }
}

// The product of small matrices: to (m, n), or what is added to it, is a (m, k) times b (k, n). Each
// begins at a pointer; a has a distance for either index, the others one for their rows.
INLINE void multiply(const float* a, long next_m, long next_k, const float* b, long next_row, int m,
                     int n, int k, bool add, float* to, long next_to) {
  for (int column = 0; column < n; column += PANEL)
    for (int row = 0; row < m; row += ROWS)
      sum_tile<Float32>(a + row * next_m, next_m, next_k, b + column, next_row, k,
                        std::min(PANEL, n - column) / LANES, add, to + row * next_to + column,
                        next_to);
}

// to[n], or what is added to it, is the sum over words of channel n. A thread computes its share.
template <class F>
void sum_channels(const Panels<F>& panels, int words, bool add, float* to, Share share) {
  const vec ones = F::words(all(1.0f), all(1.0f));
  const int vectors = panels.channels / LANES;
  for (int i = share.begin(vectors); i < share.end(vectors); i++) {
    const int n = i * LANES;
    vec total = add ? load(to + n) : vec{};
    for (int word = 0; word < words; word++)
      total = F::add_products(total, load((const float*)panels.at(n, word)), ones);
    store(to + n, total);
  }
}

// to (width) is the sum of rows, `next_row` apart. Whole vectors.
inline void sum_rows(const float* rows, long count, long next_row, long width, float* to) {
#pragma omp parallel for schedule(static)
  for (long n = 0; n < width; n += LANES) {
    vec total = {};
    for (long i = 0; i < count; i++) total += load(rows + i * next_row + n);
    store(to + n, total);
  }
}

// Sums over pixels: in place, where threads make them together, or of each thread.
class SumsOfThreads {
 public:
  struct Sum {
    float* to;  // null if it is not wanted
    long size;
  };

  SumsOfThreads(Scratch& scratch, bool alone, std::vector<Sum> all) : alone(alone), sums(all) {
    for (const Sum& sum : sums) next_thread += sum.to ? sum.size : 0;
    if (alone) memory = scratch.keep<float>(omp_get_max_threads() * next_thread);
  }

  // Where a thread makes one of them; null if it is not wanted.
  float* at(int number) const {
    return alone && sums[number].to ? memory + omp_get_thread_num() * next_thread + before(number)
                                    : sums[number].to;
  }

  // Of a thread that has nothing to add.
  void clear() const { std::fill_n(memory + omp_get_thread_num() * next_thread, next_thread, 0.0f); }

  // How many threads there are.
  void made_by(int team) { threads = team; }

  void finish() const {
    for (int i = 0; alone && i < (int)sums.size(); i++)
      if (sums[i].to) sum_rows(memory + before(i), threads, next_thread, sums[i].size, sums[i].to);
  }

 private:
  long before(int number) const {
    long size = 0;
    for (int i = 0; i < number; i++) size += sums[i].to ? sums[i].size : 0;
    return size;
  }

  const bool alone;
  const std::vector<Sum> sums;
  float* memory = nullptr;
  long next_thread = 0;
  int threads = 1;
};

// Calls compute(unit, index) for units of pixels, some of them together, and after each time
// add(count, more, share) for the sums over those. Called by all threads of a team.
template <class Compute, class Add>
INLINE void sum_units(bool alone, int units, int together, SumsOfThreads& sums, Compute compute,
                      Add add) {
  const Share thread = Share::of_thread(), share = alone ? Share() : thread;
  if (thread.index == 0) sums.made_by(thread.of);
  const int begin = alone ? thread.begin(units) : 0, end = alone ? thread.end(units) : units;
  if (alone && begin == end) return sums.clear();
  for (int first = begin; first < end; first += together) {
    const int count = std::min(together, end - first);
    for (int i = share.index; i < count; i += share.of) compute(first + i, i);
    if (!alone) {
#pragma omp barrier
    }
    add(count, first > begin, share);
    if (!alone) {
#pragma omp barrier
    }
  }
}

// d_x = d_out plus the gradient of LN(x), given that of the result, of `count` pixels; d_scale and
// d_offset, which are sums over pixels, are added to. Channels are whole vectors.
INLINE void norm_gradient(const float* d_y, const float* x, const float* d_out, int count, int channels,
                          Norm norm, float* d_x, float* d_scale, float* d_offset) {
  for (int p = 0; p < count; p++) {
    const auto [mean, scale] = moments(x, channels);
    const float centre = norm.centred ? mean : 0.0f;
    vec total = {}, along = {};
    for (int i = 0; i < channels; i += LANES) {
      const vec d = load(d_y + i), normalized = (load(x + i) - centre) * scale;
      const vec d_normalized = d * load(norm.scale + i);
      total += d_normalized;
      along += d_normalized * normalized;
      store(d_scale + i, load(d_scale + i) + d * normalized);
      store(d_offset + i, load(d_offset + i) + d);
    }
    const float of_mean = norm.centred ? sum(total) / channels : 0.0f;
    const float of_scale = sum(along) / channels * scale;
    for (int i = 0; i < channels; i += LANES) {
      const vec d_normalized = load(d_y + i) * load(norm.scale + i);
      const vec d = (d_normalized - of_mean - (load(x + i) - mean) * of_scale) * scale;
      store(d_x + i, load(d_out + i) + d);
    }
    d_y += channels, x += channels, d_out += channels, d_x += channels;
  }
}
