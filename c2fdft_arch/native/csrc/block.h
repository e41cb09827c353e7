// The two passes of a Transformer block over feature maps (B, H, W, C); see strip_block.py.

#pragma once

#include <cmath>
#include <vector>

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
  long next_offset;           // from image to image, in the norm's offset
  const vec* qkv;             // weight, in 3 groups
  const float* qkv_bias;      // (3, padded C)
  const float* kernel;        // of the depth-wise convolution: (9, 3, padded C)
  const float* kernel_bias;   // (3, padded C)
  void* queries_keys;         // (B, H * W, 2C) in the number format, where they are kept, or null
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

// The depth-wise kernel of LANES channels. A word holds a pixel, or two that follow each other: a
// result needs the word before, that of the pixel itself, and the word behind.
template <class F>
class DepthwiseKernel {
 public:
  DepthwiseKernel(const float* kernel, long next_tap, const float* bias) : bias(load(bias)) {
    const vec none = {};
    for (int row = 0; row < 3; row++) {
      vec tap[3];
      for (int i = 0; i < 3; i++) tap[i] = load(kernel + (3 * row + i) * next_tap);
      words[row][0] = F::PER_WORD == 1 ? tap[0] : F::words(none, tap[0]);
      words[row][1] = F::PER_WORD == 1 ? tap[1] : F::words(tap[1], tap[2]);
      words[row][2] = F::PER_WORD == 1 ? tap[2] : F::words(tap[0], tap[1]);
      words[row][3] = F::words(tap[2], none);
    }
  }

  // put(word, first, second): results for the pixels of words that follow each other. `rows` are
  // the words before the first one, in the row above, in its own, and in the row below.
  template <class Put>
  INLINE void operator()(const typename F::word* const* rows, long next_word, int count,
                         Put put) const {
    const DepthwiseKernel kernel = *this;  // in registers
    vec before[3], here[3];
    for (int row = 0; row < 3; row++) {
      before[row] = load((const float*)rows[row]);
      here[row] = load((const float*)rows[row] + next_word);
    }
    for (int word = 0; word < count; word++) {
      vec first = kernel.bias, second = kernel.bias;
#pragma GCC unroll 3
      for (int row = 0; row < 3; row++) {
        const vec behind = load((const float*)rows[row] + (word + 2L) * next_word);
        first = F::add_products(first, before[row], kernel.words[row][0]);
        first = F::add_products(first, here[row], kernel.words[row][1]);
        if (F::PER_WORD == 1) {
          first = F::add_products(first, behind, kernel.words[row][2]);
        } else {
          second = F::add_products(second, here[row], kernel.words[row][2]);
          second = F::add_products(second, behind, kernel.words[row][3]);
        }
        before[row] = here[row];
        here[row] = behind;
      }
      put(word, first, second);
    }
  }

 private:
  vec bias, words[3][4];
};

// Those of all channels; `taps` are (9, channels).
template <class F>
std::vector<DepthwiseKernel<F>> depthwise_kernels(const float* taps, int channels, const float* bias) {
  std::vector<DepthwiseKernel<F>> kernels;
  for (int i = 0; i < channels; i += LANES) kernels.emplace_back(taps + i, channels, bias + i);
  return kernels;
}

// Memory in which a row of pixels lies as words, LANES channels after LANES channels: those of words
// that follow each other are read together. One word is before the row's and one behind them.
struct RowLayout {
  long next_vector;  // from LANES channels to the next ones

  RowLayout(int words) : next_vector((words + 2L) * LANES) {}
  long of_row(int channels) const { return channels / LANES * next_vector; }
  long at(int word, int channel) const { return channel / LANES * next_vector + (word + 1L) * LANES; }

  // Zeros for a word of all channels.
  template <class Word>
  void clear(Word* row, int word, int channels) const {
    for (int channel = 0; channel < channels; channel += LANES)
      std::memset((void*)(row + at(word, channel)), 0, LANES * sizeof(Word));
  }

  // A zero for the last number of a word, of all channels.
  template <class F>
  void clear_last(typename F::word* row, int word, int channels) const {
    for (int channel = 0; channel < channels; channel += LANES)
      for (int i = 0; i < LANES; i++)
        ((typename F::number*)(row + at(word, channel) + i))[F::PER_WORD - 1] = 0;
  }
};

// A piece of an image for which queries, keys and values are computed, some rows at a time.
template <class F>
class PieceOfFirstPass {
  typedef typename F::number number;
  typedef typename F::word word;

 public:
  PieceOfFirstPass(const Features& x, const FirstPass& pass, const DepthwiseKernel<F>* depthwise,
                   int widest)
      : x(x), pass(pass), depthwise(depthwise), sums_shape(x.channels, pass.heads),
        padded(round_up(x.channels, LANES)), rows_together(std::max(1, 64 / widest)),
        layout(words_of(widest)), next_row(layout.of_row(3 * padded)), next_pair(2L * padded + PANEL) {
    static thread_local Scratch normalized_memory, window_memory, pairs_memory, places_memory;
    const long rows = rows_together + 2, pixels = rows * (words_of(widest) + 2) * F::PER_WORD;
    places = places_memory.take<word*>(pixels);
    normalized = normalized_memory.take<number>((pixels + ROWS) * padded);
    window = window_memory.take<word>(rows * next_row);
    pairs = pairs_memory.take<word>((long)rows_together * words_of(widest) * next_pair);
  }

  // Rows [first, end) of some columns of an image.
  void operator()(int image_, int first, int end, Columns columns, number* values_, float* products,
                  float* squares) {
    image = image_, left = columns.left, right = columns.right, values = values_;
    words_in_row = words_of(right - left);
    for (int next = first - 1, done = first; done < end;) {
      const int until = std::min(done + rows_together, end);
      project(next, until + 1);
      next = until + 1;
      for (int channel = 0; channel < 3 * padded; channel += LANES)
        for (int row = done; row < until; row++) convolve(row, row - done, channel);
      const int words = (until - done) * words_in_row;
      add_squares(words, squares);
      add_products_of_heads(words, products);
      done = until;
    }
  }

 private:
  static int words_of(int pixels) { return (pixels + F::PER_WORD - 1) / F::PER_WORD; }

  word* window_row(int row) const { return window + (row + 1) % (rows_together + 2) * next_row; }

  // q, k and v of rows [first, end) before the depth-wise convolution. Zero outside the image.
  void project(int first, int end) {
    const int from = left > 0 ? left - F::PER_WORD : 0;
    const int until = std::min(right + F::PER_WORD, x.width);
    Norm norm = pass.norm;
    norm.offset += image * pass.next_offset;
    int count = 0;
    for (int row = first; row < end; row++) {
      word* words = window_row(row);
      if (row < 0 || row >= x.height) {
        std::memset((void*)words, 0, sizeof(word) * next_row);
        continue;
      }
      normalize<F>(x.at(image, (long)row * x.width + from), x.next_pixel, until - from, x.channels,
                   norm, normalized + (long)count * padded, padded);
      const int first_word = left ? -1 : 0;
      for (int p = 0; p < words_of(until - from) * F::PER_WORD; p++)
        places[count++] = words + layout.at(first_word + p / F::PER_WORD, 0);
    }
    product<F, F::PER_WORD>(normalized, padded, count, pass.qkv, x.channels, 3 * padded,
                            [&](int p, int n, vec v, vec last) INLINE_LAMBDA {
                              const vec bias = load(pass.qkv_bias + n);
                              store((float*)(places[p] + n / LANES * layout.next_vector),
                                    F::words(v + bias, last + bias));
                            });
    for (int row = first; row < end; row++) {
      word* words = window_row(row);
      if (left == 0) layout.clear(words, -1, 3 * padded);
      if (right == x.width) {
        if ((right - left) % F::PER_WORD)
          layout.template clear_last<F>(words, words_in_row - 1, 3 * padded);
        layout.clear(words, words_in_row, 3 * padded);
      }
    }
  }

  // The depth-wise convolution of a row, for some channels of q, k or v.
  void convolve(int row, int row_of_pairs, int channel) {
    const word* rows[3];
    for (int i = 0; i < 3; i++) rows[i] = window_row(row - 1 + i) + layout.at(-1, channel);
    const DepthwiseKernel<F>& kernel = depthwise[channel / LANES];
    const int count = right - left;
    if (channel < 2 * padded) {
      word* to = pairs + row_of_pairs * words_in_row * next_pair + channel;
      kernel(rows, LANES, words_in_row, [&](int word, vec first, vec second) INLINE_LAMBDA {
        if (F::PER_WORD > 1 && word * F::PER_WORD + 1 == count) second = vec{};
        store((float*)(to + word * next_pair), F::words(first, second));
        if (pass.queries_keys) keep(row, word * F::PER_WORD, channel, first, second);
      });
      return;
    }
    channel -= 2 * padded;
    number* to = values + (((long)image * x.height + row) * x.width + left) * x.channels;
    const auto put = [&](int p, vec v) INLINE_LAMBDA {
      number* pixel = to + (long)p * x.channels;
      if (channel + LANES <= x.channels) return F::store(pixel + channel, v);
      number some[LANES];
      F::store(some, v);
      std::copy(some, some + x.channels - channel, pixel + channel);
    };
    kernel(rows, LANES, words_in_row, [&](int word, vec first, vec second) INLINE_LAMBDA {
      put(word * F::PER_WORD, first);
      if (F::PER_WORD > 1 && word * F::PER_WORD + 1 < count) put(word * F::PER_WORD + 1, second);
    });
  }

  // Only where channels are whole vectors.
  void keep(int row, int p, int channel, vec first, vec second) const {
    const long pixel = ((long)image * x.height + row) * x.width + left + p;
    number* to = (number*)pass.queries_keys + pixel * 2 * x.channels + channel;
    F::store(to, first);
    if (F::PER_WORD > 1 && left + p + 1 < right) F::store(to + 2 * x.channels, second);
  }

  void add_squares(int words, float* squares) const {
    for (int channel = 0; channel < 2 * padded; channel += LANES) {
      vec total = load(squares + channel);
      for (int i = 0; i < words; i++) {
        const vec pair = load((const float*)(pairs + i * next_pair + channel));
        total = F::add_products(total, pair, pair);
      }
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
  const DepthwiseKernel<F>* depthwise;
  const SumsShape sums_shape;
  const int padded, rows_together;
  const RowLayout layout;
  const long next_row, next_pair;
  int image, left, right, words_in_row;
  number *normalized, *values;
  word* window;   // a ring of projected rows: those that are convolved, one above, one below
  word* pairs;    // of q and k, behind the convolution
  word** places;  // in the window, of the pixels in `normalized`
};

// Values (B, H * W, C), and for each piece of the images, a band of rows of `columns` columns, the
// sums over its pixels (zero before). There are pieces(width, columns) times bands of an image.
template <class F>
void first_pass(const Features& x, const FirstPass& pass, int columns, int bands,
                typename F::number* values, float* products, float* squares) {
  const SumsShape shape(x.channels, pass.heads);
  const int across = pieces_across(x.width, columns), count = x.images * across * bands;
  const auto depthwise =
      depthwise_kernels<F>(pass.kernel, 3 * round_up(x.channels, LANES), pass.kernel_bias);
#pragma omp parallel
  {
    PieceOfFirstPass<F> piece(x, pass, depthwise.data(), columns + 2 * NEIGHBOURS);
#pragma omp for schedule(dynamic)
    for (int i = 0; i < count; i++) {
      const long band = i % bands;
      piece(i / bands / across, x.height * band / bands, x.height * (band + 1) / bands,
            Columns(x.width, columns, i / bands % across), values, products + i * shape.products(),
            squares + i * shape.squares());
    }
  }
}

// The output projection (C, C) and what makes attention matrices of the sums.
struct Mixing {
  const float* temperature;  // of each head
  const float* project;      // (C, C), rows for output channels
};

// What the pieces of an image add up to, for a head: q^T k, `next_row` apart, and the squares of q,
// then k.
INLINE void add_pieces(const SumsShape& shape, int pieces, int head, const float* products,
                       const float* squares, float* to, long next_row, float* q, float* k) {
  const int width = shape.width;
  for (int piece = 0; piece < pieces; piece++) {
    const float* some = squares + piece * shape.squares() + head * width;
    const float* p = products + piece * shape.products() + (long)head * shape.rows * shape.columns;
    for (int i = 0; i < width; i++) {
      q[i] += some[i];
      k[i] += some[shape.channels + i];
      for (int j = 0; j < width; j++) to[i * next_row + j] += p[(long)i * shape.columns + j];
    }
  }
}

INLINE float norm_of(float square) { return std::max(std::sqrt(square), 1e-12f); }

// to[i] = 1 / |k_i|, of squares.
INLINE void reciprocal_norms(const float* squares, int width, float* to) {
  for (int i = 0; i < width; i++) to[i] = 1.0f / norm_of(squares[i]);
}

// q^T k (c, c) and squares become the attention matrix, rows `next_row` apart.
INLINE void attend(const float* products, const float* q, const float* k, int width,
                   float temperature, float* attention, long next_row) {
  static thread_local Scratch memory;
  const int padded = round_up(width, LANES);
  float *row = memory.take<float>(2 * padded), *of_k = row + padded;
  reciprocal_norms(k, width, of_k);
  for (int i = 0; i < width; i++) {
    const vec scale = all(temperature / norm_of(q[i]));
    std::copy_n(products + i * next_row, width, row);
    for (int j = 0; j < padded; j += LANES) store(row + j, load(row + j) * load(of_k + j) * scale);
    std::fill(row + width, row + padded, -INFINITY);
    vec largest = load(row), total = {};
    for (int j = LANES; j < padded; j += LANES) largest = larger(largest, load(row + j));
    const float of_all = *std::max_element((float*)&largest, (float*)&largest + LANES);
    for (int j = 0; j < padded; j += LANES) {
      const vec distance = load(row + j) - of_all, power = exp_of_negative(distance);
      store(row + j, distance == distance ? power : distance);  // what is not a number stays so
      total += load(row + j);
    }
    const float sum_of_all = sum(total);
    for (int j = 0; j < width; j++) attention[i * next_row + j] = row[j] / sum_of_all;
  }
}

// W_o A of the images, as weights. The sums of the pieces of an image follow each other.
template <class F>
std::vector<vec> mixing_weights(const Mixing& mixing, int images, int channels, int pieces,
                                const SumsShape& shape, const std::vector<float>& products,
                                const std::vector<float>& squares) {
  const int width = shape.width;
  const long matrix = (long)round_up(channels, ROWS) * channels;
  std::vector<float> mixed(images * matrix);
#pragma omp parallel for collapse(2)
  for (int image = 0; image < images; image++)
    for (int head = 0; head < shape.heads; head++) {
      std::vector<float> attention((long)shape.rows * shape.columns), q(width), k(width);
      add_pieces(shape, pieces, head, products.data() + image * pieces * shape.products(),
                 squares.data() + image * pieces * shape.squares(), attention.data(), shape.columns,
                 q.data(), k.data());
      attend(attention.data(), q.data(), k.data(), width, mixing.temperature[head],
             attention.data(), shape.columns);
      for (int out = 0; out < channels; out += ROWS) {
        std::vector<float> project(ROWS * width);
        for (int m = 0; m < std::min(ROWS, channels - out); m++)
          std::copy_n(mixing.project + (long)(out + m) * channels + head * width, width,
                      project.begin() + m * width);
        for (int in = 0; in < width; in += PANEL) {
          vec total[ROWS][VECTORS] = {};
          add_products<Float32, VECTORS>(total, project.data(), width, 1, attention.data() + in,
                                         shape.columns, width);
          for (int m = 0; m < ROWS; m++)
            std::copy_n((const float*)total[m], std::min(PANEL, width - in),
                        mixed.data() + image * matrix + (long)(out + m) * channels + head * width + in);
        }
      }
    }
  const WeightShape of_weight{channels, channels, 1, 1};
  std::vector<vec> weights(images * of_weight.vectors<F>());
  for (int image = 0; image < images; image++)
    pack<F>(mixed.data() + image * matrix, {0, channels, 1, 0}, of_weight,
            weights.data() + image * of_weight.vectors<F>());
  return weights;
}

struct SecondPass {
  int hidden;
  const float* mixing_bias;
  Norm norm;
  const vec* expand;
  const float* expand_bias;
  const vec* contract;
  const float* contract_bias;
};

// x += the mixed values, then x += the feed-forward network of LN(x) + T.
template <class F>
void second_pass(const Features& x, const SecondPass& pass, const std::vector<vec>& mixing,
                 const typename F::number* values) {
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
      add_product<F>(from, channels, count, mixing.data() + image * mixing.size() / x.images,
                     channels, channels, pass.mixing_bias, to, to, x.next_pixel);
      normalize<F>(to, x.next_pixel, count, channels, pass.norm, normalized, padded);
      gelu_product<F>(normalized, padded, count, pass.expand, channels, padded_hidden,
                      pass.expand_bias, hidden, padded_hidden);
      add_product<F>(hidden, padded_hidden, count, pass.contract, pass.hidden, channels,
                     pass.contract_bias, to, to, x.next_pixel);
    }
  }
}

// The block, in place. `values` (B, H * W, C) is memory for those of all pixels.
template <class F>
void block(const Features& x, const FirstPass& first, const Mixing& mixing, const SecondPass& second,
           int columns, int bands, typename F::number* values) {
  const SumsShape shape(x.channels, first.heads);
  const int pieces = pieces_across(x.width, columns) * bands;
  std::vector<float> products(x.images * pieces * shape.products());
  std::vector<float> squares(x.images * pieces * shape.squares());
  first_pass<F>(x, first, columns, bands, values, products.data(), squares.data());
  const auto weights =
      mixing_weights<F>(mixing, x.images, x.channels, pieces, shape, products, squares);
  second_pass<F>(x, second, weights, values);
}
