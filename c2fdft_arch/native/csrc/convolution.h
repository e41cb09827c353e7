// 3x3 convolutions between the levels of the network, with the shuffles before and after them.

#pragma once

#include <optional>

#include "features.h"
#include "microkernel.h"

struct Convolution {
  int images, height, width, channels, outputs;
  const float *weight, *bias;         // (outputs, channels, 9 taps), (outputs); biases may be null
  const float *reduce, *reduce_bias;  // (outputs / 4, outputs / 2), (outputs / 4); JOIN_SHUFFLE only
  long next_output, next_input, next_tap;  // strides of the weight
};

// The weights as the kernels take them: outputs in the groups of the target's layout, padded.
struct PackedConvolution {
  const vec* weight;
  const float* bias;
  const vec* reduce;  // its inputs in two groups, the shuffled and the joined
  const float* reduce_bias;
};

// Convolves a tile, some rows at a time.
template <class F>
class ConvolutionOfTile {
  typedef typename F::scalar scalar;
  typedef typename F::packed packed;

 public:
  ConvolutionOfTile(const Convolution& conv, const PackedConvolution& weights,
                    const ShuffledView& from, const ShuffledView& to, int widest)
      : conv(conv), weights(weights), from(from), to(to), padded(round_up(conv.channels, kLanes)),
        own(conv.outputs / to.groups()), padded_own(round_up(own, kLanes)), widest(widest),
        rows_at_once(std::max(1, kChunk / widest)), next_row((widest + 2L) * padded) {
    static thread_local Scratch window_memory, joined_memory, taps_memory;
    // The microkernel reads some pixels past the last.
    window = window_memory.zeroed<scalar>((rows_at_once + 2) * next_row + MR * padded);
    taps = taps_memory.uninitialised<long>(9 * rows_at_once);
    if (to.layout == JOIN_SHUFFLE)
      joined = joined_memory.zeroed<scalar>((4L * rows_at_once * widest + MR) * 2 * padded_own);
  }

  void operator()(const Tile& tile_) {
    tile = tile_;
    std::memset((void*)window, 0, sizeof(scalar) * (rows_at_once + 2) * next_row);
    for (int next = tile.top - 1, done = tile.top; done < tile.bottom;) {
      const int until = std::min(done + rows_at_once, tile.bottom);
      for (; next <= until; next++) read(next);
      convolve(done, until);
      done = until;
    }
  }

 private:
  scalar* window_row(int row) const { return window + (row + 1) % (rows_at_once + 2) * next_row; }

  void read(int row) {
    if (row < 0 || row >= conv.height) {
      std::memset((void*)window_row(row), 0, sizeof(scalar) * next_row);
      return;
    }
    const int begin = std::max(tile.left - 1, 0), end = std::min(tile.right + 1, conv.width);
    from.read<F>(tile.image, row, begin, end, conv.channels,
                 window_row(row) + (begin - tile.left + 1L) * padded, padded);
  }

  void convolve(int first, int end) {
    long* tap = taps;
    for (int row = first; row < end; row++)
      for (int r = 0; r < 3; r++)
        for (int c = 0; c < 3; c++)
          *tap++ = (window_row(row - 1 + r) - window + c * padded) / F::kDotWidth;
    implicit_gemm<F>((const packed*)window, padded / F::kDotWidth, taps, 9, end - first,
                     tile.width(), weights.weight, pairs_of<F>(conv.channels),
                     to.groups() * padded_own,
                     [&](const float* result, int line, int first_pixel, int pixels, int output,
                         int vectors) {
                       for (int m = 0; m < pixels; m++)
                         for (int n = output; n < output + vectors * kLanes; n += kLanes)
                           put(first + line, line, first_pixel + m, n,
                               load(result + m * kPanel + n - output) + load(weights.bias + n));
                     });
    if (to.layout == JOIN_SHUFFLE)
      for (int row = first; row < end; row++)
        for (int below = 0; below < 2; below++)
          join(2 * row + below, joined_pixel(row - first, below, 0));
  }

  void put(int row, int line, int p, int n, vec v) {
    const int group = n / padded_own, channel = n % padded_own;
    if (to.layout == JOIN_SHUFFLE)
      return F::store(joined_pixel(line, group / 2, 2 * p + group % 2) + channel, v);
    const auto [first, next] = to.at(tile.image, row, tile.left + p, group);
    put_channels(first, next, channel, v);
  }

  void put_channels(float* pixel, long next_channel, int first, vec v) const {
    if (next_channel == 1 && first + kLanes <= own) return store(pixel + first, v);
    for (int i = 0; i < kLanes && first + i < own; i++) pixel[(first + i) * next_channel] = v[i];
  }

  scalar* joined_pixel(int line, int below, int p) const {
    return joined + ((2L * line + below) * 2 * widest + p) * 2 * padded_own;
  }

  // The 1x1 convolution of a row of shuffled pixels, concatenated with what the target's row holds,
  // into the latter.
  void join(int row, scalar* pixels) {
    const auto target = [&](int p) { return to.stored(tile.image, row, 2 * tile.left + p); };
    const int count = 2 * tile.width(), pairs = 2 * padded_own / F::kDotWidth;
    for (int p = 0; p < count; p++) {
      scalar* skip = pixels + p * 2L * padded_own + padded_own;
      for (int c = 0; c < own; c++) skip[c] = F::rounded(target(p)[c * to.next_channel]);
    }
    const long here = 0;
    implicit_gemm<F>((const packed*)pixels, pairs, &here, 1, 1, count, weights.reduce, pairs,
                     padded_own,
                     [&](const float* result, int, int first, int rows, int output, int vectors) {
                       for (int m = 0; m < rows; m++)
                         for (int n = output; n < output + vectors * kLanes; n += kLanes)
                           put_channels(target(first + m), to.next_channel, n,
                                        load(result + m * kPanel + n - output) +
                                            load(weights.reduce_bias + n));
                     });
  }

  const Convolution& conv;
  const PackedConvolution& weights;
  const ShuffledView &from, &to;
  const int padded, own, padded_own, widest, rows_at_once;
  const long next_row;
  Tile tile;
  scalar* window;            // a ring of rows: those that are convolved, one above, one below
  long* taps;                // where in the window the first pixel of each of those rows has its taps
  scalar* joined = nullptr;  // for each of them two rows of shuffled pixels, each with its skip
};

template <class F>
void convolution(const Convolution& conv, const ShuffledView& from, const ShuffledView& to,
                 int columns, int down) {
  static thread_local Scratch memory[5];
  // A shuffle makes pixel g of channel c of output 4 c + g.
  const int groups = to.groups(), own = conv.outputs / groups, padded_own = round_up(own, kLanes);
  const WeightShape shape{conv.outputs, conv.channels, groups, 9};
  float* bias = memory[0].zeroed<float>((long)groups * padded_own);
  for (int output = 0; conv.bias && output < conv.outputs; output++)
    bias[output % groups * padded_own + output / groups] = conv.bias[output];
  PackedConvolution weights{
      packed_weight<F>(memory[1], conv.weight,
                       {conv.next_output, groups * conv.next_output, conv.next_input, conv.next_tap},
                       shape),
      bias};
  if (to.layout == JOIN_SHUFFLE) {
    const float* reduce = padded_channels(memory[2], conv.reduce, 2 * own * own, 2 * own);
    weights.reduce = packed_matrix<F>(memory[3], reduce, own, 2 * padded_own);
    weights.reduce_bias = padded_channels(memory[4], conv.reduce_bias, own);
  }
  const TileGrid grid{conv.images, conv.height, conv.width, columns, down};
  Team team;
#pragma omp parallel
  {
    std::optional<ConvolutionOfTile<F>> convolve_tile;
    team.run([&] { convolve_tile.emplace(conv, weights, from, to, grid.width_with_halo()); });
#pragma omp for schedule(dynamic)
    for (int i = 0; i < grid.count(); i++) team.run([&] { (*convolve_tile)(grid.tile(i)); });
  }
  team.check();
}
