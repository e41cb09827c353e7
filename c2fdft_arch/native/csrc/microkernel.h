// Products of pixels with packed weights, computed in registers, and what follows them.

#pragma once

#include <type_traits>

#include "packing.h"

// Keeps an operand that is used several times in a register: for AVX2, GCC would load it each time.
INLINE vec in_register(vec v) {
#if !defined(__AVX512F__)
  asm("" : "+x"(v));
#endif
  return v;
}

// total[m][n] += the products of MR rows of packed operands with N vectors of a weight. Rows and
// operands are `next_row` and `next_pair` apart, the weight's rows of vectors `next_vectors`.
template <class F, int N>
INLINE void accumulate(vec (&total)[MR][N], const typename F::packed* rows, long next_row,
                       long next_pair, const float* weight, long next_vectors, int pairs) {
  for (int i = 0; i < pairs; i++) {
    vec w[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) w[n] = in_register(load(weight + i * next_vectors + n * kLanes));
#pragma GCC unroll 8
    for (int m = 0; m < MR; m++) {
      const vec row = F::broadcast(rows[m * next_row + i * next_pair]);
#pragma GCC unroll 8
      for (int n = 0; n < N; n++) total[m][n] = F::dot(total[m][n], row, w[n]);
    }
  }
}

// Calls call(width) with a number of vectors, at most NR, as a constant.
template <class Call>
INLINE void with_width(int vectors, Call call) {
  if (vectors == 3) return call(std::integral_constant<int, 3>());
  if (vectors == 2) return call(std::integral_constant<int, 2>());
  call(std::integral_constant<int, 1>());
}

// Calls epilogue(row, output, vec, vec) for MR rows of pixels, STEP at a time, and `vectors` vectors
// of output channels; the two vectors are those of the first and the last of STEP rows. Tap t of a
// pixel is taps[t] packed operands behind it.
template <class F, int STEP = 1, class Epilogue>
INLINE void microkernel(const typename F::packed* pixels, long next_pixel, const long* taps,
                        int tap_count, const vec* weight, int pairs, int vectors,
                        Epilogue epilogue) {
  with_width(vectors, [&](auto width) INLINE_LAMBDA {
    constexpr int N = decltype(width)::value;
    vec total[MR][N] = {};
    for (int tap = 0; tap < tap_count; tap++)
      accumulate<F, N>(total, pixels + taps[tap], next_pixel, 1,
                       (const float*)(weight + (long)tap * pairs * N), N * kLanes, pairs);
#pragma GCC unroll 8
    for (int m = 0; m < MR; m += STEP)
#pragma GCC unroll 8
      for (int n = 0; n < N; n++) epilogue(m, n * kLanes, total[m][n], total[m + STEP - 1][n]);
  });
}

// Calls epilogue(row, output, vec, vec) for rows of scalars, `next_row` apart, times a weight; see
// microkernel(). Rows past the last are read, up to a multiple of MR.
template <class F, int STEP = 1, class Epilogue>
INLINE void gemm(const typename F::scalar* pixels, long next_row, int rows, const vec* weight,
                 int inputs, int outputs, Epilogue epilogue) {
  const int pairs = pairs_of<F>(inputs);
  const long here = 0;
  for (int first = 0; first < outputs; first += kPanel) {
    const int vectors = std::min(NR, (outputs - first) / kLanes);
    for (int row = 0; row < rows; row += MR)
      microkernel<F, STEP>((const typename F::packed*)(pixels + row * next_row),
                           next_row / F::kDotWidth, &here, 1, weight, pairs, vectors,
                           [&](int m, int n, vec v, vec last) INLINE_LAMBDA {
                             if (row + m < rows) epilogue(row + m, first + n, v, last);
                           });
    weight += (long)pairs * vectors;
  }
}

template <class F>
__attribute__((noinline)) void microkernel_to_memory(const typename F::packed* pixels,
                                                     long next_pixel, const long* taps,
                                                     int tap_count, const vec* weight, int pairs,
                                                     int vectors, float* to) {
  microkernel<F>(pixels, next_pixel, taps, tap_count, weight, pairs, vectors,
                 [=](int m, int n, vec v, vec) INLINE_LAMBDA { *(vec*)(to + m * kPanel + n) = v; });
}

// An implicit matrix product: tap t of a pixel of a line is read at pixels + taps[line * tap_count + t],
// all of them counted in packed operands. For epilogues that need more registers than a microkernel
// leaves: results go through memory, to epilogue(result, line, row, rows, output, vectors), where
// result has rows of kPanel outputs.
template <class F, class Epilogue>
INLINE void implicit_gemm(const typename F::packed* pixels, long next_pixel, const long* taps,
                          int tap_count, int lines, int rows, const vec* weight, int pairs,
                          int outputs, Epilogue epilogue) {
  alignas(64) float result[MR * kPanel];
  for (int first = 0; first < outputs; first += kPanel) {
    const int vectors = std::min(NR, (outputs - first) / kLanes);
    for (int line = 0; line < lines; line++)
      for (int row = 0; row < rows; row += MR) {
        microkernel_to_memory<F>(pixels + row * next_pixel, next_pixel, taps + line * tap_count,
                                 tap_count, weight, pairs, vectors, result);
        epilogue(result, line, row, std::min(MR, rows - row), first, vectors);
      }
    weight += (long)tap_count * pairs * vectors;
  }
}

constexpr int kChunk = 64;  // pixels that pass through a series of products together

INLINE int chunks_of(long pixels) { return (pixels + kChunk - 1) / kChunk; }

// Where a row begins in the panel of a chunk that begins with channel n: panels of kChunk rows.
template <class T>
INLINE T* in_panels(T* panels, int row, long n, int vectors) {
  return panels + n * kChunk + row * vectors * kLanes;
}

// The GELU of a microkernel's result plus bias; its argument goes to `before`, if not null.
template <class F>
__attribute__((noinline)) void gelu_epilogue(const float* result, int rows, int vectors,
                                             const float* bias, typename F::scalar* to,
                                             typename F::scalar* before, long next_row) {
  for (int m = 0; m < rows; m++)
    for (int n = 0; n < vectors * kLanes; n += kLanes) {
      const vec x = load(result + m * kPanel + n) + load(bias + n);
      if (before) F::store(before + m * vectors * kLanes + n, x);
      F::store(to + m * next_row + n, F::gelu(x));
    }
}

// to = GELU(pixels times weight, plus bias). The GELU's argument goes to `before`, if not null,
// in panels of kChunk rows.
template <class F>
void gemm_gelu(const typename F::scalar* pixels, long next_pixel, int rows, const vec* weight,
               int inputs, int outputs, const float* bias, typename F::scalar* to, long next_row,
               typename F::scalar* before = nullptr) {
  const long here = 0;
  implicit_gemm<F>((const typename F::packed*)pixels, next_pixel / F::kDotWidth, &here, 1, 1, rows,
                   weight, pairs_of<F>(inputs), outputs,
                   [=](const float* result, int, int row, int count, int output, int vectors) {
                     const long at = row * next_row + output;
                     gelu_epilogue<F>(result, count, vectors, bias + output, to + at,
                                      before ? in_panels(before, row, output, vectors) : nullptr,
                                      next_row);
                   });
}

// to = from + pixels times weight, plus bias; rows of `to` and `from` are `next_pixel` apart.
template <class F>
__attribute__((noinline)) void gemm_add(const typename F::scalar* pixels, long next_row, int rows,
                                        const vec* weight, int inputs, int outputs,
                                        const float* bias, const float* from, float* to,
                                        long next_pixel) {
  gemm<F>(pixels, next_row, rows, weight, inputs, round_up(outputs, kLanes),
          [=](int p, int n, vec v, vec) INLINE_LAMBDA {
            const long at = p * next_pixel + n;
            v += load(bias + n);
            if (n + kLanes <= outputs) return store(to + at, load(from + at) + v);
            for (int i = 0; n + i < outputs; i++) to[at + i] = from[at + i] + v[i];
          });
}
