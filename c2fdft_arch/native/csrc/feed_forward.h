// The feed-forward half of a Transformer block in training, x + FFN(LN(x) + T), and its gradients.
//
// The forward pass keeps x and the argument of the GELU. Channels and hidden channels are whole
// vectors; feature maps are contiguous.

#pragma once

#include "norm.h"
#include "sums.h"

struct FeedForward {
  int hidden;
  NormParameters norm;
  const float *expand, *expand_bias;      // (hidden, C), (hidden); biases may be null
  const float *contract, *contract_bias;  // (C, hidden), (C)
};

// Gradients in the shapes of what they are of; d_expand_bias may be null.
struct FeedForwardGradient {
  float *d_x, *d_scale, *d_offset, *d_expand, *d_expand_bias, *d_contract;
};

// LN(x) + T of pixels [first, first + count), which may be of several images.
template <class F>
void normalize_images(const Features& x, long first, int count, const Norm& norm,
                      typename F::scalar* to) {
  const int c = x.channels;
  for (int done = 0; done < count;) {
    const long pixel = first + done, image = pixel / x.pixels();
    const int rest = std::min<long>(count - done, (image + 1) * x.pixels() - pixel);
    normalize<F>(x.data + pixel * c, c, rest, c, norm.of_image(image), to + (long)done * c, c);
    done += rest;
  }
}

// The weights as the kernels take them.
template <class F>
struct PackedFeedForward {
  int channels, hidden, padded, padded_hidden;
  Norm norm;
  const vec *expand, *contract;
  const float *expand_bias, *contract_bias;

  PackedFeedForward(const Features& x, const FeedForward& pass)
      : channels(x.channels), hidden(pass.hidden), padded(round_up(channels, kLanes)),
        padded_hidden(round_up(hidden, kLanes)) {
    static thread_local Scratch memory[5];
    norm = make_norm(memory[0], pass.norm, x.images, channels);
    expand = packed_matrix<F>(memory[1], pass.expand, hidden, channels);
    contract = packed_matrix<F>(memory[2], pass.contract, channels, hidden);
    expand_bias = padded_channels(memory[3], pass.expand_bias, hidden);
    contract_bias = padded_channels(memory[4], pass.contract_bias, channels);
  }

  // out = x + FFN(y) for a chunk of pixels; normalize(to) provides y. The argument of the GELU goes to
  // `before_gelu`, if not null.
  template <class Normalize>
  void operator()(const float* x, long next_pixel, int count, Normalize normalize,
                  typename F::scalar* before_gelu, float* out) const {
    typedef typename F::scalar scalar;
    static thread_local Scratch normalized_memory, activation_memory;
    // The microkernel reads rows past the last pixel's, but their results are dropped.
    scalar* normalized = normalized_memory.uninitialised<scalar>((long)kChunk * padded);
    scalar* activation = activation_memory.uninitialised<scalar>((long)kChunk * padded_hidden);
    normalize(normalized);
    gemm_gelu<F>(normalized, padded, count, expand, channels, padded_hidden, expand_bias,
                 activation, padded_hidden, before_gelu);
    gemm_add<F>(activation, padded_hidden, count, contract, hidden, channels, contract_bias, x,
                out, next_pixel);
  }
};

// `before_gelu`, kept for the gradient, has room for whole chunks of pixels.
template <class F>
void feed_forward(const Features& x, const FeedForward& pass, typename F::scalar* before_gelu,
                  float* out) {
  const int c = x.channels;
  const PackedFeedForward<F> ffn(x, pass);
  Team team;
#pragma omp parallel for schedule(dynamic)
  for (int i = 0; i < chunks_of(x.all_pixels()); i++)
    team.run([&] {
      const long first = (long)i * kChunk;
      const int count = std::min<long>(kChunk, x.all_pixels() - first);
      ffn(x.data + first * c, c, count,
          [&](typename F::scalar* to) { normalize_images<F>(x, first, count, ffn.norm, to); },
          before_gelu + first * pass.hidden, out + first * c);
    });
  team.check();
}

// For a microkernel's pixels and hidden channels: from the argument of the GELU and the gradient of
// its value, the GELU (as packed pixels) and the gradient of its argument (as such and as rows).
// Pixels past the last are zero.
template <class F>
__attribute__((noinline)) void gelu_gradient(const typename F::scalar* before, const float* d_gelu,
                                             int count, int vectors, typename F::packed* gelu,
                                             typename F::packed* d_before, long next_pair,
                                             typename F::scalar* rows, long next_row) {
  constexpr int STEP = F::kDotWidth;
  for (int m = 0; m < MR; m += STEP)
    for (int n = 0; n < vectors * kLanes; n += kLanes) {
      vec y[STEP] = {}, d[STEP] = {};
#pragma GCC unroll 2
      for (int i = 0; i < STEP; i++) {
        if (m + i < count) {
          vec slope;
          F::gelu_and_slope(F::load(before + (m + i) * vectors * kLanes + n), y[i], slope);
          d[i] = load(d_gelu + (m + i) * kPanel + n) * slope;
        }
      }
      F::store_rows(rows + m * next_row + n, next_row, d[0], d[STEP - 1]);
      store((float*)(gelu + m / STEP * next_pair + n), F::interleave(y[0], y[STEP - 1]));
      store((float*)(d_before + m / STEP * next_pair + n), F::interleave(d[0], d[STEP - 1]));
    }
}

// The gradients of the pixels, a chunk at a time, and what the gradients of the weights sum up.
template <class F>
struct FeedForwardBackward {
  typedef typename F::scalar scalar;
  typedef typename F::packed packed;
  static constexpr int PAIRS = kChunk / F::kDotWidth;

  const Features& x;
  int hidden;
  Norm norm;
  const vec *contract_transposed, *expand_transposed;
  const scalar* before_gelu;
  const float* d_out;
  float *d_x, *d_scale, *d_offset;  // d_scale and d_offset have a row for each chunk

  // For a block of pixels: LN(x) + T, the GELU, and the gradients of the results of both matrices.
  struct Block {
    Panels<F> normalized, d_out, gelu, d_hidden;
  };

  void operator()(int chunk, const Block& block, int first_pair) const {
    static thread_local Scratch normalized_memory, d_out_memory, d_hidden_memory,
        d_normalized_memory;
    const int c = x.channels;
    const long first = (long)chunk * kChunk;
    const int count = std::min<long>(kChunk, x.all_pixels() - first);
    scalar* normalized = normalized_memory.uninitialised<scalar>((long)kChunk * c);
    scalar* d_rows = d_out_memory.uninitialised<scalar>((long)kChunk * c);
    scalar* d_hidden = d_hidden_memory.uninitialised<scalar>((long)kChunk * hidden);
    float* d_normalized = d_normalized_memory.uninitialised<float>((long)kChunk * c);
    normalize_images<F>(x, first, count, norm, normalized);
    for (long i = 0; i < (long)count * c; i += kLanes)
      F::store(d_rows + i, load(d_out + first * c + i));
    block.normalized.put_rows(normalized, c, count, first_pair, PAIRS);
    block.d_out.put_rows(d_rows, c, count, first_pair, PAIRS);
    hidden_gradient(first, count, d_rows, d_hidden, block, first_pair);
    gemm<F>(d_hidden, hidden, count, expand_transposed, hidden, c,
            [=](int p, int n, vec v, vec) INLINE_LAMBDA { store(d_normalized + p * c + n, v); });
    float *to_scale = d_scale + (long)chunk * c, *to_offset = d_offset + (long)chunk * c;
    std::fill_n(to_scale, c, 0.0f);
    std::fill_n(to_offset, c, 0.0f);
    norm_gradient(d_normalized, x.data + first * c, d_out + first * c, count, c, norm,
                  d_x + first * c, to_scale, to_offset);
  }

  void hidden_gradient(long first, int count, const scalar* d_rows, scalar* d_hidden,
                       const Block& block, int first_pair) const {
    const long here = 0;
    const int pairs = x.channels / F::kDotWidth;
    implicit_gemm<F>((const packed*)d_rows, pairs, &here, 1, 1, count, contract_transposed,
                     pairs, hidden,
                     [&](const float* result, int, int row, int rows, int n, int vectors) {
                       const int pair = first_pair + row / F::kDotWidth;
                       gelu_gradient<F>(in_panels(before_gelu + first * hidden, row, n, vectors), result, rows,
                                        vectors, block.gelu.at(n, pair), block.d_hidden.at(n, pair),
                                        vectors * kLanes, d_hidden + row * hidden + n, hidden);
                     });
    const int done = round_up(count, MR) / F::kDotWidth;
    block.gelu.clear(first_pair + done, first_pair + PAIRS);
    block.d_hidden.clear(first_pair + done, first_pair + PAIRS);
  }
};

template <class F>
void feed_forward_gradient(const Features& x, const FeedForward& pass,
                           const FeedForwardGradient& gradient,
                           const typename F::scalar* before_gelu, const float* d_out) {
  typedef typename F::packed packed;
  static thread_local Scratch memory[9];
  const int c = x.channels, hidden = pass.hidden, chunks = chunks_of(x.all_pixels());
  const FeedForwardBackward<F> chunk_gradient{
      x,
      hidden,
      make_norm(memory[0], pass.norm, x.images, c),
      packed_transpose<F>(memory[1], pass.contract, hidden, c),
      packed_transpose<F>(memory[2], pass.expand, c, hidden),
      before_gelu,
      d_out,
      gradient.d_x,
      memory[3].uninitialised<float>((long)chunks * c),
      memory[4].uninitialised<float>((long)chunks * c)};
  const bool per_thread = sums_per_thread(x.all_pixels(), c);
  const PixelSum d_expand(memory[5], per_thread, gradient.d_expand, (long)hidden * c);
  const PixelSum d_contract(memory[6], per_thread, gradient.d_contract, (long)hidden * c);
  const PixelSum d_bias(memory[7], per_thread, gradient.d_expand_bias, hidden);
  constexpr int PAIRS = kChunk / F::kDotWidth;
  const int chunks_of_block = std::min(chunks, block_size<F>(per_thread, c));
  const long pairs = (long)chunks_of_block * PAIRS, block_memory = 2L * (c + hidden) * pairs;
  packed* shared = per_thread ? nullptr : memory[8].uninitialised<packed>(block_memory);
  Team team;
#pragma omp parallel
  {
    static thread_local Scratch own;
    packed* to = shared;
    team.run([&] {
      if (per_thread) to = own.uninitialised<packed>(block_memory);
    });
    const typename FeedForwardBackward<F>::Block block{
        {to, c, pairs},
        {to + c * pairs, c, pairs},
        {to + 2 * c * pairs, hidden, pairs},
        {to + (2 * c + hidden) * pairs, hidden, pairs}};
    sum_in_blocks(
        team, per_thread, chunks, chunks_of_block,
        [&](int chunk, int index) INLINE_LAMBDA { chunk_gradient(chunk, block, index * PAIRS); },
        [&](int count, bool more, Share share) INLINE_LAMBDA {
          const int summed = count * PAIRS;
          sum_products(block.d_hidden, block.normalized, summed, more, d_expand.here(), c, share);
          sum_products(block.d_out, block.gelu, summed, more, d_contract.here(), hidden, share);
          if (d_bias.here()) sum_channels(block.d_hidden, summed, more, d_bias.here(), share);
        });
  }
  team.check();
  for (const PixelSum* sum : {&d_expand, &d_contract, &d_bias}) sum->finish();
  sum_rows(chunk_gradient.d_scale, chunks, c, c, gradient.d_scale);
  sum_rows(chunk_gradient.d_offset, chunks, c, c, gradient.d_offset);
}
