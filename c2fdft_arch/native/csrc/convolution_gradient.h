// The gradient of the kernel of a 3x3 convolution. (That of its input is a convolution.)

#pragma once

#include "convolution.h"
#include "sums.h"

// Sums over pixels of gradients times what is convolved. Images are cut into tiles as wide as the
// image.
//
// They are made in tap-major order, (9, outputs, channels), padded; the outputs of a group of the
// layout of `d_out` lie together.
template <class F>
class KernelSums {
  typedef typename F::scalar scalar;
  static constexpr int PIXELS = 1024;  // about as many in a block
  static constexpr int MIN_ROWS = 4;

 public:
  KernelSums(const Convolution& conv, const ShuffledView& x, const ShuffledView& d_out)
      : conv(conv), x(x), d_out(d_out), pairs(pairs_of<F>(conv.width)),
        rows(std::min(conv.height, std::max(MIN_ROWS, kSumPairs / pairs))),
        of_image((conv.height + rows - 1) / rows), count(conv.images * of_image),
        block(std::min(count, std::max(2 * omp_get_max_threads(), PIXELS / (rows * conv.width)))),
        next_row(round_up(conv.channels, kPanel)),
        next_tap(round_up(conv.outputs, kLanes) * next_row) {
    static thread_local Scratch memory, sums_memory;
    const int channels = round_up(conv.channels, kLanes), outputs = round_up(conv.outputs, kLanes);
    sums = sums_memory.uninitialised<float>(9 * next_tap);
    const long of_x = (rows + 2L) * pairs * block;
    auto* to = memory.uninitialised<typename F::packed>((3L * channels + outputs) * of_x);
    for (int i = 0; i < 3; i++) shifted[i] = {to + i * channels * of_x, channels, of_x};
    gradients = {to + 3 * channels * of_x, outputs, of_x};
  }

  void compute() const {
    Team team;
#pragma omp parallel
    {
      static thread_local Scratch line_memory;
      const long padded = std::max(shifted[0].channels, gradients.channels);
      scalar* line = nullptr;
      team.run([&] { line = line_memory.zeroed<scalar>((conv.width + 2) * padded); });
      for (int first = 0; first < count; first += block) {
        const int tiles = std::min(block, count - first);
#pragma omp for schedule(static)
        for (int i = 0; i < tiles; i++)
          team.run([&] {
            put_pixels(first + i, i, line);
            put_gradients(first + i, i, line);
          });
        add(tiles, first > 0);
#pragma omp barrier
      }
    }
    team.check();
  }

  // The sums in the order of the weight, (outputs, channels, 3, 3).
  void copy_to(float* weight) const {
    const int groups = d_out.groups();
#pragma omp parallel for schedule(static)
    for (int output = 0; output < conv.outputs; output++) {
      const float* from =
          sums + (output % groups * (conv.outputs / groups) + output / groups) * next_row;
      for (int i = 0; i < conv.channels; i++)
        for (int tap = 0; tap < 9; tap++)
          weight[(output * (long)conv.channels + i) * 9 + tap] = from[tap * next_tap + i];
    }
  }

 private:
  // What is convolved, once for each column of the kernel, with a row above and one below.
  void put_pixels(int tile, int index, scalar* line) const {
    const int first = tile % of_image * rows, padded = shifted[0].channels;
    std::memset((void*)line, 0, sizeof(scalar) * (conv.width + 2L) * padded);
    for (int row = first - 1; row <= first + rows; row++) {
      const long pair = (index * (rows + 2L) + row - first + 1) * pairs;
      const bool inside = row >= 0 && row < conv.height;
      if (inside)
        x.read<F>(tile / of_image, row, 0, conv.width, conv.channels, line + padded, padded);
      for (int column = 0; column < 3; column++) {
        if (inside)
          shifted[column].put_rows(line + column * padded, padded, conv.width, pair, pairs);
        else
          shifted[column].clear(pair, pair + pairs);
      }
    }
  }

  void put_gradients(int tile, int index, scalar* line) const {
    const int first = tile % of_image * rows, padded = gradients.channels;
    std::memset((void*)line, 0, sizeof(scalar) * (conv.width + 2L) * padded);
    for (int row = first; row < first + rows; row++) {
      const long pair = ((long)index * rows + row - first) * pairs;
      if (row < conv.height) {
        d_out.read<F>(tile / of_image, row, 0, conv.width, conv.outputs, line, padded);
        gradients.put_rows(line, padded, conv.width, pair, pairs);
      } else {
        gradients.clear(pair, pair + pairs);
      }
    }
  }

  // Called by all threads of a team, which do not wait for each other at the end.
  void add(int tiles, bool more) const {
    const int outputs = round_up(conv.outputs, MR), channels = shifted[0].channels;
    const int groups = (outputs + kSumRows - 1) / kSumRows;
    const int panels = (channels + kPanel - 1) / kPanel;
    const int of_tile = rows * pairs, tiles_at_once = std::max(1, kSumPairs / of_tile);
#pragma omp for schedule(static) nowait
    for (int i = 0; i < 9 * groups * panels; i++) {
      const int tap = i / (groups * panels), n = i / groups % panels * kPanel;
      const int from = i % groups * kSumRows;
      const Panels<F>& pixels = shifted[tap % 3];
      const int width = pixels.width(n);
      for (int done = 0; done < tiles; done += tiles_at_once)
        for (int m = from; m < std::min(from + kSumRows, outputs); m += MR)
          sum_rows_of_products<F>(
              gradients.at(m, (long)done * of_tile), 1, gradients.width(m),
              (const float*)pixels.at(n, (done * (rows + 2L) + tap / 3) * pairs), width, of_tile,
              width / kLanes, more || done > 0,
              sums + tap * next_tap + m * next_row + n, next_row,
              std::min(tiles_at_once, tiles - done), (long)of_tile * gradients.width(m),
              (rows + 2L) * pairs * width);
    }
  }

  const Convolution& conv;
  const ShuffledView &x, &d_out;
  const int pairs;  // of a row
  const int rows, of_image, count, block;  // of tiles
  const long next_row, next_tap;
  float* sums;
  Panels<F> shifted[3], gradients;
};

// d_weight (outputs, channels, 3, 3).
template <class F>
void convolution_weight_gradient(const Convolution& conv, const ShuffledView& x,
                                 const ShuffledView& d_out, float* d_weight) {
  const KernelSums<F> sums(conv, x, d_out);
  sums.compute();
  sums.copy_to(d_weight);
}
