// Vectors of float32, and what is computed lane by lane.

#pragma once

#include <immintrin.h>

#include <cstdint>

#if defined(__AVX512F__)
constexpr int kLanes = 16;  // floats in a vector
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
#error "the kernels need AVX2 or AVX-512"
#endif

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * kLanes)));
typedef int32_t ivec __attribute__((vector_size(4 * kLanes)));
typedef float unaligned_vec __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

INLINE int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

INLINE vec broadcast(float value) { return value - vec{}; }
INLINE vec load(const float* from) { return *(const unaligned_vec*)from; }
INLINE void store(float* to, vec v) { *(unaligned_vec*)to = v; }

INLINE vec smaller(vec a, vec b) { return a < b ? a : b; }
INLINE vec larger(vec a, vec b) { return a > b ? a : b; }

// Lanes of a and b; those of b are numbered from kLanes.
INLINE vec shuffle(vec a, vec b, ivec lanes) {
#if defined(__clang__)
  vec result;
  for (int i = 0; i < kLanes; i++)
    result[i] = lanes[i] < kLanes ? a[lanes[i]] : b[lanes[i] - kLanes];
  return result;
#else
  return __builtin_shuffle(a, b, lanes);
#endif
}

// Lane j of vector i becomes lane i of vector j: halves are exchanged, then quarters, and so on.
INLINE void transpose(vec (&v)[kLanes]) {
#pragma GCC unroll 4
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    ivec low = {}, high = {};
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++) {
      low[i] = i & distance ? kLanes + i - distance : i;
      high[i] = i & distance ? kLanes + i : i + distance;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++) {
      if (i & distance) continue;
      const vec first = v[i], second = v[i + distance];
      v[i] = shuffle(first, second, low);
      v[i + distance] = shuffle(first, second, high);
    }
  }
}

INLINE float sum(vec v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#else
  const __m256 all = (__m256)v;
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
#endif
}

// The polynomial in x with these coefficients, the highest first.
template <int N>
INLINE vec polynomial(vec x, const float (&coefficients)[N]) {
  vec p = broadcast(coefficients[0]);
#pragma GCC unroll 8
  for (int i = 1; i < N; i++) p = p * x + coefficients[i];
  return p;
}

// exp(x) for x <= 0.
INLINE vec exp_of_negative(vec x) {
  x = larger(x, broadcast(-87.0f));
  const vec shifted = x * 1.4426950409f + 12582912.0f;  // x / log(2), rounded to an integer
  const vec power = shifted - 12582912.0f;
  const vec r = x - power * 0.693145751953125f - power * 1.42860682030941723e-6f;
  const vec p = polynomial(r, {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f});
  return (vec)((ivec)p + (((ivec)shifted - 0x4b400000) << 23));
}
