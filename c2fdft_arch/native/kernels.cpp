// What Python calls: every function for each number format of this machine.

#include "block.h"
#include "conv3x3.h"

#define EXPORT_FOR(FORMAT, name)                                                                  \
  extern "C" {                                                                                    \
  long name##_packed_bytes(const WeightShape* shape) {                                            \
    return shape->vectors<FORMAT>() * (long)sizeof(vec);                                          \
  }                                                                                               \
  void name##_pack(const float* weight, const long* strides, const WeightShape* shape, void* to) { \
    pack<FORMAT>(weight, strides, *shape, (vec*)to);                                              \
  }                                                                                               \
  void name##_first_pass(const Features* x, const FirstPass* pass, int columns, int bands,        \
                         void* values, float* products, float* squares) {                         \
    first_pass<FORMAT>(*x, *pass, columns, bands, (FORMAT::number*)values, products, squares);    \
  }                                                                                               \
  void name##_second_pass(const Features* x, const SecondPass* pass, const void* values) {        \
    second_pass<FORMAT>(*x, *pass, (const FORMAT::number*)values);                                \
  }                                                                                               \
  void name##_convolution(const Convolution* conv, const Image* from, const Image* to,            \
                          int columns, int bands) {                                               \
    convolution<FORMAT>(*conv, *from, *to, columns, bands);                                       \
  }                                                                                               \
  }

EXPORT_FOR(Float32, float32)

#if defined(__AVX512BF16__)
EXPORT_FOR(BFloat16, bfloat16)
#endif

// Sizes on which the memory that Python provides depends.
extern "C" int lanes() { return LANES; }
extern "C" int tile_rows() { return ROWS; }
extern "C" int panel() { return PANEL; }
