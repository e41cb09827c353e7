// Vectors of numbers, and the number formats in which products are computed.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__AVX512F__)
constexpr int LANES = 16;  // floats in a vector
constexpr int ROWS = 8;    // of a register tile: pixels
constexpr int VECTORS = 3; // of a register tile: vectors of output channels
#elif defined(__AVX2__)
constexpr int LANES = 8;
constexpr int ROWS = 4;
constexpr int VECTORS = 3;
#else
constexpr int LANES = 4;
constexpr int ROWS = 8;
constexpr int VECTORS = 2;
#endif
constexpr int PANEL = VECTORS * LANES;  // output channels whose weights lie together

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef float unaligned_vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }
INLINE vec all(float value) {
#if defined(__AVX512F__)
  return (vec)_mm512_set1_ps(value);
#elif defined(__AVX2__)
  return (vec)_mm256_set1_ps(value);
#else
  return vec{} + value;
#endif
}
INLINE vec load(const float* from) { return *(const unaligned_vec*)from; }
INLINE void store(float* to, vec v) { *(unaligned_vec*)to = v; }

// Keeps what is used several times in a register, where GCC would rather load it again each time.
INLINE vec in_register(vec v) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  asm("" : "+x"(v));
#endif
  return v;
}

INLINE vec smaller(vec a, vec b) { return a < b ? a : b; }
INLINE vec larger(vec a, vec b) { return a > b ? a : b; }

// Lanes of a and b, which are numbered one after the other.
INLINE vec pick(vec a, vec b, ivec lanes) {
#if defined(__clang__)
  vec result;
  for (int i = 0; i < LANES; i++) result[i] = lanes[i] < LANES ? a[lanes[i]] : b[lanes[i] - LANES];
  return result;
#else
  return __builtin_shuffle(a, b, lanes);
#endif
}

// Lane j of vector i becomes lane i of vector j: by exchanging halves, quarters and so on.
INLINE void transpose(vec (&v)[LANES]) {
#pragma GCC unroll 4
  for (int distance = LANES / 2; distance > 0; distance /= 2) {
    ivec low = {}, high = {};
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
      low[i] = i & distance ? LANES + i - distance : i;
      high[i] = i & distance ? LANES + i : i + distance;
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
      if (i & distance) continue;
      const vec first = v[i], second = v[i + distance];
      v[i] = pick(first, second, low);
      v[i + distance] = pick(first, second, high);
    }
  }
}

INLINE float sum(vec v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#elif defined(__AVX2__)
  const __m256 all_lanes = (__m256)v;
  __m128 some = _mm_add_ps(_mm256_castps256_ps128(all_lanes), _mm256_extractf128_ps(all_lanes, 1));
  some = _mm_add_ps(some, _mm_movehl_ps(some, some));
  return _mm_cvtss_f32(_mm_add_ss(some, _mm_movehdup_ps(some)));
#else
  float total = 0;
  for (int i = 0; i < LANES; i++) total += v[i];
  return total;
#endif
}

// e to the power of x, which is not positive.
INLINE vec exp_of_negative(vec x) {
  x = larger(x, all(-87.0f));
  const vec shifted = x * 1.4426950409f + 12582912.0f;  // rounded to a whole number of halvings
  const vec power = shifted - 12582912.0f;
  const vec r = x - power * 0.693145751953125f - power * 1.42860682030941723e-6f;
  vec p = all(1.0f / 720);
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return (vec)((ivec)p + (((ivec)shifted - 0x4b400000) << 23));
}

// A format has numbers, as they lie in memory, and words of 32 bits, which are what a product
// multiplies: one or several numbers that follow each other in the direction summed over. words()
// makes them of the first and second numbers, words_of_row() of numbers as they lie in memory.
// following() is the word that begins one number later, preceding() the one that does so earlier;
// store_rows() stores the numbers that words() would join as rows. add_products() multiplies words
// lane by lane; in a register tile, add_product() does so with a word in all lanes, spread(), and a
// vector of words, operand(), which some formats take PASSES turns for.

struct Float32 {
  typedef float number;
  typedef float word;
  static constexpr int PER_WORD = 1;

  static INLINE vec load(const number* from) { return ::load(from); }
  static INLINE void store(number* to, vec v) { ::store(to, v); }
  static INLINE number rounded(float value) { return value; }
  static constexpr int PASSES = 1;
  static INLINE vec spread(word a, int) { return all(a); }
  static INLINE vec operand(vec b, int) { return b; }
  static INLINE vec add_product(vec total, vec a, vec b) { return total + a * b; }
  static INLINE vec add_products(vec total, vec a, vec b) { return total + a * b; }
  static INLINE vec words(vec first, vec) { return first; }
  static INLINE vec words_of_row(const float* row) { return ::load(row); }
  static INLINE void store_rows(number* to, long, vec first, vec) { ::store(to, first); }
  static INLINE vec following(vec, vec next) { return next; }
  static INLINE vec preceding(vec previous, vec) { return previous; }

  // x * (1 / 2 + r(x)).
  static INLINE vec gelu(vec x) { return x * (half_erf(x) + 0.5f); }

  // The same, and its derivative, 1 / 2 + r(x) + x times the normal density.
  static INLINE void gelu_and_slope(vec x, vec& y, vec& slope) {
    const vec distribution = half_erf(x) + 0.5f;
    y = x * distribution;
    slope = distribution + x * 0.3989422804f * exp_of_negative(-0.5f * x * x);
  }

 private:
  // A rational function fitted to erf(x / sqrt(2)) / 2 on [-5.5, 5.5]; x times the largest error is
  // 1e-6.
  static INLINE vec half_erf(vec x) {
    const vec z = smaller(larger(x, all(-5.5f)), all(5.5f)), s = z * z;
    vec p = all(2.2216059732727814e-08f);
    p = p * s + 6.530713918171766e-06f;
    p = p * s + 1.8285572068761538e-04f;
    p = p * s + 4.761601526813339e-03f;
    p = p * s + 3.5142099385608784e-02f;
    p = p * s + 3.989419853687959e-01f;
    vec q = all(1.1953998185333574e-06f);
    q = q * s + 7.860943726590002e-05f;
    q = q * s + 1.9624206222147167e-03f;
    q = q * s + 2.939856108237178e-02f;
    q = q * s + 2.547517663874548e-01f;
    q = q * s + 1.0f;
    return z * p / q;
  }
};

#if defined(__AVX512BF16__)

// Products of pairs of bfloat16 numbers, added up in float32. Those whose product is subnormal
// count as zero.
struct BFloat16 {
  typedef uint16_t number;
  typedef uint32_t word;
  static constexpr int PER_WORD = 2;

  static INLINE vec load(const number* from) {
    const __m256i half = _mm256_loadu_si256((const __m256i*)from);
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
  }
  static INLINE vec load(const float* from) { return ::load(from); }
  static INLINE void store(number* to, vec v) {
    _mm256_storeu_si256((__m256i*)to, (__m256i)_mm512_cvtneps_pbh((__m512)v));
  }
  static INLINE number rounded(float value) {
    return (number)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(value)), 0);
  }
  static constexpr int PASSES = 1;
  static INLINE vec spread(word a, int) { return (vec)_mm512_set1_epi32((int)a); }
  static INLINE vec operand(vec b, int) { return b; }
  static INLINE vec add_product(vec total, vec a, vec b) { return add_products(total, a, b); }
  static INLINE vec add_products(vec total, vec a, vec b) {
    return (vec)_mm512_dpbf16_ps((__m512)total, (__m512bh)a, (__m512bh)b);
  }
  // What two vectors become, one behind the other.
  static INLINE __m512i joined(vec first, vec second) {
    return (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
  }
  static INLINE vec words(vec first, vec second) {
    return (vec)_mm512_permutexvar_epi16(_mm512_loadu_si512(ALTERNATING.lane), joined(first, second));
  }
  static INLINE void store_rows(number* to, long next_row, vec first, vec second) {
    const __m512i both = joined(first, second);
    _mm256_storeu_si256((__m256i*)to, _mm512_castsi512_si256(both));
    _mm256_storeu_si256((__m256i*)(to + next_row), _mm512_extracti64x4_epi64(both, 1));
  }
  static INLINE vec words_of_row(const float* row) {
    return (vec)_mm512_cvtne2ps_pbh((__m512)::load(row + LANES), (__m512)::load(row));
  }
  static INLINE vec following(vec word, vec next) {
    return (vec)_mm512_or_si512(_mm512_srli_epi32((__m512i)word, 16),
                                _mm512_slli_epi32((__m512i)next, 16));
  }
  static INLINE vec preceding(vec previous, vec word) { return following(previous, word); }

  // x / 2 + |x| r(|x|), where r is erf(x / sqrt(2)) / 2. The largest error is 1.3e-4, where rounding
  // the result makes one of 8e-3.
  static INLINE vec gelu(vec v) {
    const Segment segment(v);
    const __m512 half = _mm512_mul_ps((__m512)v, _mm512_set1_ps(0.5f));
    return (vec)_mm512_fmadd_ps(segment.size, segment.of(HALF_ERF), half);
  }

  // The same, and its derivative, whose largest error is 5e-4.
  static INLINE void gelu_and_slope(vec v, vec& y, vec& slope) {
    const Segment segment(v);
    const __m512 x = (__m512)v, half = _mm512_set1_ps(0.5f);
    y = (vec)_mm512_fmadd_ps(segment.size, segment.of(HALF_ERF), _mm512_mul_ps(x, half));
    const __m512 sign = _mm512_and_ps(x, _mm512_set1_ps(-0.0f));
    slope = (vec)_mm512_add_ps(half, _mm512_xor_ps(segment.of(SLOPE), sign));
  }

 private:
  // An increasing or decreasing function of [0, 4] that is 1 / 2 beyond: parabolas on 16 segments.
  struct Parabolas {
    float c[3][16];

    Parabolas(double (*function)(double)) {
      for (int i = 0; i < 16; i++) {
        const double first = 0.25 * i, from_middle = 0.125 * 0.8660254037844386;
        const double middle = first + 0.125;
        double x[3] = {middle - from_middle, middle, middle + from_middle}, y[3];
        for (int j = 0; j < 3; j++) y[j] = function(x[j]);
        if (i == 15) x[2] = 4, y[2] = 0.5;  // meets what lies beyond
        const double d01 = (y[1] - y[0]) / (x[1] - x[0]), d12 = (y[2] - y[1]) / (x[2] - x[1]);
        const double d012 = (d12 - d01) / (x[2] - x[0]);
        c[2][i] = d012;
        c[1][i] = d01 - d012 * (x[0] + x[1]);
        c[0][i] = y[0] - d01 * x[0] + d012 * x[0] * x[1];
      }
    }
  };

  // Where |x| lies.
  struct Segment {
    __m512 size, inside;
    __m512i number;

    INLINE Segment(vec x) : size(_mm512_abs_ps((__m512)x)) {
      inside = _mm512_min_ps(size, _mm512_set1_ps(3.9999998f));
      number = _mm512_cvttps_epi32(_mm512_mul_ps(inside, _mm512_set1_ps(4.0f)));
    }
    INLINE __m512 of(const Parabolas& parabolas) const {
      const auto coefficient = [&](int i) INLINE_LAMBDA {
        return _mm512_permutexvar_ps(number, _mm512_loadu_ps(parabolas.c[i]));
      };
      const __m512 linear = _mm512_fmadd_ps(coefficient(2), inside, coefficient(1));
      return _mm512_fmadd_ps(linear, inside, coefficient(0));
    }
  };

  struct Alternating {
    uint16_t lane[2 * LANES];  // of two joined vectors, in turns

    Alternating() {
      for (int i = 0; i < 2 * LANES; i++) lane[i] = i / 2 + i % 2 * LANES;
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
const BFloat16::Alternating BFloat16::ALTERNATING;
const BFloat16::Parabolas BFloat16::SLOPE(BFloat16::slope_above_half);

#else

// The same for CPUs that do not multiply bfloat16: what it saves there is memory, not time.
struct BFloat16 {
  typedef uint16_t number;
  typedef uint32_t word;
  static constexpr int PER_WORD = 2;

  static INLINE vec load(const number* from) {
    return (vec)(__builtin_convertvector(*(const numbers*)from, bits) << 16);
  }
  static INLINE vec load(const float* from) { return ::load(from); }
  static INLINE void store(number* to, vec v) {
    *(numbers*)to = __builtin_convertvector(upper(v) >> 16, numbers);
  }
  static INLINE number rounded(float value) { return upper(all(value))[0] >> 16; }
  static constexpr int PASSES = 2;  // one for either number of a word
  static INLINE vec spread(word a, int pass) {
    return operand(in_register((vec)(bits{} + a)), pass);
  }
  static INLINE vec operand(vec b, int pass) {
    return pass ? second_of(b) : (vec)((bits)b << 16);
  }
  static INLINE vec add_product(vec total, vec a, vec b) { return total + a * b; }
  static INLINE vec add_products(vec total, vec a, vec b) {
    total += operand(a, 0) * operand(b, 0);
    return total + operand(a, 1) * operand(b, 1);
  }
  static INLINE vec words(vec first, vec second) {
    return (vec)(upper(first) >> 16 | (upper(second) & UPPER_HALVES));
  }
  static INLINE vec words_of_row(const float* row) {
    ivec even;
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) even[i] = 2 * i;
    const vec low = ::load(row), high = ::load(row + LANES);
    return words(pick(low, high, even), pick(low, high, even + 1));
  }
  static INLINE void store_rows(number* to, long next_row, vec first, vec second) {
    store(to, first);
    store(to + next_row, second);
  }
  static INLINE vec following(vec word, vec next) {
    return (vec)((bits)word >> 16 | (bits)next << 16);
  }
  static INLINE vec preceding(vec previous, vec word) { return following(previous, word); }
  static INLINE vec gelu(vec x) { return Float32::gelu(x); }
  static INLINE void gelu_and_slope(vec x, vec& y, vec& slope) {
    Float32::gelu_and_slope(x, y, slope);
  }

 private:
  typedef uint32_t bits __attribute__((vector_size(4 * LANES)));
  typedef uint16_t numbers __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

  static INLINE vec second_of(vec words) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    // In a register tile none is left for the mask.
    asm("vpand %1, %0, %0" : "+x"(words) : "m"(UPPER_HALVES));
    return words;
#else
    return (vec)((bits)words & UPPER_HALVES);
#endif
  }
  static constexpr bits UPPER_HALVES = bits{} + 0xffff0000u;

  // Bits whose upper halves are the nearest bfloat16 numbers, the even one of two. NaNs stay NaNs.
  static INLINE bits upper(vec v) {
    const bits exact = (bits)v;
    return v != v ? exact | 0x400000u : exact + 0x7fffu + (exact >> 16 & 1u);
  }
};

#endif

// Memory of a thread, kept from call to call: fresh memory would have to be provided page by page.
class Scratch {
 public:
  ~Scratch() { std::free(memory); }

  // `count` items, all of them zero.
  template <class T>
  T* take(long count) {
    T* items = keep<T>(count);
    std::memset((void*)items, 0, count * sizeof(T));
    return items;
  }

  // The same, with whatever they hold.
  template <class T>
  T* keep(long count) {
    const long bytes = (count * (long)sizeof(T) + 63) / 64 * 64;
    if (bytes > size) {
      std::free(memory);
      memory = std::aligned_alloc(64, bytes);
      if (!memory) std::abort();
      size = bytes;
    }
    return (T*)memory;
  }

 private:
  void* memory = nullptr;
  long size = 0;
};
