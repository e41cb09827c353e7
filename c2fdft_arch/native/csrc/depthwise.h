// 3x3 depth-wise convolutions of rows of packed pixels.

#pragma once

#include <vector>

#include "packing.h"

// The kernel of kLanes channels. A packed operand is a pixel, or two that follow each other; a result
// needs the operand before its own, its own, and the one after it.
template <class F>
class DepthwiseKernel {
 public:
  DepthwiseKernel(const float* kernel, long next_tap, const float* bias) : bias(load(bias)) {
    const vec none = {};
    for (int row = 0; row < 3; row++) {
      vec tap[3];
      for (int i = 0; i < 3; i++) tap[i] = load(kernel + (3 * row + i) * next_tap);
      packed[row][0] = F::kDotWidth == 1 ? tap[0] : F::interleave(none, tap[0]);
      packed[row][1] = F::kDotWidth == 1 ? tap[1] : F::interleave(tap[1], tap[2]);
      packed[row][2] = F::kDotWidth == 1 ? tap[2] : F::interleave(tap[0], tap[1]);
      packed[row][3] = F::interleave(tap[2], none);
    }
  }

  // put(i, first, second): the results for the pixels of packed operand i of `count`. `rows` are the
  // operands before the first one, in the row above, the row itself, and the row below.
  template <class Put>
  INLINE void operator()(const typename F::packed* const* rows, long next, int count,
                         Put put) const {
    const DepthwiseKernel kernel = *this;  // in registers
    vec before[3], here[3];
    for (int row = 0; row < 3; row++) {
      before[row] = load((const float*)rows[row]);
      here[row] = load((const float*)rows[row] + next);
    }
    for (int i = 0; i < count; i++) {
      vec first = kernel.bias, second = kernel.bias;
#pragma GCC unroll 3
      for (int row = 0; row < 3; row++) {
        const vec after = load((const float*)rows[row] + (i + 2L) * next);
        first = F::dot(first, before[row], kernel.packed[row][0]);
        first = F::dot(first, here[row], kernel.packed[row][1]);
        if (F::kDotWidth == 1) {
          first = F::dot(first, after, kernel.packed[row][2]);
        } else {
          second = F::dot(second, here[row], kernel.packed[row][2]);
          second = F::dot(second, after, kernel.packed[row][3]);
        }
        before[row] = here[row];
        here[row] = after;
      }
      put(i, first, second);
    }
  }

 private:
  vec bias, packed[3][4];
};

// The kernels of all channels. `kernel` is (groups * C, 3, 3), each group of channels padded to whole
// vectors; `bias` is padded. `reverse` turns the kernel by 180 degrees.
template <class F>
std::vector<DepthwiseKernel<F>> depthwise_kernels(Scratch& memory, const float* kernel,
                                                  int channels, int groups, const float* bias,
                                                  bool reverse = false) {
  const int own = channels / groups, padded = groups * round_up(own, kLanes);
  float* taps = memory.zeroed<float>(9L * padded);  // (9, padded channels)
  for (int channel = 0; channel < channels; channel++)
    for (int tap = 0; tap < 9; tap++)
      taps[(reverse ? 8 - tap : tap) * padded + channel / own * (padded / groups) + channel % own] =
          kernel[9 * channel + tap];
  std::vector<DepthwiseKernel<F>> kernels;
  for (int i = 0; i < padded; i += kLanes) kernels.emplace_back(taps + i, padded, bias + i);
  return kernels;
}

// A row of packed pixels, kLanes channels after kLanes channels, in the order in which a convolution
// reads them. One operand is before the row's own and one after them:
//
//   channels 0 .. kLanes-1:  | -1 | 0 | 1 | ... | n-1 | n |   channels kLanes .. :  | -1 | 0 | ...
struct RowLayout {
  long next_vector;  // from kLanes channels to the next ones

  RowLayout(int pairs) : next_vector((pairs + 2L) * kLanes) {}
  long size(int channels) const { return channels / kLanes * next_vector; }
  long at(int pair, int channel) const {
    return channel / kLanes * next_vector + (pair + 1L) * kLanes;
  }

  // Zeros for one packed operand of all channels.
  template <class Packed>
  void clear(Packed* row, int pair, int channels) const {
    for (int channel = 0; channel < channels; channel += kLanes)
      std::memset((void*)(row + at(pair, channel)), 0, kLanes * sizeof(Packed));
  }

  // A zero for its last scalar.
  template <class F>
  void clear_last(typename F::packed* row, int pair, int channels) const {
    for (int channel = 0; channel < channels; channel += kLanes)
      for (int i = 0; i < kLanes; i++)
        ((typename F::scalar*)(row + at(pair, channel) + i))[F::kDotWidth - 1] = 0;
  }
};
