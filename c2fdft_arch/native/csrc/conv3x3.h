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

// What becomes of a pixel's channels.
enum Target : int {
  SAME = 0,     // a pixel
  UNSHUFFLE,    // every fourth channel of the pixel of half the row and column
  SHUFFLE,      // the pixels of a 2 x 2 square, one for each of 4 groups of channels
  JOIN_SHUFFLE  // the same, after the 1x1 convolution of what is there concatenated to them
};

INLINE int groups_of(Target target) { return target == SHUFFLE || target == JOIN_SHUFFLE ? 4 : 1; }

// An image that holds the pixels of another one, rearranged.
struct Arranged {
  Image image;
  Target target;

  struct Channels {
    float* first;
    long next;
  };

  // Of a pixel, a group of channels.
  Channels at(int number, int row, int column, int group) const {
    const long next = image.next_channel;
    switch (target) {
      case SAME:
        return {image.at(number, row, column), next};
      case UNSHUFFLE:
        return {image.at(number, row / 2, column / 2) + (row % 2 * 2 + column % 2) * next, 4 * next};
      default:
        return {image.at(number, 2 * row + group / 2, 2 * column + group % 2), next};
    }
  }

  // Columns [first, end) of a row as numbers, pixels `next_pixel` apart, one group after the other.
  template <class F>
  void read(int number, int row, int first, int end, int channels, typename F::number* to,
            long next_pixel) const {
    const int groups = groups_of(target), own = channels / groups;
    for (int column = first; column < end; column++, to += next_pixel)
      for (int group = 0; group < groups; group++) {
        const auto [from, next] = at(number, row, column, group);
        typename F::number* numbers = to + group * own;
        int c = 0;
        if (next == 1)
          for (; c + LANES <= own; c += LANES) F::store(numbers + c, load(from + c));
        for (; c < own; c++) numbers[c] = F::rounded(from[c * next]);
      }
  }
};

struct Convolution {
  int images, height, width, channels, outputs;
  const vec* weight;  // 9 taps; the outputs in the target's groups, the inputs in the source's
  const float* bias;  // padded
  const vec* reduce;  // 1x1, of both in two groups of inputs: JOIN_SHUFFLE only
  const float* reduce_bias;
};

template <class F>
class RowsOfConvolution {
  typedef typename F::number number;
  typedef typename F::word word;

 public:
  RowsOfConvolution(const Convolution& conv, const Arranged& from, const Arranged& to, int widest)
      : conv(conv), from(from), to(to), padded(round_up(conv.channels, LANES)),
        groups(groups_of(to.target)), own(conv.outputs / groups), padded_own(round_up(own, LANES)),
        widest(widest), rows_together(std::max(1, TILE_PIXELS / widest)),
        next_row((widest + 2L) * padded) {
    static thread_local Scratch window_memory, joined_memory, taps_memory;
    // Of whole register tiles, some pixels past the end are read.
    window = window_memory.take<number>((rows_together + 2) * next_row + ROWS * padded);
    taps = taps_memory.keep<long>(9 * rows_together);
    if (to.target == JOIN_SHUFFLE)
      joined = joined_memory.take<number>((4L * rows_together * widest + ROWS) * 2 * padded_own);
  }

  void operator()(int image, int first, int end, Columns columns) {
    const auto [left, right] = columns;
    std::memset((void*)window, 0, sizeof(number) * (rows_together + 2) * next_row);
    for (int next = first - 1, done = first; done < end;) {
      const int until = std::min(done + rows_together, end);
      for (; next <= until; next++) read(image, next, left, right);
      convolve(image, done, until, left, right - left);
      done = until;
    }
  }

 private:
  number* window_row(int row) const { return window + (row + 1) % (rows_together + 2) * next_row; }

  void read(int image, int row, int left, int right) {
    if (row < 0 || row >= conv.height) {
      std::memset((void*)window_row(row), 0, sizeof(number) * next_row);
      return;
    }
    const int begin = std::max(left - 1, 0), end = std::min(right + 1, conv.width);
    from.read<F>(image, row, begin, end, conv.channels,
                 window_row(row) + (begin - left + 1L) * padded, padded);
  }

  void convolve(int image, int first, int end, int left, int count) {
    long* tap = taps;
    for (int row = first; row < end; row++)
      for (int r = 0; r < 3; r++)
        for (int c = 0; c < 3; c++)
          *tap++ = (window_row(row - 1 + r) - window + c * padded) / F::PER_WORD;
    const int words = (conv.channels + F::PER_WORD - 1) / F::PER_WORD;
    product_of_taps<F>((const word*)window, padded / F::PER_WORD, taps, 9, end - first, count,
                       conv.weight, words, groups * padded_own,
                       [&](const float* tile, int line, int first_pixel, int pixels, int output,
                           int vectors) {
                         for (int m = 0; m < pixels; m++)
                           for (int n = output; n < output + vectors * LANES; n += LANES)
                             put(image, first + line, line, left, first_pixel + m, n,
                                 load(tile + m * PANEL + n - output) + load(conv.bias + n));
                       });
    if (to.target == JOIN_SHUFFLE)
      for (int row = first; row < end; row++)
        for (int below = 0; below < 2; below++)
          join(image, 2 * row + below, joined_pixel(row - first, below, 0), left, count);
  }

  void put(int image, int row, int line, int left, int p, int n, vec v) {
    const int group = n / padded_own, channel = n % padded_own;
    if (to.target == JOIN_SHUFFLE)
      return F::store(joined_pixel(line, group / 2, 2 * p + group % 2) + channel, v);
    const auto [first, next] = to.at(image, row, left + p, group);
    put_channels(first, next, channel, v);
  }

  void put_channels(float* pixel, long next_channel, int first, vec v) const {
    if (next_channel == 1 && first + LANES <= own) return store(pixel + first, v);
    for (int i = 0; i < LANES && first + i < own; i++) pixel[(first + i) * next_channel] = v[i];
  }

  number* joined_pixel(int line, int below, int p) const {
    return joined + ((2L * line + below) * 2 * widest + p) * 2 * padded_own;
  }

  // The 1x1 convolution of a row of what is shuffled, concatenated with what the target's row holds,
  // into the latter.
  void join(int image, int row, number* pixels, int left, int count) {
    const auto target = [&](int p) { return to.image.at(image, row, 2 * left + p); };
    const long next = to.image.next_channel;
    for (int p = 0; p < 2 * count; p++) {
      number* skip = pixels + p * 2L * padded_own + padded_own;
      for (int c = 0; c < own; c++) skip[c] = F::rounded(target(p)[c * next]);
    }
    const long here = 0;
    product_of_taps<F>((const word*)pixels, 2 * padded_own / F::PER_WORD, &here, 1, 1, 2 * count,
                       conv.reduce, 2 * padded_own / F::PER_WORD, padded_own,
                       [&](const float* tile, int, int first, int some, int output, int vectors) {
                         for (int m = 0; m < some; m++)
                           for (int n = output; n < output + vectors * LANES; n += LANES)
                             put_channels(target(first + m), next, n,
                                          load(tile + m * PANEL + n - output) +
                                              load(conv.reduce_bias + n));
                       });
  }

  const Convolution& conv;
  const Arranged &from, &to;
  const int padded, groups, own, padded_own, widest, rows_together;
  const long next_row;
  number* window;            // a ring of rows: those that are convolved, one above, one below
  long* taps;                // in the window, of the first pixel of each of those rows
  number* joined = nullptr;  // for each of them, two rows of what is shuffled and what is joined to it
};

template <class F>
void convolution(const Convolution& conv, const Arranged& from, const Arranged& to, int columns,
                 int bands) {
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
