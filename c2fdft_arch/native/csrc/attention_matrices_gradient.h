// The small matrices of attention in the backward pass: the gradient of W_o A, of which PyTorch's
// operations make those of the sums over pixels, and what these are multiplied by.

#pragma once

#include "attention.h"

// The gradient of (W_o A)^T (B, C, C): the sum over an image's pixels of values times d_out. Images are
// cut into parts, each of which a thread adds up.
template <class F>
void mixing_gradient(const Features& x, const typename F::scalar* values, const float* d_out,
                     float* d_mixing) {
  typedef typename F::packed packed;
  static thread_local Scratch memory;
  constexpr int PAIRS = kChunk / F::kDotWidth;
  const int c = x.channels, chunks = chunks_of(x.pixels());
  const long matrix = (long)c * c;
  const int parts = std::min(chunks, (omp_get_max_threads() + x.images - 1) / x.images);
  const int block = block_size<F>(true, c);
  float* sums = parts == 1 ? d_mixing : memory.uninitialised<float>(x.images * parts * matrix);
#pragma omp parallel
  {
    static thread_local Scratch own;
    const long pairs = (long)block * PAIRS;
    packed* to = own.uninitialised<packed>(2L * c * pairs);
    const Panels<F> of_values{to, c, pairs}, of_d_out{to + c * pairs, c, pairs};
#pragma omp for schedule(static)
    for (int part = 0; part < x.images * parts; part++) {
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
        sum_products(of_values, of_d_out, count * PAIRS, first > begin, sums + part * matrix, c, {});
      }
    }
  }
  for (int image = 0; parts > 1 && image < x.images; image++)
    sum_rows(sums + image * parts * matrix, parts, matrix, matrix, d_mixing + image * matrix);
}

// The matrices by which the gradients of an image's pixels are multiplied, packed.
template <class F>
class GradientMatrices {
 public:
  GradientMatrices(const float* mixing, const float* d_products, int heads, int images,
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
        pack<F>(mixing + (long)i * channels * channels, {0, 1, channels, 0}, shape,
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
