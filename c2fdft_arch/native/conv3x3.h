// 3x3 convolutions between the levels of the network, with what changes the sides after them.

#pragma once

#include "products.h"

// A float32 image (B, C, H, W) in any layout.
struct Image {
  float* data;
  long next_image, next_channel, next_row, next_column;

  float* at(int image, long row, long column) const {
    return data + image * next_image + row * next_row + column * next_column;
  }
};

// What becomes of a pixel's output channels.
enum Target : int {
  SAME = 0,     // a pixel
  UNSHUFFLE,    // every fourth channel of the pixel of half the row and column
  SHUFFLE,      // the pixels of a 2 x 2 square, one for each of 4 groups of channels
  JOIN_SHUFFLE  // the same, after the 1x1 convolution of what is there concatenated to them
};

struct Convolution {
  int images, height, width, channels, outputs, groups;
  const vec* weight;  // 9 taps
  const float* bias;  // padded
  Target target;
  const vec* reduce;  // 1x1, of both in two groups of inputs: JOIN_SHUFFLE only
  const float* reduce_bias;
};

template <class F>
class RowsOfConvolution {
  typedef typename F::number number;
  typedef typename F::word word;

 public:
  RowsOfConvolution(const Convolution& conv, const Image& from, const Image& to, int widest)
      : conv(conv), from(from), to(to), padded(round_up(conv.channels, LANES)),
        own(conv.outputs / conv.groups), padded_own(round_up(own, LANES)),
        widest(widest), next_row((widest + 2L) * padded) {
    static thread_local Scratch window_memory, joined_memory;
    // Of whole register tiles, some pixels past the end are read.
    window = window_memory.take<number>(3 * next_row + ROWS * padded);
    if (conv.target == JOIN_SHUFFLE)
      joined = joined_memory.take<number>((4L * widest + ROWS) * 2 * padded_own);
  }

  void operator()(int image, int first, int end, Columns columns) {
    const auto [left, right] = columns;
    std::memset((void*)window, 0, sizeof(number) * 3 * next_row);
    for (int row = first - 1; row <= end; row++) {
      read(image, row, left, right);
      if (row > first) convolve(image, row - 1, left, right - left);
    }
  }

 private:
  int slot(int row) const { return (row + 3) % 3; }

  void read(int image, int row, int left, int right) {
    number* of_row = window + slot(row) * next_row;
    if (row < 0 || row >= conv.height) {
      std::memset((void*)of_row, 0, sizeof(number) * next_row);
      return;
    }
    for (int column = std::max(left - 1, 0); column < std::min(right + 1, conv.width); column++) {
      const float* pixel = from.at(image, row, column);
      number* numbers = of_row + (column - left + 1L) * padded;
      int c = 0;
      if (from.next_channel == 1)
        for (; c + LANES <= conv.channels; c += LANES) F::store(numbers + c, load(pixel + c));
      for (; c < conv.channels; c++) numbers[c] = F::rounded(pixel[c * from.next_channel]);
    }
  }

  void convolve(int image, int row, int left, int count) {
    long taps[9];
    for (int r = 0; r < 3; r++)
      for (int c = 0; c < 3; c++)
        taps[3 * r + c] = (slot(row - 1 + r) * next_row + c * padded) / F::PER_WORD;
    const int words = (conv.channels + F::PER_WORD - 1) / F::PER_WORD;
    product_of_taps<F>((const word*)window, padded / F::PER_WORD, taps, 9, count, conv.weight, words,
                       conv.groups * padded_own,
                       [&](const float* tile, int first, int pixels, int output, int vectors) {
                         for (int m = 0; m < pixels; m++)
                           for (int n = output; n < output + vectors * LANES; n += LANES)
                             put(image, row, left, first + m, n,
                                 load(tile + m * PANEL + n - output) + load(conv.bias + n));
                       });
    if (conv.target == JOIN_SHUFFLE)
      for (int below = 0; below < 2; below++) join(image, row, below, left, count);
  }

  void put(int image, int row, int left, int p, int n, vec v) {
    const int group = n / padded_own, channel = n % padded_own;
    const int column = left + p;
    switch (conv.target) {
      case SAME:
        return put_channels(to.at(image, row, column), to.next_channel, channel, v);
      case UNSHUFFLE: {
        float* pixel = to.at(image, row / 2, column / 2) + (row % 2 * 2 + column % 2) * to.next_channel;
        return put_channels(pixel, 4 * to.next_channel, channel, v);
      }
      case SHUFFLE:
        return put_channels(to.at(image, 2 * row + group / 2, 2 * column + group % 2),
                            to.next_channel, channel, v);
      case JOIN_SHUFFLE:
        F::store(joined_pixel(group / 2, 2 * p + group % 2) + channel, v);
    }
  }

  void put_channels(float* pixel, long next_channel, int first, vec v) const {
    if (next_channel == 1 && first + LANES <= own) return store(pixel + first, v);
    for (int i = 0; i < LANES && first + i < own; i++) pixel[(first + i) * next_channel] = v[i];
  }

  number* joined_pixel(int below, int p) const {
    return joined + (long)(below * 2 * widest + p) * 2 * padded_own;
  }

  // The 1x1 convolution of a shuffled row concatenated with what its target holds, into the target.
  void join(int image, int row, int below, int left, int count) {
    const auto target = [&](int p) { return to.at(image, 2 * row + below, 2 * left + p); };
    for (int p = 0; p < 2 * count; p++) {
      number* skip = joined_pixel(below, p) + padded_own;
      for (int c = 0; c < own; c++) skip[c] = F::rounded(target(p)[c * to.next_channel]);
    }
    const long here = 0;
    product_of_taps<F>((const word*)joined_pixel(below, 0), 2 * padded_own / F::PER_WORD, &here, 1,
                       2 * count, conv.reduce, 2 * padded_own / F::PER_WORD, padded_own,
                       [&](const float* tile, int first, int pixels, int output, int vectors) {
                         for (int m = 0; m < pixels; m++)
                           for (int n = output; n < output + vectors * LANES; n += LANES)
                             put_channels(target(first + m), to.next_channel, n,
                                          load(tile + m * PANEL + n - output) + load(conv.reduce_bias + n));
                       });
  }

  const Convolution& conv;
  const Image &from, &to;
  const int padded, own, padded_own, widest;
  const long next_row;
  number* window;            // a ring of three rows
  number* joined = nullptr;  // two rows of what is shuffled and what it is concatenated with
};

template <class F>
void convolution(const Convolution& conv, const Image& from, const Image& to, int columns, int bands) {
  const int across = pieces_across(conv.width, columns), count = conv.images * across * bands;
#pragma omp parallel
  {
    RowsOfConvolution<F> rows(conv, from, to, columns + 2 * NEIGHBOURS);
#pragma omp for schedule(dynamic)
    for (int i = 0; i < count; i++) {
      const long band = i % bands;
      rows(i / bands / across, conv.height * band / bands, conv.height * (band + 1) / bands,
           Columns(conv.width, columns, i / bands % across));
    }
  }
}
