// The gradients of the attention half of a Transformer block, x + DFSA(LN(x) + T).
//
// The forward pass keeps x, q, k and v, and the small matrices of attention. What lies between them is
// computed again, a tile of whole rows at a time. The channels of a head are whole vectors; feature
// maps are contiguous.

#pragma once

#include "attention_matrices_gradient.h"

// Gradients in the shapes of what they are of. d_qkv_bias may be null; d_kernel (10, 3C) is of the taps
// of the depth-wise convolution and, last, of its bias.
struct AttentionGradient {
  float *d_x, *d_scale, *d_offset, *d_qkv, *d_qkv_bias, *d_kernel, *d_temperature, *d_project;
};

// Images cut into tiles as wide as the image.
struct RowTiles {
  static constexpr int PIXELS = 1024, MIN_ROWS = 8, PAIRS_PER_THREAD = 256;
  int rows, of_image, count;

  RowTiles(const Features& x, bool per_thread, int dot_width)
      : rows(std::min(x.height, per_thread ? std::max(PAIRS_PER_THREAD * dot_width / x.width, 1)
                                           : std::max(PIXELS / x.width, MIN_ROWS))),
        of_image((x.height + rows - 1) / rows), count(x.images * of_image) {}

  // Tiles in a block: what they leave stays in a core's cache, or in the shared one.
  int block_size(int width, bool per_thread) const {
    if (per_thread) return 1;
    return std::min(count, std::max(2 * omp_get_max_threads(), 4 * PIXELS / (rows * width)));
  }
};

// What all tiles use; d_scale, d_offset and d_kernel have a row for each tile.
template <class F>
struct AttentionBackward {
  int heads;
  Norm norm;
  const vec *qkv, *qkv_transposed;
  const float* qkv_bias;
  const DepthwiseKernel<F>* depthwise;  // turned by 180 degrees
  const float* d_squares;  // (2, B, C)
  const GradientMatrices<F>& matrices;
  const typename F::scalar* queries_keys;
  const float* d_out;
  float *d_x, *d_scale, *d_offset;
  float* d_kernel;  // (10, 3C): 9 taps and the bias
};

// Computes the gradients of a tile, some rows at a time.
template <class F>
class AttentionGradientOfTile {
  typedef typename F::scalar scalar;
  typedef typename F::packed packed;
  static constexpr int STEP = F::kDotWidth;

 public:
  AttentionGradientOfTile(const Features& x, const AttentionBackward<F>& pass)
      : x(x), pass(pass), c(x.channels), width(c / pass.heads), row_pairs(pairs_of<F>(x.width)),
        row_pixels(row_pairs * STEP), rows_at_once(std::max(1, kChunk / row_pixels)),
        layout(row_pairs), next_row(layout.size(3 * c)), projected_layout(rows_at_once * row_pairs) {
    static thread_local Scratch memory[8];
    // The microkernel reads past the last pixel, up to a multiple of MR.
    const long rows = rows_at_once + 2, pixels = rows * row_pixels + MR;
    window = memory[0].template zeroed<packed>(rows * next_row);
    targets = memory[1].template uninitialised<packed*>(pixels);
    if (x.width % STEP) copied = memory[2].template zeroed<scalar>(pixels * 2 * c);
    d_out_rows = memory[3].template zeroed<scalar>(pixels * c);
    normalized = memory[4].template zeroed<scalar>(pixels * c);
    projected = memory[5].template uninitialised<packed>(projected_layout.size(3 * c));
    d_projected = memory[6].template zeroed<scalar>(pixels * 3 * c);
    d_normalized = memory[7].template uninitialised<float>(pixels * c);
  }

  // For a block of pixels: LN(x) + T, and the gradients of q, k and v before the depth-wise
  // convolution.
  struct Block {
    Panels<F> normalized, d_projected;
  };

  void operator()(int tile, const RowTiles& tiles, const Block& block, long first_pair) {
    image = tile / tiles.of_image;
    d_scale = pass.d_scale + (long)tile * c, d_offset = pass.d_offset + (long)tile * c;
    d_kernel = pass.d_kernel + (long)tile * 30 * c;
    std::fill_n(d_scale, c, 0.0f);
    std::fill_n(d_offset, c, 0.0f);
    std::fill_n(d_kernel, 30 * c, 0.0f);
    norm = pass.norm.of_image(image);
    const int first = tile % tiles.of_image * tiles.rows;
    const int end = std::min(first + tiles.rows, x.height);
    // After the tile above, the window holds two of the rows.
    int next = first && tile == last_tile + 1 ? first + 1 : first - 1;
    last_tile = tile;
    for (int done = first; done < end;) {
      const int until = std::min(done + rows_at_once, end);
      differentiate_attention(next, until + 1);
      next = until + 1;
      project(done, until);
      const long pair = first_pair + (long)(done - first) * row_pairs;
      const int pixels = (until - done) * row_pixels;
      block.normalized.put_rows(normalized, c, pixels, pair, pixels / STEP);
      for (int channel = 0; channel < 3 * c; channel += kLanes)
        for (int row = done; row < until; row++) {
          convolve(row, row - done, channel, block.d_projected, pair + (row - done) * row_pairs);
          add_to_kernel(row, row - done, channel);
        }
      differentiate_projection(done, until);
      done = until;
    }
    const long rest = first_pair + (long)(end - first) * row_pairs;
    const long all = first_pair + (long)tiles.rows * row_pairs;
    block.normalized.clear(rest, all);
    block.d_projected.clear(rest, all);
  }

 private:
  // The packed operands before and after those of a row are zero.
  packed* window_row(int row) const { return window + (row + 1) % (rows_at_once + 2) * next_row; }

  long pixel_of(int row) const { return ((long)image * x.height + row) * x.width; }

  // The gradients of q, k and v of rows [first, end); zero outside the image.
  void differentiate_attention(int first, int end) {
    int count = 0;
    kept = copied ? copied : pass.queries_keys + pixel_of(std::max(first, 0)) * 2 * c;
    for (int row = first; row < end; row++) {
      if (row < 0 || row >= x.height) {
        std::memset((void*)window_row(row), 0, sizeof(packed) * next_row);
        continue;
      }
      const long pixel = pixel_of(row);
      if (copied)
        std::copy_n(pass.queries_keys + pixel * 2 * c, 2L * x.width * c, copied + 2L * count * c);
      for (long i = 0; i < (long)x.width * c; i += kLanes)
        F::store(d_out_rows + (long)count * c + i, load(pass.d_out + pixel * c + i));
      for (int pair = 0; pair < row_pairs; pair++)
        targets[count / STEP + pair] = window_row(row) + layout.at(pair, 0);
      count += row_pixels;
    }
    gemm<F, STEP>(d_out_rows, c, count, pass.matrices.values(image), c, c,
                  [&](int p, int n, vec v, vec last) INLINE_LAMBDA {
                    put(p, 2 * c + n, F::interleave(v, last));
                  });
    for (int head = 0; head < pass.heads; head++) {
      differentiate_products(count, 0, head, pass.matrices.queries(image, head));
      differentiate_products(count, 1, head, pass.matrices.keys(image, head));
    }
    if (x.width % STEP)
      for (int row = std::max(first, 0); row < std::min(end, x.height); row++)
        layout.template clear_last<F>(window_row(row), row_pairs - 1, 3 * c);
  }

  // Packed gradients of the pixel in row p of `kept` and `d_out_rows`, and of the next one.
  INLINE void put(int p, long channel, vec gradients) const {
    store((float*)(targets[p / STEP] + channel / kLanes * layout.next_vector), gradients);
  }

  // Of a head's queries (0), from the keys, or of its keys (1), from the queries.
  void differentiate_products(int count, int which, int head, const vec* d_products) {
    const float* d_squares =
        pass.d_squares + ((long)which * x.images + image) * c + head * width;
    const long own = (long)which * c + head * width, others = (1L - which) * c + head * width;
    gemm<F, STEP>(kept + others, 2 * c, count, d_products, width, width,
                  [&](int p, int n, vec v, vec last) INLINE_LAMBDA {
                    const vec twice = 2.0f * load(d_squares + n);
                    const scalar* pixel = kept + (long)p * 2 * c + own + n;
                    v += twice * F::load(pixel);
                    last += twice * F::load(pixel + (STEP - 1L) * 2 * c);
                    put(p, own + n, F::interleave(v, last));
                  });
  }

  // LN(x) + T, and q, k and v before the depth-wise convolution.
  void project(int first, int end) {
    const int count = (end - first) * row_pixels;
    for (int row = first; row < end; row++)
      normalize<F>(x.at(image, (long)row * x.width), c, x.width, c, norm,
                   normalized + (long)(row - first) * row_pixels * c, c);
    gemm<F, STEP>(normalized, c, count, pass.qkv, c, 3 * c,
                  [&](int p, int n, vec v, vec last) INLINE_LAMBDA {
                    const vec bias = load(pass.qkv_bias + n);
                    store((float*)(projected + projected_layout.at(p / STEP, n)),
                          F::interleave(v + bias, last + bias));
                  });
    if (x.width % STEP)
      for (int row = 1; row <= end - first; row++)
        projected_layout.template clear_last<F>(projected, row * row_pairs - 1, 3 * c);
  }

  // The gradient before the depth-wise convolution.
  void convolve(int row, int index, int channel, const Panels<F>& panels, long first_pair) {
    const packed* rows[3];
    for (int i = 0; i < 3; i++) rows[i] = window_row(row - 1 + i) + layout.at(-1, channel);
    scalar* to = d_projected + (long)index * row_pixels * 3 * c + channel;
    packed* in_panel = panels.at(channel, first_pair);
    const int next = panels.width(channel);
    pass.depthwise[channel / kLanes](
        rows, kLanes, row_pairs, [&](int pair, vec first, vec second) INLINE_LAMBDA {
          if (STEP > 1 && pair * STEP + 1 == x.width) second = vec{};
          store((float*)(in_panel + (long)pair * next), F::interleave(first, second));
          F::store(to + (long)pair * STEP * 3 * c, first);
          if (STEP > 1) F::store(to + (pair * STEP + 1L) * 3 * c, second);
        });
  }

  // The gradient of the depth-wise kernel: its input times the gradients of its output.
  void add_to_kernel(int row, int index, int channel) {
    const packed* pixels = projected + projected_layout.at(index * row_pairs, channel);
    const vec ones = F::interleave(broadcast(1.0f), broadcast(1.0f));
    for (int r = 0; r < 3; r++) {
      const float* gradients = (const float*)(window_row(row + 1 - r) + layout.at(-1, channel));
      vec before = load(gradients), here = load(gradients + kLanes), total[4] = {};
      for (int pair = 0; pair < row_pairs; pair++) {
        const vec after = load(gradients + (pair + 2) * kLanes);
        const vec pixel = load((const float*)(pixels + pair * kLanes));
        total[0] = F::dot(total[0], pixel, F::advanced(here, after));
        total[1] = F::dot(total[1], pixel, here);
        total[2] = F::dot(total[2], pixel, F::delayed(before, here));
        total[3] = F::dot(total[3], ones, here);
        before = here;
        here = after;
      }
      for (int i = 0; i < (r == 1 ? 4 : 3); i++) {
        float* to = d_kernel + (i == 3 ? 9 : 3 * r + i) * 3 * c + channel;
        store(to, load(to) + total[i]);
      }
    }
  }

  void differentiate_projection(int first, int end) {
    gemm<F>(d_projected, 3 * c, (end - first) * row_pixels, pass.qkv_transposed, 3 * c, c,
            [&](int p, int n, vec v, vec) INLINE_LAMBDA { store(d_normalized + p * c + n, v); });
    for (int row = first; row < end; row++) {
      const long at = pixel_of(row) * c;
      norm_gradient(d_normalized + (long)(row - first) * row_pixels * c, x.data + at,
                    pass.d_out + at, x.width, c, norm, pass.d_x + at, d_scale, d_offset);
    }
  }

  const Features& x;
  const AttentionBackward<F>& pass;
  const int c, width, row_pairs, row_pixels, rows_at_once;
  const RowLayout layout;
  const long next_row;
  const RowLayout projected_layout;  // of the pixels of all rows as one
  int image, last_tile = -1;
  Norm norm;
  float *d_scale, *d_offset, *d_kernel;
  packed* window;      // a ring of rows of the gradients of q, k and v, one above, one below
  packed** targets;    // where in the window the gradients of the rows of `kept` and `d_out_rows` go
  const scalar* kept;  // queries and keys of rows, made up to whole packed operands
  scalar* copied = nullptr;
  scalar *d_out_rows, *normalized, *d_projected;
  packed* projected;   // q, k and v before the depth-wise convolution
  float* d_normalized;
};

template <class F>
void attention_gradient(const Features& x, const Attention& pass, const AttentionGradient& gradient,
                        const typename F::scalar* queries_keys, const typename F::scalar* values,
                        const float* d_out) {
  typedef typename F::packed packed;
  static thread_local Scratch memory[15];
  const int c = x.channels, heads = pass.heads;
  const bool per_thread = sums_per_thread(x.all_pixels(), c);
  const RowTiles tiles(x, per_thread, F::kDotWidth);
  float* d_projected_attention = memory[12].uninitialised<float>((long)x.images * c * c);
  const SumsGradient d_sums{memory[13].uninitialised<float>((long)x.images * c * (c / heads)),
                            memory[14].uninitialised<float>(2L * x.images * c)};
  projected_attention_gradient<F>(x, values, d_out, d_projected_attention);
  attention_matrices_gradient(pass, d_projected_attention, x.images, c, d_sums,
                              gradient.d_temperature, gradient.d_project);
  const GradientMatrices<F> matrices(pass.matrices.projected, d_sums.products, heads, x.images, c);
  const auto depthwise = depthwise_kernels<F>(memory[0], pass.kernel, 3 * c, 3,
                                              memory[1].zeroed<float>(3 * c), true);
  const AttentionBackward<F> backward{heads,
                                      make_norm(memory[2], pass.norm, x.images, c),
                                      packed_matrix<F>(memory[3], pass.qkv, 3 * c, c),
                                      packed_transpose<F>(memory[4], pass.qkv, c, 3 * c),
                                      padded_channels(memory[5], pass.qkv_bias, 3 * c),
                                      depthwise.data(),
                                      d_sums.squares,
                                      matrices,
                                      queries_keys,
                                      d_out,
                                      gradient.d_x,
                                      memory[6].uninitialised<float>((long)tiles.count * c),
                                      memory[7].uninitialised<float>((long)tiles.count * c),
                                      memory[8].uninitialised<float>(tiles.count * 30L * c)};
  const PixelSum d_qkv(memory[9], per_thread, gradient.d_qkv, 3L * c * c);
  const PixelSum d_bias(memory[10], per_thread, gradient.d_qkv_bias, 3L * c);
  const int tiles_of_block = tiles.block_size(x.width, per_thread);
  const int pairs_of_tile = tiles.rows * pairs_of<F>(x.width);
  const long pairs = (long)tiles_of_block * pairs_of_tile, block_memory = 4L * c * pairs;
  packed* shared = per_thread ? nullptr : memory[11].uninitialised<packed>(block_memory);
  Team team;
#pragma omp parallel
  {
    static thread_local Scratch own;
    packed* to = shared;
    std::optional<AttentionGradientOfTile<F>> tile_gradient;
    team.run([&] {
      if (per_thread) to = own.uninitialised<packed>(block_memory);
      tile_gradient.emplace(x, backward);
    });
    const typename AttentionGradientOfTile<F>::Block block{{to, c, pairs},
                                                           {to + c * pairs, 3 * c, pairs}};
    sum_in_blocks(
        team, per_thread, tiles.count, tiles_of_block,
        [&](int tile, int index) {
          (*tile_gradient)(tile, tiles, block, (long)index * pairs_of_tile);
        },
        [&](int count, bool more, Share share) INLINE_LAMBDA {
          const int summed = count * pairs_of_tile;
          sum_products(block.d_projected, block.normalized, summed, more, d_qkv.here(), c, share);
          if (d_bias.here()) sum_channels(block.d_projected, summed, more, d_bias.here(), share);
        });
  }
  team.check();
  d_qkv.finish();
  d_bias.finish();
  sum_rows(backward.d_scale, tiles.count, c, c, gradient.d_scale);
  sum_rows(backward.d_offset, tiles.count, c, c, gradient.d_offset);
  sum_rows(backward.d_kernel, tiles.count, 30L * c, 30L * c, gradient.d_kernel);
}
