// The feed-forward half of a block in training, x + FFN(LN(x) + T), and its gradients.
//
// Of the forward pass x and what comes before the GELU are kept. Channels and hidden channels are
// whole vectors.

#pragma once

#include "sums.h"
#include "weights.h"

// Of all pixels of (B, H, W, C), row by row; `per_image` are those of an image.
struct Pixels {
  long count, per_image;
  int channels;
};

struct FeedForward {
  int hidden;
  ShiftedNorm norm;
  const float *expand, *expand_bias;      // (hidden, C); biases may be null
  const float *contract, *contract_bias;  // (C, hidden)
};

// Gradients, each in the shape of what it is of; d_expand_bias may be null.
struct FeedForwardGradient {
  float *d_x, *d_scale, *d_offset, *d_expand, *d_expand_bias, *d_contract;
};

// LN(x) + T of pixels [first, first + count), which may be of several images.
template <class F>
void normalize_images(const float* x, long first, int count, const Pixels& pixels, Norm norm,
                      typename F::number* to) {
  const int c = pixels.channels;
  for (int done = 0; done < count;) {
    const long pixel = first + done, image = pixel / pixels.per_image;
    const int some = std::min<long>(count - done, (image + 1) * pixels.per_image - pixel);
    Norm of_image = norm;
    of_image.offset += image * c;
    normalize<F>(x + pixel * c, c, some, c, of_image, to + (long)done * c, c);
    done += some;
  }
}

inline int images_of(const Pixels& pixels) { return pixels.count / pixels.per_image; }

// `before_gelu`, for what the gradient needs, has room for whole tiles of pixels.
template <class F>
void feed_forward(const Pixels& pixels, const FeedForward& pass, const float* x,
                  typename F::number* before_gelu, float* out) {
  typedef typename F::number number;
  static thread_local Scratch memory[5];
  const int c = pixels.channels, hidden_channels = pass.hidden;
  const Norm norm = with_offsets(memory[0], pass.norm, images_of(pixels), c);
  const vec* expand = laid_out<F>(memory[1], pass.expand, hidden_channels, c);
  const vec* contract = laid_out<F>(memory[2], pass.contract, c, hidden_channels);
  const float* expand_bias = or_zeros(memory[3], pass.expand_bias, hidden_channels);
  const float* contract_bias = or_zeros(memory[4], pass.contract_bias, c);
#pragma omp parallel
  {
    static thread_local Scratch normalized_memory, hidden_memory;
    // Rows past the last pixel's are read, up to a whole register tile: they hold numbers.
    number* normalized = normalized_memory.take<number>((long)TILE_PIXELS * c);
    number* hidden = hidden_memory.take<number>((long)TILE_PIXELS * hidden_channels);
#pragma omp for schedule(dynamic)
    for (int i = 0; i < tiles_of(pixels.count); i++) {
      const long first = (long)i * TILE_PIXELS;
      const int count = std::min<long>(TILE_PIXELS, pixels.count - first);
      normalize_images<F>(x, first, count, pixels, norm, normalized);
      gelu_product<F>(normalized, c, count, expand, c, hidden_channels, expand_bias, hidden,
                      hidden_channels, before_gelu + first * hidden_channels);
      add_product<F>(hidden, hidden_channels, count, contract, hidden_channels, c, contract_bias,
                     x + first * c, out + first * c, c);
    }
  }
}

// Of pixels and a panel of hidden channels: from what comes before the GELU and the gradient behind
// it, the GELU (as words of pixels) and the gradient before it (also as rows). Words of pixels past
// the last are zero.
template <class F>
__attribute__((noinline)) void gelu_gradient(const typename F::number* before, const float* d_behind,
                                             int count, int vectors, typename F::word* behind,
                                             typename F::word* d_before, long next_word,
                                             typename F::number* rows, long next_row) {
  constexpr int STEP = F::PER_WORD;
  for (int m = 0; m < ROWS; m += STEP)
    for (int n = 0; n < vectors * LANES; n += LANES) {
      vec y[STEP] = {}, d[STEP] = {};
#pragma GCC unroll 2
      for (int i = 0; i < STEP; i++) {
        if (m + i < count) {
          vec slope;
          F::gelu_and_slope(F::load(before + (m + i) * vectors * LANES + n), y[i], slope);
          d[i] = load(d_behind + (m + i) * PANEL + n) * slope;
        }
      }
      F::store_rows(rows + m * next_row + n, next_row, d[0], d[STEP - 1]);
      store((float*)(behind + m / STEP * next_word + n), F::words(y[0], y[STEP - 1]));
      store((float*)(d_before + m / STEP * next_word + n), F::words(d[0], d[STEP - 1]));
    }
}

// The gradients of pixels, a tile at a time, and what the gradients of the weights are sums of.
template <class F>
class FeedForwardTiles {
  typedef typename F::number number;
  typedef typename F::word word;

 public:
  // The weights are the transposed ones; d_scale and d_offset have a row for each tile.
  struct Pass {
    int hidden;
    Norm norm;
    const vec *contract_back, *expand_back;
    float *d_x, *d_scale, *d_offset;
  };

  FeedForwardTiles(const Pixels& pixels, const Pass& pass, const float* x, const number* before_gelu,
                   const float* d_out)
      : pixels(pixels), pass(pass), x(x), before_gelu(before_gelu), d_out(d_out) {}

  // Panels of a chunk of pixels: of LN(x) + T, of the GELU, and of gradients.
  struct Chunk {
    Panels<F> normalized, d_out, active, d_hidden;
  };

  void operator()(int tile, const Chunk& chunk, int first_word) const {
    static thread_local Scratch normalized_memory, d_out_memory, d_hidden_memory, d_normalized_memory;
    const int c = pixels.channels;
    const long first = (long)tile * TILE_PIXELS;
    const int count = std::min<long>(TILE_PIXELS, pixels.count - first);
    number* normalized = normalized_memory.take<number>((long)TILE_PIXELS * c);
    number* d_rows = d_out_memory.take<number>((long)TILE_PIXELS * c);
    number* d_hidden = d_hidden_memory.keep<number>((long)TILE_PIXELS * pass.hidden);
    float* d_normalized = d_normalized_memory.keep<float>((long)TILE_PIXELS * c);
    normalize_images<F>(x, first, count, pixels, pass.norm, normalized);
    for (long i = 0; i < (long)count * c; i += LANES)
      F::store(d_rows + i, load(d_out + first * c + i));
    chunk.normalized.put_rows(normalized, c, count, first_word, TILE_PIXELS / F::PER_WORD);
    chunk.d_out.put_rows(d_rows, c, count, first_word, TILE_PIXELS / F::PER_WORD);
    hidden_gradient(first, count, d_rows, d_hidden, chunk, first_word);
    product<F>(d_hidden, pass.hidden, count, pass.expand_back, pass.hidden, c,
               [=](int p, int n, vec v, vec) INLINE_LAMBDA { store(d_normalized + p * c + n, v); });
    std::fill_n(pass.d_scale + (long)tile * c, c, 0.0f);
    std::fill_n(pass.d_offset + (long)tile * c, c, 0.0f);
    norm_gradient(d_normalized, x + first * c, d_out + first * c, count, c, pass.norm,
                  pass.d_x + first * c, pass.d_scale + (long)tile * c, pass.d_offset + (long)tile * c);
  }

 private:
  void hidden_gradient(long first, int count, const number* d_rows, number* d_hidden,
                       const Chunk& chunk, int first_word) const {
    const long hidden = pass.hidden;
    const number* before = before_gelu + first * hidden;
    const long here = 0;
    product_of_taps<F>((const word*)d_rows, pixels.channels / F::PER_WORD, &here, 1, 1, count,
                       pass.contract_back, pixels.channels / F::PER_WORD, hidden,
                       [&](const float* tile, int, int row, int rows, int n, int vectors) {
                         const int at = first_word + row / F::PER_WORD;
                         gelu_gradient<F>(in_panels(before, row, n, vectors), tile, rows, vectors,
                                          chunk.active.at(n, at), chunk.d_hidden.at(n, at),
                                          vectors * LANES, d_hidden + row * hidden + n, hidden);
                       });
    const int done = round_up(count, ROWS) / F::PER_WORD, all = TILE_PIXELS / F::PER_WORD;
    chunk.active.clear(first_word + done, first_word + all);
    chunk.d_hidden.clear(first_word + done, first_word + all);
  }

  const Pixels& pixels;
  const Pass& pass;
  const float* x;
  const number* before_gelu;
  const float* d_out;
};

template <class F>
void feed_forward_gradient(const Pixels& pixels, const FeedForward& pass,
                           const FeedForwardGradient& gradient, const float* x,
                           const typename F::number* before_gelu, const float* d_out) {
  typedef typename F::word word;
  static thread_local Scratch memory[7];
  const int c = pixels.channels, hidden = pass.hidden, tiles = tiles_of(pixels.count);
  const bool alone = threads_work_alone(pixels.count, c);
  const int together = std::min(tiles, tiles_together<F>(alone, c));
  constexpr int WORDS = TILE_PIXELS / F::PER_WORD;  // of a tile
  const typename FeedForwardTiles<F>::Pass back{
      hidden, with_offsets(memory[0], pass.norm, images_of(pixels), c),
      laid_out<F>(memory[1], pass.contract, hidden, c, true),
      laid_out<F>(memory[2], pass.expand, c, hidden, true), gradient.d_x,
      memory[3].keep<float>((long)tiles * c), memory[4].keep<float>((long)tiles * c)};
  const FeedForwardTiles<F> tile(pixels, back, x, before_gelu, d_out);
  SumsOfThreads sums(memory[5], alone,
                     {{gradient.d_expand, (long)hidden * c},
                      {gradient.d_contract, (long)hidden * c},
                      {gradient.d_expand_bias, hidden}});
  const long words = (long)together * WORDS, of_panels = 2L * (c + hidden) * words;
  word* shared = alone ? nullptr : memory[6].keep<word>(of_panels);
#pragma omp parallel
  {
    static thread_local Scratch own;
    PanelMemory<F> panels(alone ? own.keep<word>(of_panels) : shared, words);
    const typename FeedForwardTiles<F>::Chunk chunk{panels.take(c), panels.take(c), panels.take(hidden),
                                                    panels.take(hidden)};
    sum_units(
        alone, tiles, together, sums,
        [&](int number, int index) INLINE_LAMBDA { tile(number, chunk, index * WORDS); },
        [&](int count, bool more, Share share) INLINE_LAMBDA {
          sum_products(chunk.d_hidden, chunk.normalized, 0, count * WORDS, more, sums.at(0), c, share);
          sum_products(chunk.d_out, chunk.active, 0, count * WORDS, more, sums.at(1), hidden, share);
          if (sums.at(2)) sum_channels(chunk.d_hidden, count * WORDS, more, sums.at(2), share);
        });
  }
  sums.finish();
  sum_rows(back.d_scale, tiles, c, c, gradient.d_scale);
  sum_rows(back.d_offset, tiles, c, c, gradient.d_offset);
}
