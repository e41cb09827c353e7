// Products of pixels with weights, computed in register tiles, and the layer norm before them.

#pragma once

#include <algorithm>

#include "vectors.h"

// A weight lies in panels of PANEL output channels (the last may be narrower): for each word
// summed over, the panel's vectors. Output channels come in groups, each padded to whole vectors.
struct WeightShape {
  int outputs, inputs, groups, taps;

  int per_group() const { return round_up(outputs / groups, LANES); }
  int padded_outputs() const { return groups * per_group(); }
  template <class F>
  int words() const {
    return (inputs + F::PER_WORD - 1) / F::PER_WORD;
  }
  template <class F>
  long vectors() const {
    return (long)padded_outputs() / LANES * taps * words<F>();
  }
};

// Distances of the numbers of a weight.
struct WeightStrides {
  long group, output, input, tap;
};

// Words of BLOCK inputs, or of the first `inputs` of them, for LANES outputs, or the first `count`.
template <class F>
INLINE void words_of_outputs(const float* weight, long next_output, long next_input, int count,
                             int inputs, vec (&words)[LANES]) {
  constexpr int BLOCK = LANES * F::PER_WORD;
  for (int n = 0; n < LANES; n++) {
    const float* row = weight + n * next_output;
    if (n >= count) {
      words[n] = vec{};
    } else if (next_input == 1 && inputs == BLOCK) {
      words[n] = F::words_of_row(row);
    } else {
      float some[BLOCK] = {};
      for (int i = 0; i < inputs; i++) some[i] = row[i * next_input];
      words[n] = F::words_of_row(some);
    }
  }
  transpose(words);
}

// Lay out vectors [from_vector, to_vector) of a weight's output channels.
template <class F>
void pack_vectors(const float* weight, WeightStrides strides, WeightShape shape, vec* to,
                  int from_vector, int to_vector) {
  constexpr int BLOCK = LANES * F::PER_WORD;  // inputs that are laid out together
  const int words = shape.words<F>(), per_group = shape.per_group();
  const int vectors = shape.padded_outputs() / LANES, own = shape.outputs / shape.groups;
  for (int v = from_vector; v < to_vector; v++) {
    const int panel = v / VECTORS * VECTORS, width = std::min(VECTORS, vectors - panel);
    const int group = v * LANES / per_group, channel = v * LANES % per_group;
    const int count = std::min(LANES, own - channel);
    const float* from = weight + group * strides.group + channel * strides.output;
    vec* next = to + (long)panel * shape.taps * words + v - panel;
    for (int tap = 0; tap < shape.taps; tap++, from += strides.tap)
      for (int first = 0; first < shape.inputs; first += BLOCK) {
        const int inputs = std::min(BLOCK, shape.inputs - first);
        vec block[LANES];
        words_of_outputs<F>(from + first * strides.input, strides.output, strides.input, count, inputs,
                            block);
        for (int i = 0; i * F::PER_WORD < inputs; i++, next += width) *next = block[i];
      }
  }
}

// The same for words [from_word, to_word) of all taps, tap by tap, where outputs follow each other in
// memory and are whole vectors, as the inputs are whole words: read in the order they lie in.
template <class F>
void pack_words(const float* weight, WeightStrides strides, WeightShape shape, vec* to, long from_word,
                long to_word) {
  const int words = shape.words<F>(), vectors = shape.outputs / LANES;
  const long next_word = F::PER_WORD * strides.input, last = next_word - strides.input;
  for (long i = from_word; i < to_word; i++) {
    const float* from = weight + i / words * strides.tap + i % words * next_word;
    for (int v = 0; v < vectors; v++, from += LANES) {
      const int panel = v / VECTORS * VECTORS, width = std::min(VECTORS, vectors - panel);
      to[(long)panel * shape.taps * words + i * width + v - panel] =
          F::words(load(from), load(from + last));
    }
  }
}

template <class F>
bool packs_words(WeightStrides strides, WeightShape shape) {
  return strides.output == 1 && shape.groups == 1 && shape.outputs % LANES == 0 &&
         shape.inputs % F::PER_WORD == 0;
}

// Lay out a weight, by all threads.
template <class F>
void pack(const float* weight, WeightStrides strides, WeightShape shape, vec* to) {
  if (packs_words<F>(strides, shape)) {
#pragma omp parallel for schedule(static)
    for (long word = 0; word < (long)shape.taps * shape.words<F>(); word++)
      pack_words<F>(weight, strides, shape, to, word, word + 1);
    return;
  }
#pragma omp parallel for schedule(static)
  for (int v = 0; v < shape.padded_outputs() / LANES; v++)
    pack_vectors<F>(weight, strides, shape, to, v, v + 1);
}

// Lay out a whole weight, by one thread.
template <class F>
void pack_alone(const float* weight, WeightStrides strides, WeightShape shape, vec* to) {
  if (packs_words<F>(strides, shape))
    return pack_words<F>(weight, strides, shape, to, 0, (long)shape.taps * shape.words<F>());
  pack_vectors<F>(weight, strides, shape, to, 0, shape.padded_outputs() / LANES);
}

// total[m][n] += the products of ROWS rows of words with N vectors of a weight. `next_row` and
// `next_word` are the distances of rows and words, `next_vectors` of the weight's vectors.
template <class F, int N>
INLINE void add_products(vec (&total)[ROWS][N], const typename F::word* rows, long next_row,
                         long next_word, const float* weight, long next_vectors, int words) {
  for (int i = 0; i < words; i++)
#pragma GCC unroll 2
    for (int pass = 0; pass < F::PASSES; pass++) {
      vec w[N];
#pragma GCC unroll 8
      for (int n = 0; n < N; n++)
        w[n] = in_register(F::operand(load(weight + i * next_vectors + n * LANES), pass));
#pragma GCC unroll 8
      for (int m = 0; m < ROWS; m++) {
        const vec row = F::spread(rows[m * next_row + i * next_word], pass);
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) total[m][n] = F::add_product(total[m][n], row, w[n]);
      }
      if (F::PASSES > 1) asm volatile("" ::: "memory");  // words are read again: no registers are left
    }
}

// Calls emit(row, output, vec, vec) for ROWS rows, STEP at a time, and N vectors of output channels,
// from 0: the vectors are of the first and the last of STEP rows.
template <class F, int N, int STEP, class Emit>
INLINE void tile(const typename F::word* pixels, long next_pixel, const long* taps, int tap_count,
                 const vec* weight, int words, Emit emit) {
  vec total[ROWS][N] = {};
  for (int tap = 0; tap < tap_count; tap++)
    add_products<F, N>(total, pixels + taps[tap], next_pixel, 1,
                       (const float*)(weight + (long)tap * words * N), N * LANES, words);
#pragma GCC unroll 8
  for (int m = 0; m < ROWS; m += STEP)
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) emit(m, n * LANES, total[m][n], total[m + STEP - 1][n]);
}

template <class F, int STEP = 1, class Emit>
INLINE void tile(const typename F::word* pixels, long next_pixel, const long* taps, int tap_count,
                 const vec* weight, int words, int vectors, Emit emit) {
  if (vectors == 3) return tile<F, 3, STEP>(pixels, next_pixel, taps, tap_count, weight, words, emit);
  if (vectors == 2) return tile<F, 2, STEP>(pixels, next_pixel, taps, tap_count, weight, words, emit);
  tile<F, 1, STEP>(pixels, next_pixel, taps, tap_count, weight, words, emit);
}

// Calls emit(row, output, vec, vec) for the product of rows of numbers, `next_row` apart, with a
// weight, STEP rows at a time. Rows past the last are read, up to a multiple of ROWS.
template <class F, int STEP = 1, class Emit>
INLINE void product(const typename F::number* pixels, long next_row, int rows, const vec* weight,
                    int inputs, int outputs, Emit emit) {
  const int words = (inputs + F::PER_WORD - 1) / F::PER_WORD;
  const long here = 0;
  for (int first = 0; first < outputs; first += PANEL) {
    const int vectors = std::min(VECTORS, (outputs - first) / LANES);
    for (int row = 0; row < rows; row += ROWS)
      tile<F, STEP>((const typename F::word*)(pixels + row * next_row), next_row / F::PER_WORD,
                    &here, 1, weight, words, vectors,
                    [&](int m, int n, vec v, vec last) INLINE_LAMBDA {
                      if (row + m < rows) emit(row + m, first + n, v, last);
                    });
    weight += (long)words * vectors;
  }
}

template <class F>
__attribute__((noinline)) void tile_to_buffer(const typename F::word* pixels, long next_pixel,
                                              const long* taps, int tap_count, const vec* weight,
                                              int words, int vectors, float* buffer) {
  tile<F>(pixels, next_pixel, taps, tap_count, weight, words, vectors,
          [=](int m, int n, vec v, vec) INLINE_LAMBDA { *(vec*)(buffer + m * PANEL + n) = v; });
}

// The same with taps: tap t of a pixel of a line is read at pixels + taps[line * tap_count + t], all
// of them in words. What is done with a tile may take more registers than the tile leaves: it is
// handed over in memory, to finish(tile, line, row, rows, output, vectors).
template <class F, class Finish>
INLINE void product_of_taps(const typename F::word* pixels, long next_pixel, const long* taps,
                            int tap_count, int lines, int rows, const vec* weight, int words,
                            int outputs, Finish finish) {
  alignas(64) float buffer[ROWS * PANEL];
  for (int first = 0; first < outputs; first += PANEL) {
    const int vectors = std::min(VECTORS, (outputs - first) / LANES);
    for (int line = 0; line < lines; line++)
      for (int row = 0; row < rows; row += ROWS) {
        tile_to_buffer<F>(pixels + row * next_pixel, next_pixel, taps + line * tap_count, tap_count,
                          weight, words, vectors, buffer);
        finish(buffer, line, row, std::min(ROWS, rows - row), first, vectors);
      }
    weight += (long)tap_count * words * vectors;
  }
}

constexpr int TILE_PIXELS = 64;  // that pass through a network together

// Where a panel that begins with channel n has a row, in panels of TILE_PIXELS rows.
template <class T>
INLINE T* in_panels(T* panels, int row, long n, int vectors) {
  return panels + n * TILE_PIXELS + row * vectors * LANES;
}

// The GELU of a tile plus bias; `before`, if not null, is for what it is the GELU of, row by row.
template <class F>
__attribute__((noinline)) void gelu_of_tile(const float* tile, int rows, int vectors,
                                            const float* bias, typename F::number* to,
                                            typename F::number* before, long next_row) {
  for (int m = 0; m < rows; m++)
    for (int n = 0; n < vectors * LANES; n += LANES) {
      const vec x = load(tile + m * PANEL + n) + load(bias + n);
      if (before) F::store(before + m * vectors * LANES + n, x);
      F::store(to + m * next_row + n, F::gelu(x));
    }
}

// to = the GELU of pixels times weight, plus bias. `before`, if not null, is for what it is the GELU
// of: panels of TILE_PIXELS rows.
template <class F>
void gelu_product(const typename F::number* pixels, long next_pixel, int rows, const vec* weight,
                  int inputs, int outputs, const float* bias, typename F::number* to, long next_row,
                  typename F::number* before = nullptr) {
  const long here = 0;
  product_of_taps<F>((const typename F::word*)pixels, next_pixel / F::PER_WORD, &here, 1, 1, rows,
                     weight, (inputs + F::PER_WORD - 1) / F::PER_WORD, outputs,
                     [=](const float* tile, int, int row, int count, int output, int vectors) {
                       gelu_of_tile<F>(tile, count, vectors, bias + output,
                                       to + row * next_row + output,
                                       before ? in_panels(before, row, output, vectors) : nullptr,
                                       next_row);
                     });
}

// to = from, which lies like it, plus pixels times weight, plus bias.
template <class F>
__attribute__((noinline)) void add_product(const typename F::number* pixels, long next_row, int rows,
                                           const vec* weight, int inputs, int outputs,
                                           const float* bias, const float* from, float* to,
                                           long next_pixel) {
  product<F>(pixels, next_row, rows, weight, inputs, round_up(outputs, LANES),
             [=](int p, int n, vec v, vec) INLINE_LAMBDA {
               const long at = p * next_pixel + n;
               v += load(bias + n);
               if (n + LANES <= outputs) return store(to + at, load(from + at) + v);
               for (int i = 0; n + i < outputs; i++) to[at + i] = from[at + i] + v[i];
             });
}

// Columns of neighbours that a 3x3 kernel needs on a side, made up to whole words of two pixels.
constexpr int NEIGHBOURS = 2;

// How many pieces of `columns` columns, and what is left, an image is cut into.
INLINE int pieces_across(int width, int columns) {
  return std::max(1, (width - 2 * NEIGHBOURS + columns - 1) / columns);
}

// The columns of piece i. The first and the last lack neighbours on one side, and are wider by as
// many: with their neighbours, all have the same width.
struct Columns {
  int left, right;

  Columns(int width, int columns, int i)
      : left(i ? NEIGHBOURS + i * columns : 0),
        right(i + 1 == pieces_across(width, columns) ? width : NEIGHBOURS + (i + 1) * columns) {}
};

struct Norm {
  const float *scale, *offset;  // padded to whole vectors with zeros
  bool centred;                 // whether the mean is subtracted
};

struct Moments {
  float mean, scale;  // 1 / deviation
};

// Of the channels of a pixel.
INLINE Moments moments(const float* pixel, int channels) {
  const int whole = channels / LANES * LANES;
  vec total = {};
  for (int i = 0; i < whole; i += LANES) total += load(pixel + i);
  float all_channels = sum(total);
  for (int i = whole; i < channels; i++) all_channels += pixel[i];
  const float mean = all_channels / channels;
  vec squares = {};
  for (int i = 0; i < whole; i += LANES) {
    const vec distance = load(pixel + i) - mean;
    squares += distance * distance;
  }
  float variance = sum(squares);
  for (int i = whole; i < channels; i++) variance += (pixel[i] - mean) * (pixel[i] - mean);
  return {mean, 1.0f / __builtin_sqrtf(variance / channels + 1e-5f)};
}

// to[p] = LN(pixels[p]) + T, the offset being the norm's shift plus T; padded channels are zero.
template <class F>
void normalize(const float* pixels, long next_pixel, int count, int channels, Norm norm,
               typename F::number* to, long next_row) {
  const int whole = channels / LANES * LANES;
  for (int p = 0; p < count; p++, pixels += next_pixel, to += next_row) {
    const Moments of_pixel = moments(pixels, channels);
    const float centre = norm.centred ? of_pixel.mean : 0.0f;
    const auto put = [&](int i, vec x) {
      F::store(to + i,
               (x - centre) * of_pixel.scale * load(norm.scale + i) + load(norm.offset + i));
    };
    for (int i = 0; i < whole; i += LANES) put(i, load(pixels + i));
    if (whole < channels) {
      float rest[LANES] = {};
      std::copy(pixels + whole, pixels + channels, rest);
      put(whole, load(rest));
    }
  }
}
