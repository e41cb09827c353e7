// Feature maps and images in memory, and the tiles that they are cut into for the threads.

#pragma once

#include <algorithm>

#include "formats.h"

// Feature maps (B, H, W, C) in float32: the pixels of an image follow row by row, `next_pixel` apart.
struct Features {
  float* data;
  long next_image, next_pixel;
  int images, height, width, channels;

  long pixels() const { return (long)height * width; }  // of an image
  long all_pixels() const { return images * pixels(); }
  float* at(int image, long pixel) const { return data + image * next_image + pixel * next_pixel; }
};

// How the pixels of a convolution lie in memory.
enum Layout : int {
  SAME = 0,     // as they are
  UNSHUFFLE,    // pixel-unshuffled by 2: the channels of 2 x 2 pixels are those of one, interleaved
  SHUFFLE,      // pixel-shuffled by 2: 4 groups of channels are the pixels of a 2 x 2 square
  JOIN_SHUFFLE  // shuffled, and to be concatenated with what is there and reduced by a 1x1 kernel
};

// Images (B, C, H, W) in float32 with any strides, read and written as if they were not shuffled.
struct ShuffledView {
  float* data;
  long next_image, next_channel, next_row, next_column;
  Layout layout;

  int groups() const { return layout == SHUFFLE || layout == JOIN_SHUFFLE ? 4 : 1; }

  float* stored(int image, long row, long column) const {
    return data + image * next_image + row * next_row + column * next_column;
  }

  struct Channels {
    float* first;
    long next;
  };

  // The channels of a group at a pixel.
  Channels at(int image, int row, int column, int group) const {
    switch (layout) {
      case SAME:
        return {stored(image, row, column), next_channel};
      case UNSHUFFLE:
        return {stored(image, row / 2, column / 2) + (row % 2 * 2 + column % 2) * next_channel,
                4 * next_channel};
      default:
        return {stored(image, 2 * row + group / 2, 2 * column + group % 2), next_channel};
    }
  }

  // Columns [first, end) of a row as scalars, pixels `next_pixel` apart, one group after the other.
  template <class F>
  void read(int image, int row, int first, int end, int channels, typename F::scalar* to,
            long next_pixel) const {
    const int own = channels / groups();
    for (int column = first; column < end; column++, to += next_pixel)
      for (int group = 0; group < groups(); group++) {
        const auto [from, next] = at(image, row, column, group);
        typename F::scalar* scalars = to + group * own;
        int c = 0;
        if (next == 1)
          for (; c + kLanes <= own; c += kLanes) F::store(scalars + c, load(from + c));
        for (; c < own; c++) scalars[c] = F::rounded(from[c * next]);
      }
  }
};

// Columns beside a tile that a 3x3 kernel reads, made up to whole pairs of pixels.
constexpr int kHalo = 2;

struct Tile {
  int image, top, bottom, left, right;  // rows [top, bottom), columns [left, right)

  int width() const { return right - left; }
};

// Images cut into tiles of `columns` columns, `down` of them above each other. The first and the last
// have a halo on one side only and are wider by as much: with halos all have the same width.
struct TileGrid {
  int images, height, width, columns, down;

  int across() const { return std::max(1, (width - 2 * kHalo + columns - 1) / columns); }
  int of_image() const { return across() * down; }
  int count() const { return images * of_image(); }
  int width_with_halo() const { return columns + 2 * kHalo; }

  // Those of an image follow each other.
  Tile tile(int index) const {
    const long i = index / down % across(), j = index % down;
    return {index / of_image(), (int)(height * j / down), (int)(height * (j + 1) / down),
            (int)(i ? kHalo + i * columns : 0),
            (int)(i + 1 == across() ? width : kHalo + (i + 1) * columns)};
  }
};
