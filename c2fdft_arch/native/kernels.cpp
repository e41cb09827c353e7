// What Python calls: every function for each number format of this machine.

#include "block.h"
#include "conv3x3.h"

#define EXPORT_FOR(FORMAT, name)                                                                  \
  extern "C" {                                                                                    \
  long name##_packed_bytes(const WeightShape* shape) {                                            \
    return shape->vectors<FORMAT>() * (long)sizeof(vec);                                          \
  }                                                                                               \
  void name##_pack(const float* weight, const WeightStrides* strides, const WeightShape* shape,   \
                   void* to) {                                                                    \
    pack<FORMAT>(weight, *strides, *shape, (vec*)to);                                             \
  }                                                                                               \
  void name##_block(const Features* x, const FirstPass* first, const Mixing* mixing,             \
                    const SecondPass* second, int columns, int bands, void* values) {             \
    block<FORMAT>(*x, *first, *mixing, *second, columns, bands, (FORMAT::number*)values);         \
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

extern "C" int lanes() { return LANES; }
