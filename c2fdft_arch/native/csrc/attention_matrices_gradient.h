// The small matrices of attention in the backward pass: the gradient of W_o A, from which follow those
// of W_o, of the temperatures and of the sums over pixels, and what the pixels are multiplied by.

#pragma once

#include "attention.h"

// The gradient of W_o A (B, C, C): the sum over an image's pixels of d_out times values. Images are cut
// into parts, each of which a thread adds up.
template <class F>
void projected_attention_gradient(const Features& x, const typename F::scalar* values,
                                  const float* d_out, float* d_projected) {
  typedef typename F::packed packed;
  static thread_local Scratch memory;
  constexpr int PAIRS = kChunk / F::kDotWidth;
  const int c = x.channels, chunks = chunks_of(x.pixels());
  const long matrix = (long)c * c;
  const int parts = std::min(chunks, (omp_get_max_threads() + x.images - 1) / x.images);
  const int block = block_size<F>(true, c);
  float* sums = parts == 1 ? d_projected : memory.uninitialised<float>(x.images * parts * matrix);
  Team team;
#pragma omp parallel for schedule(static)
  for (int part = 0; part < x.images * parts; part++)
    team.run([&] {
      static thread_local Scratch own;
      const long pairs = (long)block * PAIRS;
      packed* to = own.uninitialised<packed>(2L * c * pairs);
      const Panels<F> of_values{to, c, pairs}, of_d_out{to + c * pairs, c, pairs};
      const Share share{part % parts, parts};
      const int begin = share.begin(chunks), end = share.end(chunks);
      for (int first = begin; first < end; first += block) {
        const int count = std::min(block, end - first);
        for (int i = 0; i < count; i++) {
          const long pixel = (first + i) * (long)kChunk;
          const long at = (part / parts * x.pixels() + pixel) * c;
          const int rows = std::min<long>(kChunk, x.pixels() - pixel);
          of_values.put_rows(values + at, c, rows, (long)i * PAIRS, PAIRS);
          of_d_out.put_rows(d_out + at, c, rows, (long)i * PAIRS, PAIRS);
        }
        sum_products(of_d_out, of_values, count * PAIRS, first > begin, sums + part * matrix, c, {});
      }
    });
  team.check();
  for (int image = 0; parts > 1 && image < x.images; image++)
    sum_rows(sums + image * parts * matrix, parts, matrix, matrix, d_projected + image * matrix);
}

// Gradients of the sums over pixels.
struct SumsGradient {
  float* products;  // (B, heads, c, c)
  float* squares;   // of q, then k (2, B, C)
};

// Of a head, given that of A, which is overwritten. d_q and d_k are of the squares of q and k.
INLINE void sums_gradient(const float* products, const float* q, const float* k,
                          const float* attention, float temperature, int width, float* d,
                          float* d_temperature, float* d_q, float* d_k) {
  static thread_local Scratch memory;
  float *of_q = memory.uninitialised<float>(2 * width), *of_k = of_q + width;
  reciprocal_norms(q, width, of_q);
  reciprocal_norms(k, width, of_k);
  std::fill_n(d_k, width, 0.0f);
  vec of_temperature = {};
  for (int i = 0; i < width; i++, d += width, attention += width, products += width) {
    vec along = {}, of_logarithms = {};
    for (int j = 0; j < width; j += kLanes) along += load(d + j) * load(attention + j);
    const float along_row = sum(along);
    for (int j = 0; j < width; j += kLanes) {
      const vec of_norms = of_q[i] * load(of_k + j), cosine = load(products + j) * of_norms;
      const vec d_score = load(attention + j) * (load(d + j) - along_row);
      of_temperature += d_score * cosine;
      const vec d_cosine = d_score * temperature;
      store(d + j, d_cosine * of_norms);
      // cosine = product / (|q| |k|), and d|q| / dsquare = 1 / (2 |q|)
      const vec of_logarithm = d_cosine * cosine;
      of_logarithms += of_logarithm;
      store(d_k + j, load(d_k + j) - of_logarithm);
    }
    d_q[i] = q[i] > 1e-24f ? -sum(of_logarithms) / (2 * q[i]) : 0;
  }
  for (int i = 0; i < width; i++) d_k[i] = k[i] > 1e-24f ? d_k[i] / (2 * k[i]) : 0;
  *d_temperature = sum(of_temperature);
}

// Given the gradient of W_o A, those of the sums, the temperatures and W_o.
INLINE void attention_matrices_gradient(const Attention& pass, const float* d_projected, int images,
                                        int channels, const SumsGradient& d, float* d_temperature,
                                        float* d_project) {
  static thread_local Scratch memory[2];
  const AttentionMatrices& m = pass.matrices;
  const int heads = pass.heads, c = channels / heads;
  const long matrix = (long)c * c;
  float* of_images = memory[0].uninitialised<float>((long)images * heads);
  float* transposed = memory[1].uninitialised<float>(images * heads * matrix);
  Team team;
#pragma omp parallel
  {
#pragma omp for collapse(2) schedule(static)
    for (int image = 0; image < images; image++)
      for (int head = 0; head < heads; head++)
        team.run([&] {
          const long at = ((long)image * heads + head) * matrix;
          const long of_q = (long)image * channels + head * c, of_k = of_q + (long)images * channels;
          small_gemm(pass.project + head * c, 1, channels,
                     d_projected + (long)image * channels * channels + head * c, channels, c, c,
                     channels, false, d.products + at, c);
          sums_gradient(m.products + at, m.squares + of_q, m.squares + of_k, m.attention + at,
                        pass.temperature[head], c, d.products + at,
                        of_images + (long)image * heads + head, d.squares + of_q, d.squares + of_k);
          for (int i = 0; i < c; i++)
            for (int j = 0; j < c; j++)
              transposed[at + (long)j * c + i] = m.attention[at + (long)i * c + j];
        });
#pragma omp for collapse(2) schedule(static)
    for (int head = 0; head < heads; head++)
      for (int row = 0; row < channels; row += kLanes)
        for (int image = 0; image < images; image++)
          small_gemm(d_projected + ((long)image * channels + row) * channels + head * c, channels, 1,
                     transposed + ((long)image * heads + head) * matrix, c, kLanes, c, c, image > 0,
                     d_project + (long)row * channels + head * c, channels);
  }
  team.check();
  std::fill_n(d_temperature, heads, 0.0f);
  for (int i = 0; i < images * heads; i++) d_temperature[i % heads] += of_images[i];
}

// The matrices by which the gradients of an image's pixels are multiplied, packed.
template <class F>
class GradientMatrices {
 public:
  GradientMatrices(const float* projected, const float* d_products, int heads, int images,
                   int channels)
      : heads(heads) {
    static thread_local Scratch memory[2];
    const int width = channels / heads, matrices = images * heads;
    const WeightShape shape{channels, channels, 1, 1}, head_shape{width, width, 1, 1};
    of_image = shape.packed_vectors<F>();
    of_head = head_shape.packed_vectors<F>();
    to_values = memory[0].uninitialised<vec>(images * of_image);
    to_queries = memory[1].uninitialised<vec>(2 * matrices * of_head);
    to_keys = to_queries + matrices * of_head;
#pragma omp parallel
    {
#pragma omp for schedule(static) nowait
      for (int i = 0; i < images; i++)
        pack<F>(projected + (long)i * channels * channels, {0, 1, channels, 0}, shape,
                to_values + i * of_image);
#pragma omp for schedule(static)
      for (int i = 0; i < matrices; i++) {
        const float* matrix = d_products + (long)i * width * width;
        pack<F>(matrix, {0, width, 1, 0}, head_shape, to_queries + i * of_head);
        pack<F>(matrix, {0, 1, width, 0}, head_shape, to_keys + i * of_head);
      }
    }
  }

  const vec* values(int image) const { return to_values + image * of_image; }
  const vec* queries(int image, int head) const { return to_queries + at(image, head); }
  const vec* keys(int image, int head) const { return to_keys + at(image, head); }

 private:
  long at(int image, int head) const { return ((long)image * heads + head) * of_head; }

  int heads;
  long of_image, of_head;
  vec *to_values;            // the transpose of W_o A
  vec *to_queries, *to_keys;  // for each head d(q^T k), and its transpose
};
