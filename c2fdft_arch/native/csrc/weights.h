// Weights as PyTorch keeps them, made ready for a call in training: they differ every time.

#pragma once

#include "products.h"

// Of a layer norm; the mean is subtracted where there is a bias. T (B, C) is added, if not null.
struct ShiftedNorm {
  const float *scale, *bias, *shift;
};

// A weight (outputs, inputs), or its transpose, laid out.
template <class F>
const vec* laid_out(Scratch& memory, const float* weight, int outputs, int inputs,
                    bool transposed = false) {
  const WeightShape shape{outputs, inputs, 1, 1};
  vec* to = memory.keep<vec>(shape.vectors<F>());
  pack<F>(weight, transposed ? WeightStrides{0, 1, outputs, 0} : WeightStrides{0, inputs, 1, 0}, shape,
          to);
  return to;
}

inline const float* or_zeros(Scratch& memory, const float* values, int count) {
  return values ? values : memory.take<float>(count);
}

// The norm with an offset (B, C).
inline Norm with_offsets(Scratch& memory, const ShiftedNorm& norm, int images, int channels) {
  float* offsets = memory.take<float>((long)images * channels);
  for (long i = 0; i < (long)images * channels; i++) {
    if (norm.bias) offsets[i] += norm.bias[i % channels];
    if (norm.shift) offsets[i] += norm.shift[i];
  }
  return {norm.scale, offsets, norm.bias != nullptr};
}

// A depth-wise kernel (C, 3, 3) as (9, C), its taps forward or from the last to the first.
inline const float* taps_first(Scratch& memory, const float* kernel, int channels, bool backward) {
  float* to = memory.keep<float>(9L * channels);
  for (int channel = 0; channel < channels; channel++)
    for (int tap = 0; tap < 9; tap++)
      to[(backward ? 8 - tap : tap) * channels + channel] = kernel[9 * channel + tap];
  return to;
}
