// 3x3 convolutions in training, with what changes the sides after them, and their gradients.

#pragma once

#include "conv3x3.h"
#include "sums.h"
#include "weights.h"

struct TrainedConvolution {
  int images, height, width, channels, outputs;
  const float *weight, *bias;  // (outputs, channels, 3, 3); the bias may be null
};

// A kernel with its taps apart: (9, outputs, channels), padded, the outputs of a group together.
struct TapsApart {
  int outputs, channels, groups, next_row;
  long next_tap;

  TapsApart(const TrainedConvolution& pass, Target target)
      : outputs(pass.outputs), channels(pass.channels), groups(groups_of(target)),
        next_row(round_up(channels, PANEL)), next_tap(round_up(outputs, LANES) * (long)next_row) {}

  long at(int output) const {
    return (output % groups * (outputs / groups) + output / groups) * (long)next_row;
  }

  const float* take(Scratch& memory, const float* weight) const {
    float* to = memory.keep<float>(9 * next_tap);
#pragma omp parallel for schedule(static)
    for (int output = 0; output < outputs; output++)
      for (int tap = 0; tap < 9; tap++) {
        const float* from = weight + output * 9L * channels + tap;
        float* row = to + tap * next_tap + at(output);
        for (int i = 0; i < channels; i++) row[i] = from[9 * i];
      }
    return to;
  }

  void put_together(const float* from, float* weight) const {
#pragma omp parallel for schedule(static)
    for (int output = 0; output < outputs; output++)
      for (int i = 0; i < channels; i++)
        for (int tap = 0; tap < 9; tap++)
          weight[(output * (long)channels + i) * 9 + tap] = from[tap * next_tap + at(output) + i];
  }
};

template <class F>
void trained_convolution(const TrainedConvolution& pass, const Image& from, const Arranged& to,
                         int columns, int bands) {
  static thread_local Scratch memory[2];
  const int groups = groups_of(to.target);
  const WeightShape shape{pass.outputs, pass.channels, groups, 9};
  const long next_output = 9L * pass.channels;
  vec* weight = memory[0].keep<vec>(shape.vectors<F>());
  pack<F>(pass.weight, {next_output, groups * next_output, 9, 1}, shape, weight);
  float* bias = memory[1].take<float>(shape.padded_outputs());
  if (pass.bias) std::copy_n(pass.bias, pass.outputs, bias);  // where there is one group
  convolution<F>({pass.images, pass.height, pass.width, pass.channels, pass.outputs, weight, bias},
                 {from, SAME}, to, columns, bands);
}

// The gradient of what is convolved: the convolution of d_out with the kernel turned round.
template <class F>
void convolve_back(const TrainedConvolution& pass, const Arranged& d_out, const Image& d_x, int columns,
                   int bands) {
  static thread_local Scratch memory[3];
  const TapsApart apart(pass, d_out.target);
  const float* last_tap = apart.take(memory[0], pass.weight) + 8 * apart.next_tap;
  const WeightShape shape{pass.channels, pass.outputs, 1, 9};
  vec* weight = memory[1].keep<vec>(shape.vectors<F>());
  pack<F>(last_tap, {0, 1, apart.next_row, -apart.next_tap}, shape, weight);
  const float* bias = memory[2].take<float>(shape.padded_outputs());
  convolution<F>({pass.images, pass.height, pass.width, pass.outputs, pass.channels, weight, bias}, d_out,
                 {d_x, SAME}, columns, bands);
}

// Sums over pixels of gradients times what is convolved, which make the gradient of the kernel. Images
// are cut into segments, some rows high.
template <class F>
class SumsOfTaps {
  typedef typename F::number number;
  static constexpr int PIXELS = 1024;  // about as many between two sums
  static constexpr int LEAST_ROWS = 4;

 public:
  SumsOfTaps(const TrainedConvolution& pass, const Image& x, const Arranged& d_out)
      : pass(pass), x{x, SAME}, d_out(d_out), words((pass.width + F::PER_WORD - 1) / F::PER_WORD),
        rows(std::min(pass.height, std::max(LEAST_ROWS, SUM_WORDS / words))),
        of_image((pass.height + rows - 1) / rows), count(pass.images * of_image),
        together(std::min(count, std::max(2 * omp_get_max_threads(), PIXELS / (rows * pass.width)))) {
    static thread_local Scratch memory;
    const int channels = round_up(pass.channels, LANES), outputs = round_up(pass.outputs, LANES);
    const long of_x = (rows + 2L) * words * together;
    PanelMemory<F> panels(memory.keep<typename F::word>((3L * channels + outputs) * of_x), of_x);
    for (auto& panel : shifted) panel = panels.take(channels);
    gradients = panels.take(outputs);
  }

  // The sums, as `apart` says.
  void operator()(const TapsApart& apart, float* sums) const {
#pragma omp parallel
    {
      static thread_local Scratch line_memory;
      const long padded = std::max(shifted[0].channels, gradients.channels);
      number* line = line_memory.take<number>((pass.width + 2) * padded);
      for (int first = 0; first < count; first += together) {
        const int some = std::min(together, count - first);
#pragma omp for schedule(static)
        for (int i = 0; i < some; i++) {
          put_pixels(first + i, i, line);
          put_gradients(first + i, i, line);
        }
        add(some, first > 0, apart, sums);
#pragma omp barrier
      }
    }
  }

 private:
  // What is convolved, once for each column of the kernel, with a row above and one below.
  void put_pixels(int segment, int index, number* line) const {
    const int first = segment % of_image * rows, padded = shifted[0].channels;
    std::memset((void*)line, 0, sizeof(number) * (pass.width + 2L) * padded);
    for (int row = first - 1; row <= first + rows; row++) {
      const long word = (index * (rows + 2L) + row - first + 1) * words;
      const bool inside = row >= 0 && row < pass.height;
      if (inside)
        x.read<F>(segment / of_image, row, 0, pass.width, pass.channels, line + padded, padded);
      for (int column = 0; column < 3; column++) {
        if (inside) shifted[column].put_rows(line + column * padded, padded, pass.width, word, words);
        else shifted[column].clear(word, word + words);
      }
    }
  }

  void put_gradients(int segment, int index, number* line) const {
    const int first = segment % of_image * rows, padded = gradients.channels;
    std::memset((void*)line, 0, sizeof(number) * (pass.width + 2L) * padded);
    for (int row = first; row < first + rows; row++) {
      const long word = ((long)index * rows + row - first) * words;
      if (row < pass.height) {
        d_out.read<F>(segment / of_image, row, 0, pass.width, pass.outputs, line, padded);
        gradients.put_rows(line, padded, pass.width, word, words);
      } else {
        gradients.clear(word, word + words);
      }
    }
  }

  // Called by all threads of a team, which do not wait for each other at the end.
  void add(int segments, bool more, const TapsApart& apart, float* sums) const {
    const int outputs = round_up(pass.outputs, ROWS), channels = shifted[0].channels;
    const int groups = (outputs + SUM_ROWS - 1) / SUM_ROWS, panels = (channels + PANEL - 1) / PANEL;
    const int of_segment = rows * words, block = std::max(1, SUM_WORDS / of_segment);
#pragma omp for schedule(static) nowait
    for (int i = 0; i < 9 * groups * panels; i++) {
      const int tap = i / (groups * panels), n = i / groups % panels * PANEL;
      const int from = i % groups * SUM_ROWS;
      const Panels<F>& pixels = shifted[tap % 3];
      const int width = pixels.width(n);
      for (int done = 0; done < segments; done += block)
        for (int m = from; m < std::min(from + SUM_ROWS, outputs); m += ROWS)
          sum_tile<F>(gradients.at(m, (long)done * of_segment), 1, gradients.width(m),
                      (const float*)pixels.at(n, (done * (rows + 2L) + tap / 3) * words), width,
                      of_segment, width / LANES, more || done > 0,
                      sums + tap * apart.next_tap + m * (long)apart.next_row + n, apart.next_row,
                      std::min(block, segments - done), (long)of_segment * gradients.width(m),
                      (rows + 2L) * words * width);
    }
  }

  const TrainedConvolution& pass;
  const Arranged x;
  const Arranged& d_out;
  const int words;  // of a row
  const int rows, of_image, count, together;  // segments
  Panels<F> shifted[3], gradients;
};

// d_x may have no data; d_weight (outputs, channels, 3, 3).
template <class F>
void trained_convolution_gradient(const TrainedConvolution& pass, const Image& x, const Arranged& d_out,
                                  const Image& d_x, float* d_weight, int columns, int bands) {
  static thread_local Scratch memory;
  if (d_x.data) convolve_back<F>(pass, d_out, d_x, columns, bands);
  if (!d_weight) return;
  const TapsApart apart(pass, d_out.target);
  float* sums = memory.keep<float>(9 * apart.next_tap);
  SumsOfTaps<F>(pass, x, d_out)(apart, sums);
  apart.put_together(sums, d_weight);
}
