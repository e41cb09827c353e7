// Diffusion self-attention, forward: x + W_o A v, where A (c, c) are the attention matrices of the
// heads, softmax(temperature * cosines of the channels of q and k).
//
// W_o A is one matrix for an image. Two passes over the pixels suffice: the first computes q, k and v,
// keeps v, and adds up q^T k and the squares of q and k; the second multiplies v by W_o A.

#pragma once

#include <cmath>
#include <optional>

#include "depthwise.h"
#include "norm.h"
#include "sums.h"

// The small matrices of images, kept for the gradient; null if they are not wanted. If they are, the
// channels of a head are whole vectors.
struct AttentionMatrices {
  float* products;   // q^T k (B, heads, c, c)
  float* squares;    // sums of the squares of q, then k (2, B, C)
  float* attention;  // A (B, heads, c, c)
  float* projected;  // W_o A (B, C, C)
};

struct Attention {
  int heads;
  NormParameters norm;
  const float *qkv, *qkv_bias;          // (3C, C), (3C); biases may be null
  const float *kernel, *kernel_bias;    // of the depth-wise convolution: (3C, 3, 3), (3C)
  const float* temperature;             // (heads)
  const float *project, *project_bias;  // W_o (C, C), (C)
  AttentionMatrices matrices;
};

// The sums over the pixels of a tile: q^T k of each head, rows and columns padded for the microkernel,
// and the squares of q, then k.
struct TileSums {
  int heads, width, rows, columns, channels;

  TileSums(int all_channels, int heads)
      : heads(heads), width(all_channels / heads), rows(round_up(width, MR)),
        columns(round_up(width, kPanel)), channels(round_up(all_channels, kLanes)) {}
  long products() const { return (long)heads * rows * columns; }
  long squares() const { return 2L * channels; }
};

template <class F>
struct QkvPass {
  int heads;
  Norm norm;
  const vec* qkv;
  const float* qkv_bias;               // padded
  const DepthwiseKernel<F>* depthwise; // of q, k and v
  typename F::scalar* queries_keys;    // (B, H * W, 2C), where they are kept, or null
  typename F::scalar* values;          // (B, H * W, C)
};

// Computes q, k and v of a tile, some rows at a time.
template <class F>
class QkvOfTile {
  typedef typename F::scalar scalar;
  typedef typename F::packed packed;

 public:
  QkvOfTile(const Features& x, const QkvPass<F>& pass, int widest)
      : x(x), pass(pass), sums(x.channels, pass.heads), padded(round_up(x.channels, kLanes)),
        rows_at_once(std::max(1, kChunk / widest)), layout(pairs_of<F>(widest)),
        next_row(layout.size(3 * padded)), next_pair(2L * padded + kPanel) {
    static thread_local Scratch normalized_memory, window_memory, pairs_memory, targets_memory;
    const long rows = rows_at_once + 2, pixels = rows * (pairs_of<F>(widest) + 2) * F::kDotWidth;
    targets = targets_memory.zeroed<packed*>(pixels);
    normalized = normalized_memory.zeroed<scalar>((pixels + MR) * padded);
    window = window_memory.zeroed<packed>(rows * next_row);
    pairs = pairs_memory.zeroed<packed>((long)rows_at_once * pairs_of<F>(widest) * next_pair);
  }

  // Adds to `products` and `squares`; see TileSums.
  void operator()(const Tile& tile_, float* products, float* squares) {
    tile = tile_;
    pairs_in_row = pairs_of<F>(tile.width());
    for (int next = tile.top - 1, done = tile.top; done < tile.bottom;) {
      const int until = std::min(done + rows_at_once, tile.bottom);
      project(next, until + 1);
      next = until + 1;
      for (int channel = 0; channel < 3 * padded; channel += kLanes)
        for (int row = done; row < until; row++) convolve(row, row - done, channel);
      const int count = (until - done) * pairs_in_row;
      add_squares(count, squares);
      add_products(count, products);
      done = until;
    }
  }

 private:
  packed* window_row(int row) const { return window + (row + 1) % (rows_at_once + 2) * next_row; }

  // q, k and v of rows [first, end) before the depth-wise convolution; zero outside the image.
  void project(int first, int end) {
    const int from = tile.left > 0 ? tile.left - F::kDotWidth : 0;
    const int until = std::min(tile.right + F::kDotWidth, x.width);
    const Norm norm = pass.norm.of_image(tile.image);
    int count = 0;
    for (int row = first; row < end; row++) {
      packed* to = window_row(row);
      if (row < 0 || row >= x.height) {
        std::memset((void*)to, 0, sizeof(packed) * next_row);
        continue;
      }
      normalize<F>(x.at(tile.image, (long)row * x.width + from), x.next_pixel, until - from,
                   x.channels, norm, normalized + (long)count * padded, padded);
      const int first_pair = tile.left ? -1 : 0;
      for (int p = 0; p < pairs_of<F>(until - from) * F::kDotWidth; p++)
        targets[count++] = to + layout.at(first_pair + p / F::kDotWidth, 0);
    }
    gemm<F, F::kDotWidth>(normalized, padded, count, pass.qkv, x.channels, 3 * padded,
                          [&](int p, int n, vec v, vec last) INLINE_LAMBDA {
                            const vec bias = load(pass.qkv_bias + n);
                            store((float*)(targets[p] + n / kLanes * layout.next_vector),
                                  F::interleave(v + bias, last + bias));
                          });
    for (int row = first; row < end; row++) {
      if (tile.left == 0) layout.clear(window_row(row), -1, 3 * padded);
      if (tile.right != x.width) continue;
      if (tile.width() % F::kDotWidth)
        layout.template clear_last<F>(window_row(row), pairs_in_row - 1, 3 * padded);
      layout.clear(window_row(row), pairs_in_row, 3 * padded);
    }
  }

  // The depth-wise convolution of a row, for some channels of q, k or v.
  void convolve(int row, int index, int channel) {
    const packed* rows[3];
    for (int i = 0; i < 3; i++) rows[i] = window_row(row - 1 + i) + layout.at(-1, channel);
    const DepthwiseKernel<F>& kernel = pass.depthwise[channel / kLanes];
    const long pixel = ((long)tile.image * x.height + row) * x.width + tile.left;
    if (channel >= 2 * padded)
      return convolve_values(kernel, rows, channel - 2 * padded, pass.values + pixel * x.channels);
    packed* to = pairs + index * pairs_in_row * next_pair + channel;
    kernel(rows, kLanes, pairs_in_row, [&](int pair, vec first, vec second) INLINE_LAMBDA {
      const int p = pair * F::kDotWidth;
      const bool has_second = F::kDotWidth > 1 && p + 1 < tile.width();
      if (!has_second) second = vec{};
      store((float*)(to + pair * next_pair), F::interleave(first, second));
      if (pass.queries_keys) {
        scalar* kept = pass.queries_keys + (pixel + p) * 2 * x.channels + channel;
        F::store(kept, first);
        if (has_second) F::store(kept + 2 * x.channels, second);
      }
    });
  }

  void convolve_values(const DepthwiseKernel<F>& kernel, const packed* const* rows, int channel,
                       scalar* to) {
    const auto put = [&](int p, vec v) INLINE_LAMBDA {
      scalar* pixel = to + (long)p * x.channels;
      if (channel + kLanes <= x.channels) return F::store(pixel + channel, v);
      scalar rest[kLanes];
      F::store(rest, v);
      std::copy(rest, rest + x.channels - channel, pixel + channel);
    };
    kernel(rows, kLanes, pairs_in_row, [&](int pair, vec first, vec second) INLINE_LAMBDA {
      const int p = pair * F::kDotWidth;
      put(p, first);
      if (F::kDotWidth > 1 && p + 1 < tile.width()) put(p + 1, second);
    });
  }

  void add_squares(int count, float* squares) const {
    for (int channel = 0; channel < 2 * padded; channel += kLanes) {
      vec total = load(squares + channel);
      for (int i = 0; i < count; i++) {
        const vec pair = load((const float*)(pairs + i * next_pair + channel));
        total = F::dot(total, pair, pair);
      }
      store(squares + channel, total);
    }
  }

  void add_products(int count, float* products) const {
    for (int head = 0; head < sums.heads; head++)
      for (int j = 0; j < sums.width; j += kPanel)
        for (int i = 0; i < sums.width; i += MR) {
          const packed* q = pairs + head * sums.width + i;
          const packed* k = pairs + padded + head * sums.width + j;
          float* to = products + ((long)head * sums.rows + i) * sums.columns + j;
          sum_rows_of_products<F>(q, 1, next_pair, (const float*)k, next_pair, count, NR, true, to,
                                  sums.columns);
        }
  }

  const Features& x;
  const QkvPass<F>& pass;
  const TileSums sums;
  const int padded, rows_at_once;
  const RowLayout layout;
  const long next_row, next_pair;
  Tile tile;
  int pairs_in_row;
  scalar* normalized;
  packed* window;    // a ring of projected rows: those that are convolved, one above, one below
  packed* pairs;     // q and k after the convolution
  packed** targets;  // where in the window the projections of the rows of `normalized` go
};

// Adds up the sums of an image's tiles for a head: q^T k (c, c), rows `next_row` apart, and the
// squares of q and k.
INLINE void add_tiles(const TileSums& sums, int tiles, int head, const float* products,
                      const float* squares, float* to, long next_row, float* q, float* k) {
  const int width = sums.width;
  std::fill_n(to, width * next_row, 0.0f);
  std::fill_n(q, width, 0.0f);
  std::fill_n(k, width, 0.0f);
  for (int tile = 0; tile < tiles; tile++) {
    const float* s = squares + tile * sums.squares() + head * width;
    const float* p = products + tile * sums.products() + (long)head * sums.rows * sums.columns;
    for (int i = 0; i < width; i++) {
      q[i] += s[i];
      k[i] += s[sums.channels + i];
      for (int j = 0; j < width; j++) to[i * next_row + j] += p[(long)i * sums.columns + j];
    }
  }
}

INLINE float norm_of(float square) { return std::max(std::sqrt(square), 1e-12f); }

// to[i] = 1 / |k_i|, given the squares.
INLINE void reciprocal_norms(const float* squares, int width, float* to) {
  for (int i = 0; i < width; i++) to[i] = 1.0f / norm_of(squares[i]);
}

// A (c, c) from q^T k, which it may overwrite, and the squares of q and k; rows `next_row` apart.
INLINE void cosine_softmax(const float* products, const float* q, const float* k, int width,
                           float temperature, float* attention, long next_row) {
  static thread_local Scratch memory;
  const int padded = round_up(width, kLanes);
  float *row = memory.zeroed<float>(2 * padded), *of_k = row + padded;
  reciprocal_norms(k, width, of_k);
  for (int i = 0; i < width; i++) {
    const vec scale = broadcast(temperature / norm_of(q[i]));
    std::copy_n(products + i * next_row, width, row);
    for (int j = 0; j < padded; j += kLanes) store(row + j, load(row + j) * load(of_k + j) * scale);
    std::fill(row + width, row + padded, -INFINITY);
    vec largest = load(row), total = {};
    for (int j = kLanes; j < padded; j += kLanes) largest = larger(largest, load(row + j));
    const float of_all = *std::max_element((float*)&largest, (float*)&largest + kLanes);
    for (int j = 0; j < padded; j += kLanes) {
      const vec distance = load(row + j) - of_all, power = exp_of_negative(distance);
      store(row + j, distance == distance ? power : distance);  // NaN stays NaN
      total += load(row + j);
    }
    const float sum_of_all = sum(total);
    for (int j = 0; j < width; j++) attention[i * next_row + j] = row[j] / sum_of_all;
  }
}

// The matrices of one head of an image: its part of W_o A goes to `projected`, rows C apart. `project`
// has a multiple of MR rows.
INLINE void head_matrices(const Attention& pass, const float* project, const TileSums& sums,
                          int image, int images, int head, int tiles, const float* products,
                          const float* squares, float* projected) {
  static thread_local Scratch matrix_memory, squares_memory, mixed_memory;
  const AttentionMatrices& kept = pass.matrices;
  const int c = sums.width, padded = round_up(c, kLanes), channels = sums.heads * c;
  const long matrix = ((long)image * sums.heads + head) * c * c;
  float* qk = kept.products ? kept.products + matrix
                            : matrix_memory.zeroed<float>((long)c * padded);
  float* a = kept.attention ? kept.attention + matrix : qk;
  float* q = kept.squares ? kept.squares + (long)image * channels + head * c
                          : squares_memory.uninitialised<float>(2 * c);
  float* k = q + (kept.squares ? (long)images * channels : c);
  add_tiles(sums, tiles, head, products, squares, qk, padded, q, k);
  cosine_softmax(qk, q, k, c, pass.temperature[head], a, padded);
  const int rows = round_up(channels, MR);
  if (c == padded)
    return small_gemm(project + head * c, channels, 1, a, padded, rows, c, c, false,
                      projected + head * c, channels);
  float* mixed = mixed_memory.uninitialised<float>((long)rows * padded);
  small_gemm(project + head * c, channels, 1, a, padded, rows, padded, c, false, mixed, padded);
  for (int row = 0; row < channels; row++)
    std::copy_n(mixed + (long)row * padded, c, projected + (long)row * channels + head * c);
}

// The first pass: values, and W_o A of every image, packed. `queries_keys` may be null.
template <class F>
const vec* project_attention(const Features& x, const Attention& pass, int columns, int down,
                             typename F::scalar* queries_keys, typename F::scalar* values) {
  static thread_local Scratch memory[10];
  const int c = x.channels;
  const TileSums sums(c, pass.heads);
  const TileGrid grid{x.images, x.height, x.width, columns, down};
  float* products = memory[0].zeroed<float>(grid.count() * sums.products());
  float* squares = memory[1].zeroed<float>(grid.count() * sums.squares());
  const auto depthwise =
      depthwise_kernels<F>(memory[2], pass.kernel, 3 * c, 3,
                           padded_channels(memory[3], pass.kernel_bias, 3 * c, 3));
  const QkvPass<F> qkv_pass{pass.heads,
                            make_norm(memory[4], pass.norm, x.images, c),
                            packed_matrix<F>(memory[5], pass.qkv, 3 * c, c, 3),
                            padded_channels(memory[6], pass.qkv_bias, 3 * c, 3),
                            depthwise.data(),
                            queries_keys,
                            values};
  const int rows = round_up(c, MR);
  const float* project = pass.project;
  if (rows != c) {
    float* padded = memory[7].zeroed<float>((long)rows * c);
    std::copy_n(project, (long)c * c, padded);
    project = padded;
  }
  const long matrix = (long)rows * c;
  float* projected = pass.matrices.projected ? pass.matrices.projected
                                       : memory[8].uninitialised<float>(x.images * matrix);
  const WeightShape shape{c, c, 1, 1};
  vec* packed = memory[9].uninitialised<vec>(x.images * shape.packed_vectors<F>());
  Team team;
#pragma omp parallel
  {
    std::optional<QkvOfTile<F>> qkv_of_tile;
    team.run([&] { qkv_of_tile.emplace(x, qkv_pass, grid.width_with_halo()); });
#pragma omp for schedule(dynamic)
    for (int i = 0; i < grid.count(); i++)
      team.run([&] {
        (*qkv_of_tile)(grid.tile(i), products + i * sums.products(),
                       squares + i * sums.squares());
      });
#pragma omp for collapse(2)
    for (int image = 0; image < x.images; image++)
      for (int head = 0; head < pass.heads; head++)
        team.run([&] {
          const long first_tile = (long)image * grid.of_image();
          head_matrices(pass, project, sums, image, x.images, head, grid.of_image(),
                        products + first_tile * sums.products(),
                        squares + first_tile * sums.squares(), projected + image * matrix);
        });
  }
  team.check();
#pragma omp parallel for if (x.images > 1)
  for (int image = 0; image < x.images; image++)
    pack<F>(projected + image * matrix, {0, c, 1, 0}, shape,
            packed + image * shape.packed_vectors<F>());
  return packed;
}

// The second pass: out = x plus the mixed values plus bias, then rest(image, first pixel, count), for a
// chunk of pixels at a time. `out` may be x.
template <class F, class Rest>
void add_projected_values(const Features& x, const typename F::scalar* values, const vec* projected,
                          const float* bias, const Features& out, Rest rest) {
  typedef typename F::scalar scalar;
  const int c = x.channels;
  const long vectors = WeightShape{c, c, 1, 1}.packed_vectors<F>();
  const int chunks = chunks_of(x.pixels());
  Team team;
#pragma omp parallel for schedule(dynamic)
  for (int i = 0; i < x.images * chunks; i++)
    team.run([&] {
      static thread_local Scratch last_memory;
      const int image = i / chunks;
      const long first = i % chunks * (long)kChunk;
      const int count = std::min<long>(kChunk, x.pixels() - first);
      const scalar* from = values + (image * x.pixels() + first) * c;
      if (count % MR) {  // the microkernel would read past the end of the values
        scalar* last = last_memory.uninitialised<scalar>((long)kChunk * c);
        std::copy_n(from, (long)count * c, last);
        from = last;
      }
      gemm_add<F>(from, c, count, projected + image * vectors, c, c, bias, x.at(image, first),
                  out.at(image, first), x.next_pixel);
      rest(image, first, count);
    });
  team.check();
}

// In training: `out` is contiguous, like x. `queries_keys` (B * H * W + MR, 2C), `values` (B, H * W, C)
// and the matrices are kept for the gradients.
template <class F>
void attention(const Features& x, const Attention& pass, int columns, int down,
               typename F::scalar* queries_keys, typename F::scalar* values, float* out) {
  static thread_local Scratch memory;
  Features to = x;
  to.data = out;
  const vec* projected = project_attention<F>(x, pass, columns, down, queries_keys, values);
  add_projected_values<F>(x, values, projected,
                          padded_channels(memory, pass.project_bias, x.channels), to,
                [](int, long, int) {});
}
