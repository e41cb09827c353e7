// The attention half of a block in training, x + DFSA(LN(x) + T), and its gradients.
//
// Of the forward pass x is kept, queries, keys and values behind the depth-wise convolution, and the
// small matrices of attention. The channels of a head are whole vectors.

#pragma once

#include "block.h"
#include "sums.h"
#include "weights.h"

// The small matrices of images: sums over pixels and what is made of them.
struct Matrices {
  const float* temperature;  // of each head
  const float* project;      // W_o (C, C), rows for output channels
  float* products;           // q^T k (B, heads, c, c)
  float* squares;            // of q and k (2, B, C)
  float* attention;          // A (B, heads, c, c)
  float* mixing;             // W_o A (B, C, C)
};

struct Attention {
  int heads;
  ShiftedNorm norm;
  const float *qkv, *qkv_bias;        // (3C, C); biases may be null
  const float *kernel, *kernel_bias;  // of the depth-wise convolution: (3C, 3, 3)
  Matrices matrices;
  const float* project_bias;
};

// What the pieces add up to, and what follows from it.
INLINE void make_matrices(const Matrices& matrices, int images, int channels, int pieces,
                          const SumsShape& shape, const float* products, const float* squares) {
  const int c = shape.width;
  std::memset(matrices.products, 0, sizeof(float) * images * channels * c);
  std::memset(matrices.squares, 0, sizeof(float) * 2 * images * channels);
#pragma omp parallel for collapse(2)
  for (int image = 0; image < images; image++)
    for (int head = 0; head < shape.heads; head++) {
      const long matrix = ((long)image * shape.heads + head) * c * c;
      float* q = matrices.squares + (long)image * channels + head * c;
      float* k = q + (long)images * channels;
      add_pieces(shape, pieces, head, products + image * pieces * shape.products(),
                 squares + image * pieces * shape.squares(), matrices.products + matrix, c, q, k);
      attend(matrices.products + matrix, q, k, c, matrices.temperature[head],
             matrices.attention + matrix, c);
      multiply(matrices.project + head * c, channels, 1, matrices.attention + matrix, c, channels, c, c,
               false, matrices.mixing + (long)image * channels * channels + head * c, channels);
    }
}

// out = x plus the mixed values.
template <class F>
void mix(const Features& x, const typename F::number* values, const float* mixing, const float* bias,
         float* out) {
  typedef typename F::number number;
  static thread_local Scratch weights_memory;
  const int c = x.channels;
  const long pixels = (long)x.height * x.width, tiles = tiles_of(pixels);
  const WeightShape shape{c, c, 1, 1};
  const long vectors = shape.vectors<F>();
  vec* weights = weights_memory.keep<vec>(x.images * vectors);
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (int i = 0; i < x.images; i++)
      pack_alone<F>(mixing + (long)i * c * c, {0, c, 1, 0}, shape, weights + i * vectors);
    static thread_local Scratch rest_memory;
    number* rest = rest_memory.take<number>((long)TILE_PIXELS * c);
#pragma omp for schedule(dynamic)
    for (long i = 0; i < x.images * tiles; i++) {
      const long image = i / tiles, first = i % tiles * TILE_PIXELS, pixel = image * pixels + first;
      const int count = std::min<long>(TILE_PIXELS, pixels - first);
      const number* from = values + pixel * c;
      if (count % ROWS) {  // whole register tiles are read: not past the end of the values
        std::copy_n(from, (long)count * c, rest);
        from = rest;
      }
      add_product<F>(from, c, count, weights + image * vectors, c, c, bias, x.at(image, first),
                     out + pixel * c, c);
    }
  }
}

// `queries_keys` (B * H * W + ROWS, 2C), `values` (B, H * W, C) and the matrices are kept for the
// gradients, for which whole register tiles of the former are read.
template <class F>
void attention(const Features& x, const Attention& pass, int columns, int bands,
               typename F::number* queries_keys, typename F::number* values, float* out) {
  static thread_local Scratch products_memory, squares_memory, memory[6];
  const int c = x.channels;
  const SumsShape shape(c, pass.heads);
  const int pieces = pieces_across(x.width, columns) * bands;
  float* products = products_memory.take<float>(x.images * pieces * shape.products());
  float* squares = squares_memory.take<float>(x.images * pieces * shape.squares());
  const FirstPass first{
      pass.heads, with_offsets(memory[0], pass.norm, x.images, c), c,
      laid_out<F>(memory[1], pass.qkv, 3 * c, c), or_zeros(memory[2], pass.qkv_bias, 3 * c),
      taps_first(memory[3], pass.kernel, 3 * c, false), or_zeros(memory[4], pass.kernel_bias, 3 * c),
      queries_keys};
  first_pass<F>(x, first, columns, bands, values, products, squares);
  make_matrices(pass.matrices, x.images, c, pieces, shape, products, squares);
  mix<F>(x, values, pass.matrices.mixing, or_zeros(memory[5], pass.project_bias, c), out);
}

// d_mixing (B, C, C) is the sum over an image's pixels of gradients times values. Images are cut into
// parts, each of which a thread adds up.
template <class F>
void mixing_gradient(const Features& x, const typename F::number* values, const float* d_out,
                     float* d_mixing) {
  static thread_local Scratch memory;
  constexpr int WORDS = TILE_PIXELS / F::PER_WORD;
  const int c = x.channels, threads = omp_get_max_threads();
  const long pixels = (long)x.height * x.width, matrix = (long)c * c;
  const int tiles = tiles_of(pixels), parts = std::min(tiles, (threads + x.images - 1) / x.images);
  const int together = tiles_together<F>(true, c);
  float* sums = parts == 1 ? d_mixing : memory.keep<float>(x.images * parts * matrix);
#pragma omp parallel
  {
    static thread_local Scratch own;
    const long words = (long)together * WORDS;
    PanelMemory<F> panels(own.keep<typename F::word>(2L * c * words), words);
    const Panels<F> of_values = panels.take(c), of_d_out = panels.take(c);
#pragma omp for schedule(static)
    for (int part = 0; part < x.images * parts; part++) {
      const Share share{part % parts, parts};
      const int begin = share.begin(tiles), end = share.end(tiles);
      for (int first = begin; first < end; first += together) {
        const int count = std::min(together, end - first);
        for (int i = 0; i < count; i++) {
          const long pixel = (first + i) * (long)TILE_PIXELS, at = (part / parts * pixels + pixel) * c;
          const int rows = std::min<long>(TILE_PIXELS, pixels - pixel);
          of_values.put_rows(values + at, c, rows, (long)i * WORDS, WORDS);
          of_d_out.put_rows(d_out + at, c, rows, (long)i * WORDS, WORDS);
        }
        sum_products(of_d_out, of_values, 0, count * WORDS, first > begin, sums + part * matrix, c, {});
      }
    }
  }
  for (int image = 0; parts > 1 && image < x.images; image++)
    sum_rows(sums + image * parts * matrix, parts, matrix, matrix, d_mixing + image * matrix);
}

// Gradients, each in the shape of what it is of; those of biases may be null.
struct AttentionGradient {
  float *d_x, *d_scale, *d_offset, *d_qkv, *d_qkv_bias, *d_kernel, *d_kernel_bias, *d_temperature,
      *d_project;
};

// Gradients of the sums over pixels, of the temperatures and of the output projection.
struct SumsGradient {
  float* products;  // (B, heads, c, c)
  float* squares;   // (2, B, C)
};

// Of a head, given that of A, which is overwritten. d_q and d_k are of the squares of q and k.
INLINE void differentiate_sums(const float* products, const float* q, const float* k,
                               const float* attention, float temperature, int width, float* d,
                               float* d_temperature, float* d_q, float* d_k) {
  static thread_local Scratch memory;
  float *of_q = memory.keep<float>(2 * width), *of_k = of_q + width;
  reciprocal_norms(q, width, of_q);
  reciprocal_norms(k, width, of_k);
  std::fill_n(d_k, width, 0.0f);
  vec of_temperature = {};
  for (int i = 0; i < width; i++, d += width, attention += width, products += width) {
    vec along = {}, of_logarithms = {};
    for (int j = 0; j < width; j += LANES) along += load(d + j) * load(attention + j);
    const float along_row = sum(along);
    for (int j = 0; j < width; j += LANES) {
      const vec of_norms = of_q[i] * load(of_k + j), cosine = load(products + j) * of_norms;
      const vec d_score = load(attention + j) * (load(d + j) - along_row);
      of_temperature += d_score * cosine;
      const vec d_cosine = d_score * temperature;
      store(d + j, d_cosine * of_norms);
      // cosine = product / (|q| |k|), and d|q| / dsquare = 1 / (2 |q|)
      const vec of_logarithm = d_cosine * cosine;
      of_logarithms += of_logarithm;
      store(d_k + j, load(d_k + j) - of_logarithm);
    }
    d_q[i] = q[i] > 1e-24f ? -sum(of_logarithms) / (2 * q[i]) : 0;
  }
  for (int i = 0; i < width; i++) d_k[i] = k[i] > 1e-24f ? d_k[i] / (2 * k[i]) : 0;
  *d_temperature = sum(of_temperature);
}

INLINE void differentiate_matrices(const Matrices& m, int heads, const float* d_mixing, int images,
                                   int channels, const SumsGradient& d, float* d_temperature,
                                   float* d_project) {
  static thread_local Scratch memory, of_images_memory;
  const int c = channels / heads;
  const long matrix = (long)c * c;
  float* of_images = of_images_memory.keep<float>((long)images * heads);
  float* transposed = memory.keep<float>(images * heads * matrix);
#pragma omp parallel
  {
#pragma omp for collapse(2) schedule(static)
    for (int image = 0; image < images; image++)
      for (int head = 0; head < heads; head++) {
        const long at = ((long)image * heads + head) * matrix;
        const long of_q = (long)image * channels + head * c, of_k = of_q + (long)images * channels;
        multiply(m.project + head * c, 1, channels,
                 d_mixing + (long)image * channels * channels + head * c, channels, c, c, channels,
                 false, d.products + at, c);
        differentiate_sums(m.products + at, m.squares + of_q, m.squares + of_k, m.attention + at,
                           m.temperature[head], c, d.products + at,
                           of_images + (long)image * heads + head, d.squares + of_q,
                           d.squares + of_k);
        for (int i = 0; i < c; i++)
          for (int j = 0; j < c; j++)
            transposed[at + (long)j * c + i] = m.attention[at + (long)i * c + j];
      }
#pragma omp for collapse(2) schedule(static)
    for (int head = 0; head < heads; head++)
      for (int row = 0; row < channels; row += LANES)
        for (int image = 0; image < images; image++)
          multiply(d_mixing + ((long)image * channels + row) * channels + head * c, channels, 1,
                   transposed + ((long)image * heads + head) * matrix, c, LANES, c, c, image > 0,
                   d_project + (long)row * channels + head * c, channels);
  }
  std::fill_n(d_temperature, heads, 0.0f);
  for (int i = 0; i < images * heads; i++) d_temperature[i % heads] += of_images[i];
}

// Images are cut into bands of rows.
struct Bands {
  static constexpr int PIXELS = 1024, LEAST_ROWS = 8, WORDS_ALONE = 256;
  int rows, of_image, count;

  Bands(const Features& x, bool alone, int per_word)
      : rows(std::min(x.height, alone ? std::max(WORDS_ALONE * per_word / x.width, 1)
                                      : std::max(PIXELS / x.width, LEAST_ROWS))),
        of_image((x.height + rows - 1) / rows), count(x.images * of_image) {}

  // Between two sums over pixels: what they leave stays in the shared cache, or that of a core.
  int together(int width, bool alone) const {
    if (alone) return 1;
    return std::min(count, std::max(2 * omp_get_max_threads(), 4 * PIXELS / (rows * width)));
  }
};

// What the gradients of the pixels of an image are multiplied by.
template <class F>
class MatricesOfImages {
 public:
  MatricesOfImages(const float* mixing, const SumsGradient& d, int heads, int images, int channels)
      : heads(heads), width(channels / heads),
        of_head(WeightShape{width, width, 1, 1}.template vectors<F>()),
        of_values(WeightShape{channels, channels, 1, 1}.template vectors<F>()) {
    static thread_local Scratch kept;
    memory = kept.keep<vec>(images * of_image());
#pragma omp parallel for schedule(static)
    for (int i = 0; i < images; i++) {
      vec* next = memory + i * of_image();
      const long matrix = (long)channels * channels, d_matrix = (long)width * width;
      pack_alone<F>(mixing + i * matrix, {0, 1, channels, 0},
                    {channels, channels, 1, 1}, next);
      next += of_values;
      for (int transposed = 0; transposed < 2; transposed++)
        for (int head = 0; head < heads; head++, next += of_head)
          pack_alone<F>(d.products + (i * heads + head) * d_matrix,
                        transposed ? WeightStrides{0, 1, width, 0} : WeightStrides{0, width, 1, 0},
                        {width, width, 1, 1}, next);
    }
  }

  const vec* values(int image) const { return memory + image * of_image(); }
  const vec* queries(int image, int head) const { return values(image) + of_values + head * of_head; }
  const vec* keys(int image, int head) const { return queries(image, heads + head); }

 private:
  long of_image() const { return of_values + 2 * heads * of_head; }

  int heads, width;
  long of_head, of_values;
  vec* memory;
};

// What the bands share; d_scale, d_offset and d_kernel have a row for each band.
struct PassOfBands {
  int heads;
  Norm norm;
  const vec *qkv, *qkv_back;  // the weight and its transpose
  const float* qkv_bias;
  float *d_x, *d_scale, *d_offset;
  float* d_kernel;  // of 9 taps and the bias: (10, 3C)
};

// Bands of gradients, some rows at a time.
template <class F>
class BandOfGradient {
  typedef typename F::number number;
  typedef typename F::word word;
  static constexpr int STEP = F::PER_WORD;

 public:
  BandOfGradient(const Features& x, const PassOfBands& pass, const SumsGradient& d,
                 const MatricesOfImages<F>& matrices, const DepthwiseKernel<F>* depthwise,
                 const number* queries_keys, const float* d_out)
      : x(x), pass(pass), d(d), matrices(matrices), depthwise(depthwise),
        queries_keys(queries_keys), d_out(d_out), c(x.channels), width(c / pass.heads),
        words_in_row(words_of_row(x.width)), row_pixels(words_in_row * STEP),
        rows_together(std::max(1, TILE_PIXELS / row_pixels)), layout(words_in_row),
        next_row(layout.of_row(3 * c)), projected_layout(rows_together * words_in_row) {
    static thread_local Scratch memory[8];
    // Whole register tiles are read, past the last pixel.
    const long rows = rows_together + 2, pixels = rows * row_pixels + ROWS;
    window = memory[0].template take<word>(rows * next_row);
    places = memory[1].template keep<word*>(pixels);
    if (x.width % STEP) copied = memory[2].template take<number>(pixels * 2 * c);
    d_mixed = memory[3].template take<number>(pixels * c);
    normalized = memory[4].template take<number>(pixels * c);
    projected = memory[5].template keep<word>(projected_layout.of_row(3 * c));
    d_projected = memory[6].template take<number>(pixels * 3 * c);
    d_normalized = memory[7].template keep<float>(pixels * c);
  }

  static int words_of_row(int width) { return (width + STEP - 1) / STEP; }

  struct Chunk {
    Panels<F> normalized, d_projected;
  };

  void operator()(int band, const Bands& bands, const Chunk& chunk, long first_word) {
    image = band / bands.of_image;
    d_scale = pass.d_scale + (long)band * c, d_offset = pass.d_offset + (long)band * c;
    d_kernel = pass.d_kernel + (long)band * 30 * c;
    std::fill_n(d_scale, c, 0.0f);
    std::fill_n(d_offset, c, 0.0f);
    std::fill_n(d_kernel, 30 * c, 0.0f);
    norm = pass.norm;
    norm.offset += image * c;
    const int first = band % bands.of_image * bands.rows, end = std::min(first + bands.rows, x.height);
    int next = first && band == last_band + 1 ? first + 1 : first - 1;  // the window may hold two rows
    last_band = band;
    for (int done = first; done < end;) {
      const int until = std::min(done + rows_together, end);
      differentiate_attention(next, until + 1);
      next = until + 1;
      project(done, until);
      const long word = first_word + (long)(done - first) * words_in_row;
      const int pixels = (until - done) * row_pixels;
      chunk.normalized.put_rows(normalized, c, pixels, word, pixels / STEP);
      for (int channel = 0; channel < 3 * c; channel += LANES)
        for (int row = done; row < until; row++) {
          convolve(row, row - done, channel, chunk.d_projected, word + (row - done) * words_in_row);
          add_to_kernel(row, row - done, channel);
        }
      differentiate_projection(done, until);
      done = until;
    }
    const long rest = first_word + (long)(end - first) * words_in_row;
    const long all = first_word + (long)bands.rows * words_in_row;
    chunk.normalized.clear(rest, all);
    chunk.d_projected.clear(rest, all);
  }

 private:
  // Words of pixels; the one before and the one behind them are zero.
  word* window_row(int row) const { return window + (row + 1) % (rows_together + 2) * next_row; }

  long pixel_of(int row) const { return ((long)image * x.height + row) * x.width; }

  // The gradient of q, k and v of rows [first, end). Zero outside the image.
  void differentiate_attention(int first, int end) {
    int count = 0;
    kept = copied ? copied : queries_keys + pixel_of(std::max(first, 0)) * 2 * c;
    for (int row = first; row < end; row++) {
      if (row < 0 || row >= x.height) {
        std::memset((void*)window_row(row), 0, sizeof(word) * next_row);
        continue;
      }
      const long pixel = pixel_of(row);
      if (copied)
        std::copy_n(queries_keys + pixel * 2 * c, 2L * x.width * c, copied + 2L * count * c);
      for (long i = 0; i < (long)x.width * c; i += LANES)
        F::store(d_mixed + (long)count * c + i, load(d_out + pixel * c + i));
      for (int word = 0; word < words_in_row; word++)
        places[count / STEP + word] = window_row(row) + layout.at(word, 0);
      count += row_pixels;
    }
    product<F, STEP>(d_mixed, c, count, matrices.values(image), c, c,
                     [&](int p, int n, vec v, vec last) INLINE_LAMBDA {
                       put(p, 2 * c + n, F::words(v, last));
                     });
    for (int head = 0; head < pass.heads; head++) {
      differentiate_cosines(count, 0, head, matrices.queries(image, head));
      differentiate_cosines(count, 1, head, matrices.keys(image, head));
    }
    if (x.width % STEP)
      for (int row = std::max(first, 0); row < std::min(end, x.height); row++)
        layout.template clear_last<F>(window_row(row), words_in_row - 1, 3 * c);
  }

  // A word of gradients of the pixel in row p of `kept` and `d_mixed`, and of the next.
  INLINE void put(int p, long channel, vec words) const {
    store((float*)(places[p / STEP] + channel / LANES * layout.next_vector), words);
  }

  // Of a head's queries (0), from the keys, or of its keys (1), from the queries.
  void differentiate_cosines(int count, int which, int head, const vec* d_products) {
    const float* d_squares = d.squares + ((long)which * x.images + image) * c + head * width;
    const long own = (long)which * c + head * width, others = (1L - which) * c + head * width;
    product<F, STEP>(kept + others, 2 * c, count, d_products, width, width,
                     [&](int p, int n, vec v, vec last) INLINE_LAMBDA {
                       const vec twice = 2.0f * load(d_squares + n);
                       const number* pixel = kept + (long)p * 2 * c + own + n;
                       v += twice * F::load(pixel);
                       last += twice * F::load(pixel + (STEP - 1L) * 2 * c);
                       put(p, own + n, F::words(v, last));
                     });
  }

  // LN(x) + T, and q, k and v before the depth-wise convolution.
  void project(int first, int end) {
    const int count = (end - first) * row_pixels;
    for (int row = first; row < end; row++)
      normalize<F>(x.at(image, (long)row * x.width), c, x.width, c, norm,
                   normalized + (long)(row - first) * row_pixels * c, c);
    product<F, STEP>(normalized, c, count, pass.qkv, c, 3 * c,
                     [&](int p, int n, vec v, vec last) INLINE_LAMBDA {
                       const vec bias = load(pass.qkv_bias + n);
                       store((float*)(projected + projected_layout.at(p / STEP, n)),
                             F::words(v + bias, last + bias));
                     });
    if (x.width % STEP)
      for (int row = 1; row <= end - first; row++)
        projected_layout.template clear_last<F>(projected, row * words_in_row - 1, 3 * c);
  }

  // The gradient before the depth-wise convolution.
  void convolve(int row, int index, int channel, const Panels<F>& panels, long first_word) {
    const word* rows[3];
    for (int i = 0; i < 3; i++) rows[i] = window_row(row - 1 + i) + layout.at(-1, channel);
    number* to = d_projected + (long)index * row_pixels * 3 * c + channel;
    word* words = panels.at(channel, first_word);
    const int next = panels.width(channel);
    depthwise[channel / LANES](
        rows, LANES, words_in_row, [&](int word, vec first, vec second) INLINE_LAMBDA {
          if (STEP > 1 && word * STEP + 1 == x.width) second = vec{};
          store((float*)(words + (long)word * next), F::words(first, second));
          F::store(to + (long)word * STEP * 3 * c, first);
          if (STEP > 1) F::store(to + (word * STEP + 1L) * 3 * c, second);
        });
  }

  // The gradient of the depth-wise kernel: pixels before it times gradients behind it.
  void add_to_kernel(int row, int index, int channel) {
    const word* pixels = projected + projected_layout.at(index * words_in_row, channel);
    const vec ones = F::words(all(1.0f), all(1.0f));
    for (int r = 0; r < 3; r++) {
      const float* words = (const float*)(window_row(row + 1 - r) + layout.at(-1, channel));
      vec before = load(words), here = load(words + LANES), total[4] = {};
      for (int word = 0; word < words_in_row; word++) {
        const vec behind = load(words + (word + 2) * LANES);
        const vec pixel = load((const float*)(pixels + word * LANES));
        total[0] = F::add_products(total[0], pixel, F::following(here, behind));
        total[1] = F::add_products(total[1], pixel, here);
        total[2] = F::add_products(total[2], pixel, F::preceding(before, here));
        total[3] = F::add_products(total[3], ones, here);
        before = here;
        here = behind;
      }
      for (int i = 0; i < (r == 1 ? 4 : 3); i++) {
        float* to = d_kernel + (i == 3 ? 9 : 3 * r + i) * 3 * c + channel;
        store(to, load(to) + total[i]);
      }
    }
  }

  void differentiate_projection(int first, int end) {
    product<F>(d_projected, 3 * c, (end - first) * row_pixels, pass.qkv_back, 3 * c, c,
               [&](int p, int n, vec v, vec) INLINE_LAMBDA { store(d_normalized + p * c + n, v); });
    for (int row = first; row < end; row++) {
      const long at = pixel_of(row) * c;
      norm_gradient(d_normalized + (long)(row - first) * row_pixels * c, x.data + at, d_out + at, x.width,
                    c, norm, pass.d_x + at, d_scale, d_offset);
    }
  }

  const Features& x;
  const PassOfBands& pass;
  const SumsGradient& d;
  const MatricesOfImages<F>& matrices;
  const DepthwiseKernel<F>* depthwise;
  const number* queries_keys;
  const float* d_out;
  const int c, width, words_in_row, row_pixels, rows_together;
  const RowLayout layout;
  const long next_row;
  const RowLayout projected_layout;  // of the pixels of all rows together
  int image, last_band = -1;
  Norm norm;
  float *d_scale, *d_offset, *d_kernel;
  word* window;        // a ring of rows of the gradient of q, k and v, one above, one below
  word** places;       // in the window, of the words in `kept` and `d_mixed`
  const number* kept;  // queries and keys of rows, made up to whole words
  number* copied = nullptr;
  number* d_mixed;
  number* normalized;
  word* projected;     // q, k and v before the depth-wise convolution, LANES channels after another
  number* d_projected;
  float* d_normalized;
};

// What the bands add up to.
inline void sum_bands(const PassOfBands& pass, int bands, int c, const AttentionGradient& gradient) {
  sum_rows(pass.d_scale, bands, c, c, gradient.d_scale);
  sum_rows(pass.d_offset, bands, c, c, gradient.d_offset);
  std::vector<float> d_kernel(30 * c);
  sum_rows(pass.d_kernel, bands, 30L * c, 30L * c, d_kernel.data());
  for (int channel = 0; channel < 3 * c; channel++)
    for (int tap = 0; tap < 9; tap++)
      gradient.d_kernel[9 * channel + tap] = d_kernel[tap * 3 * c + channel];
  if (gradient.d_kernel_bias)
    std::copy_n(d_kernel.data() + 27 * c, 3 * c, gradient.d_kernel_bias);
}

template <class F>
void attention_gradient(const Features& x, const Attention& pass, const AttentionGradient& gradient,
                        const typename F::number* queries_keys, const typename F::number* values,
                        const float* d_out) {
  typedef typename F::word word;
  static thread_local Scratch memory[13];
  const int c = x.channels, heads = pass.heads;
  float* d_mixing = memory[0].keep<float>((long)x.images * c * c);
  const SumsGradient d{memory[1].keep<float>((long)x.images * c * (c / heads)),
                       memory[2].keep<float>(2L * x.images * c)};
  mixing_gradient<F>(x, values, d_out, d_mixing);
  differentiate_matrices(pass.matrices, heads, d_mixing, x.images, c, d, gradient.d_temperature,
                         gradient.d_project);
  const bool alone = threads_work_alone((long)x.images * x.height * x.width, c);
  const Bands bands(x, alone, F::PER_WORD);
  const int together = bands.together(x.width, alone);
  const int words_of_band = bands.rows * BandOfGradient<F>::words_of_row(x.width);
  const MatricesOfImages<F> matrices(pass.matrices.mixing, d, heads, x.images, c);
  const PassOfBands all_bands{heads,
                              with_offsets(memory[3], pass.norm, x.images, c),
                              laid_out<F>(memory[4], pass.qkv, 3 * c, c),
                              laid_out<F>(memory[5], pass.qkv, c, 3 * c, true),
                              or_zeros(memory[6], pass.qkv_bias, 3 * c),
                              gradient.d_x,
                              memory[7].keep<float>((long)bands.count * c),
                              memory[8].keep<float>((long)bands.count * c),
                              memory[9].keep<float>(bands.count * 30L * c)};
  const float* taps = taps_first(memory[10], pass.kernel, 3 * c, true);
  const auto depthwise = depthwise_kernels<F>(taps, 3 * c, std::vector<float>(3 * c).data());
  SumsOfThreads sums(memory[11], alone,
                     {{gradient.d_qkv, 3L * c * c}, {gradient.d_qkv_bias, 3L * c}});
  const long words = (long)together * words_of_band;
  word* shared = alone ? nullptr : memory[12].keep<word>(4L * c * words);
#pragma omp parallel
  {
    static thread_local Scratch own;
    PanelMemory<F> panels(alone ? own.keep<word>(4L * c * words) : shared, words);
    const typename BandOfGradient<F>::Chunk chunk{panels.take(c), panels.take(3 * c)};
    BandOfGradient<F> band(x, all_bands, d, matrices, depthwise.data(), queries_keys, d_out);
    sum_units(
        alone, bands.count, together, sums,
        [&](int number, int index) { band(number, bands, chunk, (long)index * words_of_band); },
        [&](int count, bool more, Share share) INLINE_LAMBDA {
          const int some = count * words_of_band;
          sum_products(chunk.d_projected, chunk.normalized, 0, some, more, sums.at(0), c, share);
          if (sums.at(1)) sum_channels(chunk.d_projected, some, more, sums.at(1), share);
        });
  }
  sums.finish();
  sum_bands(all_bands, bands.count, c, gradient);
}
