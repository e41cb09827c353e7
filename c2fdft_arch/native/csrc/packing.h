// Weights laid out for the microkernel.
//
// A product sums over taps and inputs; kDotWidth inputs that follow each other are one packed operand
// ("pair" below). Output channels lie in panels of NR vectors, the last of which may be narrower; a
// panel holds a row of vectors for every tap and pair, in the order in which a product reads them:
//
//   panel 0   tap 0   pair 0   | vector 0 | ... | vector NR-1 |
//                     pair 1   | vector 0 | ... | vector NR-1 |
//                     ...
//             tap 1   pair 0   | vector 0 | ... | vector NR-1 |
//             ...
//   panel 1   ...
//
// Lane l of vector v in panel p belongs to output channel (p * NR + v) * kLanes + l. Output channels
// may come in groups (q, k and v; the pixels that a shuffle makes of one), each of which is padded
// with zeros to whole vectors; so is the last pair.

#pragma once

#include <algorithm>

#include <omp.h>

#include "formats.h"
#include "scratch.h"

// A microkernel computes MR pixels times NR vectors of output channels in registers.
constexpr int kMaxMR = 8;
#if defined(__AVX512F__)
constexpr int MR = kMaxMR;
#else
constexpr int MR = 4;
#endif
constexpr int NR = 3;
constexpr int kPanel = NR * kLanes;  // output channels

// How many packed operands hold so many scalars.
template <class F>
INLINE int pairs_of(int scalars) {
  return (scalars + F::kDotWidth - 1) / F::kDotWidth;
}

struct WeightShape {
  int outputs, inputs, groups, taps;

  int padded_group() const { return round_up(outputs / groups, kLanes); }
  int vectors() const { return groups * padded_group() / kLanes; }  // of output channels
  template <class F>
  long packed_vectors() const {
    return (long)vectors() * taps * pairs_of<F>(inputs);
  }
};

// Distances in memory between the numbers of a weight.
struct WeightStrides {
  long group, output, input, tap;
};

// Up to kLanes * kDotWidth inputs of up to kLanes outputs, padded with zeros: a vector for each pair.
template <class F>
INLINE void pack_transposed(const float* weight, long next_output, long next_input, int outputs,
                            int inputs, vec (&packed)[kLanes]) {
  constexpr int BLOCK = kLanes * F::kDotWidth;
  for (int n = 0; n < kLanes; n++) {
    const float* row = weight + n * next_output;
    if (n >= outputs) {
      packed[n] = vec{};
    } else if (next_input == 1 && inputs == BLOCK) {
      packed[n] = F::pack_row(row);
    } else {
      float padded[BLOCK] = {};
      for (int i = 0; i < inputs; i++) padded[i] = row[i * next_input];
      packed[n] = F::pack_row(padded);
    }
  }
  transpose(packed);
}

// One tap of one panel.
template <class F>
void pack_panel(const float* weight, WeightStrides strides, WeightShape shape, int panel, int tap,
                vec* to) {
  constexpr int BLOCK = kLanes * F::kDotWidth;
  const int pairs = pairs_of<F>(shape.inputs), own = shape.outputs / shape.groups;
  const int first_vector = panel * NR, width = std::min(NR, shape.vectors() - first_vector);
  to += ((long)first_vector * shape.taps + (long)tap * width) * pairs;
  weight += tap * strides.tap;
  if (strides.output == 1 && own % kLanes == 0 && shape.groups == 1 &&
      shape.inputs % F::kDotWidth == 0) {  // vectors of output channels can be read as they lie
    const long last = (F::kDotWidth - 1) * strides.input;
    for (int pair = 0; pair < pairs; pair++)
      for (int v = 0; v < width; v++) {
        const float* from =
            weight + (long)pair * F::kDotWidth * strides.input + (first_vector + v) * kLanes;
        *to++ = F::interleave(load(from), load(from + last));
      }
    return;
  }
  for (int v = 0; v < width; v++) {
    const int padded_channel = (first_vector + v) * kLanes;
    const int group = padded_channel / shape.padded_group();
    const int channel = padded_channel % shape.padded_group();
    const float* from = weight + group * strides.group + channel * strides.output;
    for (int first = 0; first < shape.inputs; first += BLOCK) {
      const int inputs = std::min(BLOCK, shape.inputs - first);
      vec packed[kLanes];
      pack_transposed<F>(from + first * strides.input, strides.output, strides.input,
                         std::min(kLanes, own - channel), inputs, packed);
      for (int i = 0; i < pairs_of<F>(inputs); i++)
        to[(first / F::kDotWidth + i) * width + v] = packed[i];
    }
  }
}

// By all threads, unless they already share other work.
template <class F>
void pack(const float* weight, WeightStrides strides, WeightShape shape, vec* to) {
  const int panels = (shape.vectors() + NR - 1) / NR;
#pragma omp parallel for collapse(2) schedule(static) if (!omp_in_parallel())
  for (int panel = 0; panel < panels; panel++)
    for (int tap = 0; tap < shape.taps; tap++)
      pack_panel<F>(weight, strides, shape, panel, tap, to);
}

template <class F>
const vec* packed_weight(Scratch& memory, const float* weight, WeightStrides strides,
                         WeightShape shape) {
  vec* to = memory.uninitialised<vec>(shape.packed_vectors<F>());
  pack<F>(weight, strides, shape, to);
  return to;
}

// A matrix (outputs, inputs) in row-major order.
template <class F>
const vec* packed_matrix(Scratch& memory, const float* weight, int outputs, int inputs,
                         int groups = 1) {
  return packed_weight<F>(memory, weight, {(long)outputs / groups * inputs, inputs, 1, 0},
                          {outputs, inputs, groups, 1});
}

// The transpose of a matrix (inputs, outputs) in row-major order.
template <class F>
const vec* packed_transpose(Scratch& memory, const float* weight, int outputs, int inputs) {
  return packed_weight<F>(memory, weight, {0, 1, outputs, 0}, {outputs, inputs, 1, 1});
}

// One number for each output channel, every group padded with zeros; zeros for null.
inline const float* padded_channels(Scratch& memory, const float* values, int channels,
                                    int groups = 1) {
  const int own = channels / groups, padded = round_up(own, kLanes);
  if (values && own == padded) return values;
  float* to = memory.zeroed<float>((long)groups * padded);
  for (int group = 0; values && group < groups; group++)
    std::copy_n(values + group * own, own, to + group * padded);
  return to;
}
