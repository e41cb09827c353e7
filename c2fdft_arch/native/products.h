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

// Lay out weight[output, input, tap], given with its strides.
template <class F>
void pack(const float* weight, const long* strides, WeightShape shape, vec* to) {
  const int words = shape.words<F>(), per_group = shape.per_group();
  const int outputs = shape.padded_outputs(), own = shape.outputs / shape.groups;
#pragma omp parallel for schedule(static)
  for (int first = 0; first < outputs; first += PANEL) {
    const int width = std::min(PANEL, outputs - first);
    auto* panel = (typename F::number*)(to + (long)first / LANES * shape.taps * words);
    for (int n = 0; n < width; n++) {
      const int group = (first + n) / per_group, channel = (first + n) % per_group;
      const float* from = weight + (group * own + channel) * strides[0];
      for (int tap = 0; tap < shape.taps; tap++)
        for (int i = 0; i < words * F::PER_WORD; i++) {
          const bool exists = channel < own && i < shape.inputs;
          const float value = exists ? from[i * strides[1] + tap * strides[2]] : 0.0f;
          const long word = (long)(tap * words + i / F::PER_WORD) * width + n;
          panel[word * F::PER_WORD + i % F::PER_WORD] = F::rounded(value);
        }
    }
  }
}

// total[m][n] += the products of ROWS rows of words with N vectors of a weight. `next_row` and
// `next_word` are the distances of rows and words, `next_vectors` of the weight's vectors.
template <class F, int N>
INLINE void add_products(vec (&total)[ROWS][N], const typename F::word* rows, long next_row,
                         long next_word, const float* weight, long next_vectors, int words) {
  for (int i = 0; i < words; i++) {
    vec w[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) w[n] = load(weight + i * next_vectors + n * LANES);
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; m++)
#pragma GCC unroll 8
      for (int n = 0; n < N; n++)
        total[m][n] = F::add_product(total[m][n], rows[m * next_row + i * next_word], w[n]);
  }
}

// Calls emit(row, output, vec) for ROWS rows and N vectors of output channels, from 0.
template <class F, int N, class Emit>
INLINE void tile(const typename F::word* pixels, long next_pixel, const long* taps, int tap_count,
                 const vec* weight, int words, Emit emit) {
  vec total[ROWS][N] = {};
  for (int tap = 0; tap < tap_count; tap++)
    add_products<F, N>(total, pixels + taps[tap], next_pixel, 1,
                       (const float*)(weight + (long)tap * words * N), N * LANES, words);
#pragma GCC unroll 8
  for (int m = 0; m < ROWS; m++)
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) emit(m, n * LANES, total[m][n]);
}

template <class F, class Emit>
INLINE void tile(const typename F::word* pixels, long next_pixel, const long* taps, int tap_count,
                 const vec* weight, int words, int vectors, Emit emit) {
  if (vectors == 3) return tile<F, 3>(pixels, next_pixel, taps, tap_count, weight, words, emit);
  if (vectors == 2) return tile<F, 2>(pixels, next_pixel, taps, tap_count, weight, words, emit);
  tile<F, 1>(pixels, next_pixel, taps, tap_count, weight, words, emit);
}

// Calls emit(row, output, vec) for the product of rows of numbers, `next_row` apart, with a weight.
// Rows past the last are read, up to a multiple of ROWS, but not emitted.
template <class F, class Emit>
INLINE void product(const typename F::number* pixels, long next_row, int rows, const vec* weight,
                    int inputs, int outputs, Emit emit) {
  const int words = (inputs + F::PER_WORD - 1) / F::PER_WORD;
  const long here = 0;
  for (int first = 0; first < outputs; first += PANEL) {
    const int vectors = std::min(VECTORS, (outputs - first) / LANES);
    for (int row = 0; row < rows; row += ROWS)
      tile<F>((const typename F::word*)(pixels + row * next_row), next_row / F::PER_WORD, &here, 1,
              weight, words, vectors, [&](int m, int n, vec v) INLINE_LAMBDA {
                if (row + m < rows) emit(row + m, first + n, v);
              });
    weight += (long)words * vectors;
  }
}

template <class F>
__attribute__((noinline)) void tile_to_buffer(const typename F::word* pixels, long next_pixel,
                                              const long* taps, int tap_count, const vec* weight,
                                              int words, int vectors, float* buffer) {
  tile<F>(pixels, next_pixel, taps, tap_count, weight, words, vectors,
          [=](int m, int n, vec v) INLINE_LAMBDA { *(vec*)(buffer + m * PANEL + n) = v; });
}

// The same with taps: tap t of a pixel is read at pixels + taps[t], all of them in words. What is
// done with a tile may take more registers than the tile leaves: it is handed over in memory, to
// finish(tile, row, rows, output, vectors).
template <class F, class Finish>
INLINE void product_of_taps(const typename F::word* pixels, long next_pixel, const long* taps,
                            int tap_count, int rows, const vec* weight, int words, int outputs,
                            Finish finish) {
  alignas(64) float buffer[ROWS * PANEL];
  for (int first = 0; first < outputs; first += PANEL) {
    const int vectors = std::min(VECTORS, (outputs - first) / LANES);
    for (int row = 0; row < rows; row += ROWS) {
      tile_to_buffer<F>(pixels + row * next_pixel, next_pixel, taps, tap_count, weight, words,
                        vectors, buffer);
      finish(buffer, row, std::min(ROWS, rows - row), first, vectors);
    }
    weight += (long)tap_count * words * vectors;
  }
}

template <class F>
__attribute__((noinline)) void gelu_of_tile(const float* tile, int rows, int vectors,
                                            const float* bias, typename F::number* to,
                                            long next_row) {
  for (int m = 0; m < rows; m++)
    for (int n = 0; n < vectors; n++) {
      const vec x = load(tile + m * PANEL + n * LANES) + load(bias + n * LANES);
      F::store(to + m * next_row + n * LANES, F::gelu(x));
    }
}

// to = the GELU of pixels times weight, plus bias.
template <class F>
void gelu_product(const typename F::number* pixels, long next_pixel, int rows, const vec* weight,
                  int inputs, int outputs, const float* bias, typename F::number* to, long next_row) {
  const long here = 0;
  product_of_taps<F>((const typename F::word*)pixels, next_pixel / F::PER_WORD, &here, 1, rows,
                     weight, (inputs + F::PER_WORD - 1) / F::PER_WORD, outputs,
                     [=](const float* tile, int row, int count, int output, int vectors) {
                       gelu_of_tile<F>(tile, count, vectors, bias + output,
                                       to + row * next_row + output, next_row);
                     });
}

// to += pixels times weight, plus bias.
template <class F>
__attribute__((noinline)) void add_product(const typename F::number* pixels, long next_row, int rows,
                                           const vec* weight, int inputs, int outputs,
                                           const float* bias, float* to, long next_pixel) {
  product<F>(pixels, next_row, rows, weight, inputs, round_up(outputs, LANES),
             [=](int p, int n, vec v) INLINE_LAMBDA {
               float* pixel = to + p * next_pixel + n;
               v += load(bias + n);
               if (n + LANES <= outputs) return store(pixel, load(pixel) + v);
               for (int i = 0; n + i < outputs; i++) pixel[i] += v[i];
             });
}

struct Norm {
  const float *scale, *offset;  // padded to whole vectors with zeros
  bool centred;                 // whether the mean is subtracted
};

// to[p] = LN(pixels[p]) + T, the offset being the norm's shift plus T; padded channels are zero.
template <class F>
void normalize(const float* pixels, long next_pixel, int count, int channels, Norm norm,
               typename F::number* to, long next_row) {
  const int whole = channels / LANES * LANES;
  for (int p = 0; p < count; p++, pixels += next_pixel, to += next_row) {
    float rest[LANES] = {};
    std::copy(pixels + whole, pixels + channels, rest);
    vec total = load(rest);
    for (int i = 0; i < whole; i += LANES) total += load(pixels + i);
    const float mean = sum(total) / channels;
    vec squares = {};
    for (int i = 0; i < whole; i += LANES) {
      const vec distance = load(pixels + i) - mean;
      squares += distance * distance;
    }
    float variance = sum(squares);
    for (int i = 0; i < channels - whole; i++) variance += (rest[i] - mean) * (rest[i] - mean);
    const float scale = 1.0f / __builtin_sqrtf(variance / channels + 1e-5f);
    const float centre = norm.centred ? mean : 0.0f;
    const auto put = [&](int i, vec x) {
      F::store(to + i, (x - centre) * scale * load(norm.scale + i) + load(norm.offset + i));
    };
    for (int i = 0; i < whole; i += LANES) put(i, load(pixels + i));
    if (whole < channels) put(whole, load(rest));
  }
}

// to[0 .. channels) from a vector of which only these exist.
template <class Number>
INLINE void copy_some(Number* to, const Number* from, int first, int channels) {
  std::copy(from, from + std::min(LANES, channels - first), to + first);
}
