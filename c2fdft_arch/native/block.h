// The two passes of a Transformer block over feature maps (B, H, W, C); see strip_block.py.

#pragma once

#include "products.h"

// Feature maps in float32, whose pixels may lie apart; those of an image follow row by row.
struct Features {
  float* data;
  long next_image, next_pixel;
  int images, height, width, channels;

  float* at(int image, long pixel) const { return data + image * next_image + pixel * next_pixel; }
};

struct FirstPass {
  int heads;
  Norm norm;
  const vec* qkv;             // weight, in 3 groups
  const float* qkv_bias;      // (3, padded C)
  const float* kernel;        // of the depth-wise convolution: (9, 3, padded C)
  const float* kernel_bias;   // (3, padded C)
};

// Sizes of the sums of a piece: q^T k of each head, and the squares of q and k.
struct SumsShape {
  int heads, width, rows, columns, channels;

  SumsShape(int all_channels, int heads)
      : heads(heads), width(all_channels / heads), rows(round_up(width, ROWS)),
        columns(round_up(width, PANEL)), channels(round_up(all_channels, LANES)) {}
  long products() const { return (long)heads * rows * columns; }
  long squares() const { return 2L * channels; }
};

// A piece of an image for which queries, keys and values are computed, some rows at a time.
template <class F>
class PieceOfFirstPass {
  typedef typename F::number number;
  typedef typename F::word word;

 public:
  PieceOfFirstPass(const Features& x, const FirstPass& pass, int widest)
      : x(x), pass(pass), sums_shape(x.channels, pass.heads), padded(round_up(x.channels, LANES)),
        rows_together(std::max(1, 64 / widest)), next_column(3L * padded),
        next_row((widest + 2) * next_column), next_pair(2L * padded + PANEL) {
    static thread_local Scratch normalized_memory, window_memory, pairs_memory, pixels_memory;
    const int rows = rows_together + 2;
    pixels = pixels_memory.take<number*>(rows * (widest + 2));
    normalized = normalized_memory.take<number>((rows * (widest + 2L) + ROWS) * padded);
    window = window_memory.take<number>(rows * next_row);
    const int words_in_row = (widest + F::PER_WORD - 1) / F::PER_WORD;
    pairs = pairs_memory.take<word>(rows_together * words_in_row * next_pair);
  }

  // Rows [first, end) and columns [left, right) of an image.
  void operator()(int image_, int first, int end, int left_, int right_, number* values_,
                  float* products, float* squares) {
    image = image_, left = left_, right = right_, values = values_;
    words_in_row = (right - left + F::PER_WORD - 1) / F::PER_WORD;
    std::memset((void*)window, 0, sizeof(number) * (rows_together + 2) * next_row);
    int filled = 0;
    for (int row = first - 1, done = first; done < end;) {
      const int more = std::min(rows_together + 2 - filled, end + 1 - row);
      project(row, more, window + filled * next_row);
      row += more;
      filled += more;
      const int ready = filled - 2;
      for (int channel = 0; channel < 3 * padded; channel += LANES)
        for (int r = 0; r < ready; r++) convolve(r, done + r, channel);
      add_squares(ready * words_in_row, squares);
      add_products_of_heads(ready * words_in_row, products);
      done += ready;
      // The last two projected rows are carried over.
      std::memmove((void*)window, (void*)(window + ready * next_row), sizeof(number) * 2 * next_row);
      filled = 2;
    }
  }

 private:
  // q, k and v before the depth-wise convolution; zero outside the image.
  void project(int first, int rows, number* to) {
    const int from = std::max(left - 1, 0), until = std::min(right + 1, x.width);
    int count = 0;
    for (int r = 0; r < rows; r++) {
      const int row = first + r;
      if (row < 0 || row >= x.height) {
        std::memset((void*)(to + r * next_row), 0, sizeof(number) * next_row);
        continue;
      }
      normalize<F>(x.at(image, (long)row * x.width + from), x.next_pixel, until - from, x.channels,
                   pass.norm, normalized + (long)count * padded, padded);
      for (int column = from; column < until; column++)
        pixels[count++] = to + r * next_row + (column - left + 1) * next_column;
    }
    product<F>(normalized, padded, count, pass.qkv, x.channels, 3 * padded, [&](int p, int n, vec v) INLINE_LAMBDA {
      F::store(pixels[p] + n, v + load(pass.qkv_bias + n));
    });
  }

  // The depth-wise convolution of a row, for some channels of q, k or v.
  void convolve(int window_row, int row, int channel) {
    const number* from = window + window_row * next_row + channel;
    vec kernel[9], columns[3][3];
    for (int tap = 0; tap < 9; tap++) kernel[tap] = load(pass.kernel + tap * 3L * padded + channel);
    const vec bias = load(pass.kernel_bias + channel);
    for (int c = 0; c < 2; c++)
      for (int r = 0; r < 3; r++) columns[c][r] = F::load(from + r * next_row + c * next_column);
    const auto next = [&](int p) INLINE_LAMBDA {
      vec of_row[3] = {bias, {}, {}};
      for (int r = 0; r < 3; r++) {
        columns[2][r] = F::load(from + r * next_row + (p + 2) * next_column);
        for (int c = 0; c < 3; c++) of_row[r] += kernel[3 * r + c] * columns[c][r];
        columns[0][r] = columns[1][r];
        columns[1][r] = columns[2][r];
      }
      return of_row[0] + of_row[1] + of_row[2];
    };
    const int count = right - left;
    if (channel < 2 * padded) {
      word* to = pairs + window_row * words_in_row * next_pair + channel;
      for (int p = 0; p < count; p += F::PER_WORD, to += next_pair) {
        const vec first = next(p);
        store((float*)to, F::words(first, F::PER_WORD > 1 && p + 1 < count ? next(p + 1) : vec{}));
      }
      return;
    }
    channel -= 2 * padded;
    number* to = values + (((long)image * x.height + row) * x.width + left) * x.channels;
    for (int p = 0; p < count; p++, to += x.channels) {
      if (channel + LANES <= x.channels) {
        F::store(to + channel, next(p));
      } else {
        number some[LANES];
        F::store(some, next(p));
        copy_some(to, some, channel, x.channels);
      }
    }
  }

  void add_squares(int words, float* squares) const {
    for (int channel = 0; channel < 2 * padded; channel += LANES) {
      vec total = load(squares + channel);
      for (int i = 0; i < words; i++)
        total = F::add_square(total, load((const float*)(pairs + i * next_pair + channel)));
      store(squares + channel, total);
    }
  }

  void add_products_of_heads(int words, float* products) const {
    const auto& shape = sums_shape;
    for (int head = 0; head < shape.heads; head++)
      for (int j = 0; j < shape.width; j += PANEL)
        for (int i = 0; i < shape.width; i += ROWS) {
          const word* q = pairs + head * shape.width + i;
          const word* k = pairs + padded + head * shape.width + j;
          float* to = products + ((long)head * shape.rows + i) * shape.columns + j;
          vec total[ROWS][VECTORS];
          for (int m = 0; m < ROWS; m++)
            for (int n = 0; n < VECTORS; n++) total[m][n] = load(to + m * shape.columns + n * LANES);
          add_products<F, VECTORS>(total, q, 1, next_pair, (const float*)k, next_pair, words);
          for (int m = 0; m < ROWS; m++)
            for (int n = 0; n < VECTORS; n++) store(to + m * shape.columns + n * LANES, total[m][n]);
        }
  }

  const Features& x;
  const FirstPass& pass;
  const SumsShape sums_shape;
  const int padded, rows_together;
  const long next_column, next_row, next_pair;
  int image, left, right, words_in_row;
  number *normalized, *window, *values;
  number** pixels;  // of the window, in the order of `normalized`
  word* pairs;  // of q and k: words of pixels that follow each other
};

// Values (B, H * W, C), and for each piece of the images, a band of rows of a column, the sums over
// its pixels (zero before).
template <class F>
void first_pass(const Features& x, const FirstPass& pass, int columns, int bands,
                typename F::number* values, float* products, float* squares) {
  const SumsShape shape(x.channels, pass.heads);
  const int count = x.images * columns * bands;
  const int widest = (x.width + columns - 1) / columns;
#pragma omp parallel
  {
    PieceOfFirstPass<F> piece(x, pass, widest);
#pragma omp for schedule(dynamic)
    for (int i = 0; i < count; i++) {
      const long band = i % bands, column = i / bands % columns;
      piece(i / bands / columns, x.height * band / bands,
            x.height * (band + 1) / bands, x.width * column / columns,
            x.width * (column + 1) / columns, values, products + i * shape.products(),
            squares + i * shape.squares());
    }
  }
}

struct SecondPass {
  int hidden;
  const vec* mixing;  // weight of each image, mixing_vectors apart
  long mixing_vectors;
  const float* mixing_bias;
  Norm norm;
  const vec* expand;
  const float* expand_bias;
  const vec* contract;
  const float* contract_bias;
};

// x += the mixed values, then x += the feed-forward network of LN(x) + T.
template <class F>
void second_pass(const Features& x, const SecondPass& pass, const typename F::number* values) {
  typedef typename F::number number;
  constexpr int PIXELS = 64;
  const int channels = x.channels;
  const int padded = round_up(channels, LANES), padded_hidden = round_up(pass.hidden, LANES);
  const long pixels = (long)x.height * x.width, tiles = (pixels + PIXELS - 1) / PIXELS;
#pragma omp parallel
  {
    static thread_local Scratch normalized_memory, hidden_memory;
    number* normalized = normalized_memory.take<number>((long)PIXELS * padded);
    number* hidden = hidden_memory.take<number>((long)PIXELS * padded_hidden);
#pragma omp for schedule(dynamic, 4)
    for (long i = 0; i < x.images * tiles; i++) {
      const int image = i / tiles;
      const long first = i % tiles * PIXELS;
      const int count = std::min<long>(PIXELS, pixels - first);
      float* to = x.at(image, first);
      const number* from = values + (image * pixels + first) * channels;
      if (count % ROWS) {  // whole register tiles are read: not past the end of the values
        std::copy(from, from + (long)count * channels, hidden);
        from = hidden;
      }
      add_product<F>(from, channels, count, pass.mixing + image * pass.mixing_vectors, channels,
                     channels, pass.mixing_bias, to, x.next_pixel);
      normalize<F>(to, x.next_pixel, count, channels, pass.norm, normalized, padded);
      gelu_product<F>(normalized, padded, count, pass.expand, channels, padded_hidden,
                      pass.expand_bias, hidden, padded_hidden);
      add_product<F>(hidden, padded_hidden, count, pass.contract, pass.hidden, channels,
                     pass.contract_bias, to, x.next_pixel);
    }
  }
}
