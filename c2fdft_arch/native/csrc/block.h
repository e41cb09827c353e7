// A whole Transformer block without gradients.

#pragma once

#include "attention.h"
#include "feed_forward.h"

// In place. `values` (B, H * W, C) is memory for the values of all pixels.
template <class F>
void transformer_block(const Features& x, const Attention& attention, const FeedForward& pass,
                       int columns, int down, typename F::scalar* values) {
  static thread_local Scratch memory;
  const int c = x.channels, padded = round_up(c, kLanes);
  const vec* projected = project_attention<F>(x, attention, columns, down, nullptr, values);
  const float* project_bias = padded_channels(memory, attention.project_bias, c);
  const PackedFeedForward<F> ffn(x, pass);
  add_projected_values<F>(x, values, projected, project_bias, x, [&](int image, long first, int count) {
    float* pixels = x.at(image, first);
    const Norm norm = ffn.norm.of_image(image);
    ffn(pixels, x.next_pixel, count,
        [&](typename F::scalar* to) {
          normalize<F>(pixels, x.next_pixel, count, c, norm, to, padded);
        },
        nullptr, pixels);
  });
}
