// The dtypes in which products are computed: float32 and bfloat16.
//
// Each of them defines
//   scalar      a number as it lies in memory
//   packed      32 bits: kDotWidth scalars that follow each other in the direction summed over, which
//               is what one lane of a product multiplies: one float, or a pair of bfloat16
//   dot         total + the products of packed operands, lane by lane
//   interleave  the packed operands of two vectors: lane i holds first[i], second[i]
//   pack_row    the packed operands of kLanes * kDotWidth scalars in memory
//   advanced    what lies one scalar later than `here`, `next` being the packed operand after it
//   delayed     what lies one scalar earlier than `here`, `previous` being the one before it
//   store_rows  the scalars of which interleave() makes packed operands, as kDotWidth rows
// For Float32 `second` is ignored wherever there are two vectors.

#pragma once

#include "vectors.h"

struct Float32 {
  typedef float scalar;
  typedef float packed;
  static constexpr int kDotWidth = 1;

  static INLINE vec load(const scalar* from) { return ::load(from); }
  static INLINE void store(scalar* to, vec v) { ::store(to, v); }
  static INLINE scalar rounded(float value) { return value; }
  static INLINE vec broadcast(packed a) { return ::broadcast(a); }
  static INLINE vec dot(vec total, vec a, vec b) { return total + a * b; }
  static INLINE vec interleave(vec first, vec) { return first; }
  static INLINE vec pack_row(const float* row) { return ::load(row); }
  static INLINE vec advanced(vec, vec next) { return next; }
  static INLINE vec delayed(vec previous, vec) { return previous; }
  static INLINE void store_rows(scalar* to, long, vec first, vec) { ::store(to, first); }

  static INLINE vec gelu(vec x) { return x * (half_erf(x) + 0.5f); }

  // GELU and its derivative, Phi(x) + x phi(x).
  static INLINE void gelu_and_slope(vec x, vec& y, vec& slope) {
    const vec distribution = half_erf(x) + 0.5f;
    y = x * distribution;
    slope = distribution + x * 0.3989422804f * exp_of_negative(-0.5f * x * x);
  }

 private:
  // erf(x / sqrt(2)) / 2 by a rational function fitted on [-5.5, 5.5]; x times its largest error is
  // 1e-6.
  static INLINE vec half_erf(vec x) {
    const vec z = smaller(larger(x, ::broadcast(-5.5f)), ::broadcast(5.5f)), s = z * z;
    const vec p = polynomial(s, {2.2216059732727814e-08f, 6.530713918171766e-06f,
                                 1.8285572068761538e-04f, 4.761601526813339e-03f,
                                 3.5142099385608784e-02f, 3.989419853687959e-01f});
    const vec q = polynomial(s, {1.1953998185333574e-06f, 7.860943726590002e-05f,
                                 1.9624206222147167e-03f, 2.939856108237178e-02f,
                                 2.547517663874548e-01f, 1.0f});
    return z * p / q;
  }
};

#if defined(__AVX512BF16__)

// Products are added up in float32; those that are subnormal count as zero.
struct BFloat16 {
  typedef uint16_t scalar;
  typedef uint32_t packed;
  static constexpr int kDotWidth = 2;

  static INLINE vec load(const scalar* from) {
    const __m256i half = _mm256_loadu_si256((const __m256i*)from);
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
  }
  static INLINE vec load(const float* from) { return ::load(from); }
  static INLINE void store(scalar* to, vec v) {
    _mm256_storeu_si256((__m256i*)to, (__m256i)_mm512_cvtneps_pbh((__m512)v));
  }
  static INLINE scalar rounded(float value) {
    return (scalar)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(value)), 0);
  }
  static INLINE vec broadcast(packed a) { return (vec)_mm512_set1_epi32((int)a); }
  static INLINE vec dot(vec total, vec a, vec b) {
    return (vec)_mm512_dpbf16_ps((__m512)total, (__m512bh)a, (__m512bh)b);
  }
  static INLINE vec interleave(vec first, vec second) {
    const __m512i lanes = _mm512_loadu_si512(ALTERNATING.lane);
    return (vec)_mm512_permutexvar_epi16(lanes, concatenated(first, second));
  }
  static INLINE vec pack_row(const float* row) {
    return (vec)concatenated(::load(row), ::load(row + kLanes));
  }
  static INLINE vec advanced(vec here, vec next) {
    return (vec)_mm512_or_si512(_mm512_srli_epi32((__m512i)here, 16),
                                _mm512_slli_epi32((__m512i)next, 16));
  }
  static INLINE vec delayed(vec previous, vec here) { return advanced(previous, here); }
  static INLINE void store_rows(scalar* to, long next_row, vec first, vec second) {
    const __m512i both = concatenated(first, second);
    _mm256_storeu_si256((__m256i*)to, _mm512_castsi512_si256(both));
    _mm256_storeu_si256((__m256i*)(to + next_row), _mm512_extracti64x4_epi64(both, 1));
  }

  // x / 2 + |x| r(|x|), where r(x) = erf(x / sqrt(2)) / 2. The largest error is 1.3e-4; rounding the
  // result to bfloat16 makes one of 8e-3.
  static INLINE vec gelu(vec v) {
    const Segment segment(v);
    const __m512 half = _mm512_mul_ps((__m512)v, _mm512_set1_ps(0.5f));
    return (vec)_mm512_fmadd_ps(segment.size, segment.value(HALF_ERF), half);
  }

  // GELU and its derivative, whose largest error is 5e-4.
  static INLINE void gelu_and_slope(vec v, vec& y, vec& slope) {
    const Segment segment(v);
    const __m512 x = (__m512)v, half = _mm512_set1_ps(0.5f);
    y = (vec)_mm512_fmadd_ps(segment.size, segment.value(HALF_ERF), _mm512_mul_ps(x, half));
    const __m512 sign = _mm512_and_ps(x, _mm512_set1_ps(-0.0f));
    slope = (vec)_mm512_add_ps(half, _mm512_xor_ps(segment.value(SLOPE), sign));
  }

 private:
  static INLINE __m512i concatenated(vec first, vec second) {
    return (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
  }

  // A function on [0, 4] that is 1 / 2 beyond it: a parabola on each of 16 segments.
  struct Parabolas {
    float c[3][16];

    Parabolas(double (*function)(double)) {
      for (int i = 0; i < 16; i++) {
        const double middle = 0.25 * i + 0.125, to_node = 0.125 * 0.8660254037844386;
        double x[3] = {middle - to_node, middle, middle + to_node}, y[3];
        for (int j = 0; j < 3; j++) y[j] = function(x[j]);
        if (i == 15) x[2] = 4, y[2] = 0.5;  // continuous at 4
        const double d01 = (y[1] - y[0]) / (x[1] - x[0]), d12 = (y[2] - y[1]) / (x[2] - x[1]);
        const double d012 = (d12 - d01) / (x[2] - x[0]);
        c[2][i] = d012;
        c[1][i] = d01 - d012 * (x[0] + x[1]);
        c[0][i] = y[0] - d01 * x[0] + d012 * x[0] * x[1];
      }
    }
  };

  // The segment in which |x| lies.
  struct Segment {
    __m512 size, clamped;
    __m512i index;

    INLINE Segment(vec x) : size(_mm512_abs_ps((__m512)x)) {
      clamped = _mm512_min_ps(size, _mm512_set1_ps(3.9999998f));
      index = _mm512_cvttps_epi32(_mm512_mul_ps(clamped, _mm512_set1_ps(4.0f)));
    }
    INLINE __m512 value(const Parabolas& parabolas) const {
      const auto coefficient = [&](int i) INLINE_LAMBDA {
        return _mm512_permutexvar_ps(index, _mm512_loadu_ps(parabolas.c[i]));
      };
      const __m512 linear = _mm512_fmadd_ps(coefficient(2), clamped, coefficient(1));
      return _mm512_fmadd_ps(linear, clamped, coefficient(0));
    }
  };

  struct Alternating {
    uint16_t lane[2 * kLanes];  // 0, kLanes, 1, kLanes + 1, ...

    Alternating() {
      for (int i = 0; i < 2 * kLanes; i++) lane[i] = i / 2 + i % 2 * kLanes;
    }
  };

  static double half_erf(double x) { return 0.5 * __builtin_erf(x * 0.7071067811865476); }
  static double slope_above_half(double x) {
    return half_erf(x) + x * 0.3989422804014327 * __builtin_exp(-0.5 * x * x);
  }
  static const Parabolas HALF_ERF, SLOPE;
  static const Alternating ALTERNATING;
};

const BFloat16::Parabolas BFloat16::HALF_ERF(BFloat16::half_erf);
const BFloat16::Parabolas BFloat16::SLOPE(BFloat16::slope_above_half);
const BFloat16::Alternating BFloat16::ALTERNATING;

#endif
