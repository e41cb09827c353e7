// The layer norm over channels plus the time embedding T, and its gradient.

#pragma once

#include <algorithm>

#include "features.h"
#include "scratch.h"

// Parameters (C) as PyTorch keeps them, and T (B, C). `bias` and `time_embedding` may be null; the mean is
// subtracted where there is a bias.
struct NormParameters {
  const float *scale, *bias, *time_embedding;
};

struct Norm {
  const float *scale, *offset;  // padded to whole vectors with zeros; the offset is bias + T
  long next_image;              // in `offset`
  bool centred;                 // whether the mean is subtracted

  Norm of_image(int image) const { return {scale, offset + image * next_image, 0, centred}; }
};

inline Norm make_norm(Scratch& memory, const NormParameters& norm, int images, int channels) {
  const int padded = round_up(channels, kLanes);
  float *scale = memory.zeroed<float>((images + 1L) * padded), *offset = scale + padded;
  std::copy_n(norm.scale, channels, scale);
  for (int image = 0; image < images; image++)
    for (int c = 0; c < channels; c++) {
      float& to = offset[(long)image * padded + c];
      if (norm.bias) to += norm.bias[c];
      if (norm.time_embedding) to += norm.time_embedding[(long)image * channels + c];
    }
  return {scale, offset, padded, norm.bias != nullptr};
}

struct Moments {
  float mean, scale;  // 1 / standard deviation
};

// Over the channels of a pixel.
INLINE Moments moments(const float* pixel, int channels) {
  const int whole = channels / kLanes * kLanes;
  vec total = {};
  for (int i = 0; i < whole; i += kLanes) total += load(pixel + i);
  float mean = sum(total);
  for (int i = whole; i < channels; i++) mean += pixel[i];
  mean /= channels;
  vec squares = {};
  for (int i = 0; i < whole; i += kLanes) {
    const vec distance = load(pixel + i) - mean;
    squares += distance * distance;
  }
  float variance = sum(squares);
  for (int i = whole; i < channels; i++) variance += (pixel[i] - mean) * (pixel[i] - mean);
  return {mean, 1.0f / __builtin_sqrtf(variance / channels + 1e-5f)};
}

// to[p] = LN(pixels[p]) + T for pixels of one image; padded channels are zero.
template <class F>
void normalize(const float* pixels, long next_pixel, int count, int channels, const Norm& norm,
               typename F::scalar* to, long next_row) {
  const int whole = channels / kLanes * kLanes;
  for (int p = 0; p < count; p++, pixels += next_pixel, to += next_row) {
    const Moments of_pixel = moments(pixels, channels);
    const float centre = norm.centred ? of_pixel.mean : 0.0f;
    const auto put = [&](int i, vec x) {
      F::store(to + i,
               (x - centre) * of_pixel.scale * load(norm.scale + i) + load(norm.offset + i));
    };
    for (int i = 0; i < whole; i += kLanes) put(i, load(pixels + i));
    if (whole < channels) {
      float rest[kLanes] = {};
      std::copy(pixels + whole, pixels + channels, rest);
      put(whole, load(rest));
    }
  }
}

// d_x = d_out plus the gradient of LN(x), given that of the result, for `count` pixels; adds to
// d_scale and d_offset, which are sums over pixels. Channels are whole vectors.
INLINE void norm_gradient(const float* d_y, const float* x, const float* d_out, int count,
                          int channels, const Norm& norm, float* d_x, float* d_scale,
                          float* d_offset) {
  for (int p = 0; p < count; p++) {
    const auto [mean, scale] = moments(x, channels);
    const float centre = norm.centred ? mean : 0.0f;
    vec total = {}, along = {};
    for (int i = 0; i < channels; i += kLanes) {
      const vec d = load(d_y + i), normalized = (load(x + i) - centre) * scale;
      const vec d_normalized = d * load(norm.scale + i);
      total += d_normalized;
      along += d_normalized * normalized;
      store(d_scale + i, load(d_scale + i) + d * normalized);
      store(d_offset + i, load(d_offset + i) + d);
    }
    const float of_mean = norm.centred ? sum(total) / channels : 0.0f;
    const float of_scale = sum(along) / channels * scale;
    for (int i = 0; i < channels; i += kLanes) {
      const vec d_normalized = load(d_y + i) * load(norm.scale + i);
      const vec d = (d_normalized - of_mean - (load(x + i) - mean) * of_scale) * scale;
      store(d_x + i, load(d_out + i) + d);
    }
    d_y += channels, x += channels, d_out += channels, d_x += channels;
  }
}
