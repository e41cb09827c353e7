// What Python calls: every function for each number format of this machine.

#include "attention.h"
#include "block.h"
#include "conv3x3.h"
#include "convolution.h"
#include "feed_forward.h"

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
  void name##_convolution(const Convolution* conv, const Image* from, const Arranged* to,         \
                          int columns, int bands) {                                               \
    convolution<FORMAT>(*conv, {*from, SAME}, *to, columns, bands);                               \
  }                                                                                               \
  void name##_trained_convolution(const TrainedConvolution* pass, const Image* from,              \
                                  const Arranged* to, int columns, int bands) {                   \
    trained_convolution<FORMAT>(*pass, *from, *to, columns, bands);                               \
  }                                                                                               \
  void name##_trained_convolution_gradient(const TrainedConvolution* pass, const Image* x,        \
                                           const Arranged* d_out, const Image* d_x,               \
                                           float* d_weight, int columns, int bands) {             \
    trained_convolution_gradient<FORMAT>(*pass, *x, *d_out, *d_x, d_weight, columns, bands);      \
  }                                                                                               \
  void name##_attention(const Features* x, const Attention* pass, int columns, int bands,         \
                        void* queries_keys, void* values, float* out) {                           \
    attention<FORMAT>(*x, *pass, columns, bands, (FORMAT::number*)queries_keys,                   \
                      (FORMAT::number*)values, out);                                              \
  }                                                                                               \
  void name##_attention_gradient(const Features* x, const Attention* pass,                        \
                                 const AttentionGradient* gradient, const void* queries_keys,     \
                                 const void* values, const float* d_out) {                        \
    attention_gradient<FORMAT>(*x, *pass, *gradient, (const FORMAT::number*)queries_keys,         \
                               (const FORMAT::number*)values, d_out);                             \
  }                                                                                               \
  void name##_feed_forward(const Pixels* pixels, const FeedForward* pass, const float* x,         \
                           void* before_gelu, float* out) {                                       \
    feed_forward<FORMAT>(*pixels, *pass, x, (FORMAT::number*)before_gelu, out);                   \
  }                                                                                               \
  void name##_feed_forward_gradient(const Pixels* pixels, const FeedForward* pass,                \
                                    const FeedForwardGradient* gradient, const float* x,          \
                                    const void* before_gelu, const float* d_out) {                \
    feed_forward_gradient<FORMAT>(*pixels, *pass, *gradient, x,                                   \
                                  (const FORMAT::number*)before_gelu, d_out);                     \
  }                                                                                               \
  }

EXPORT_FOR(Float32, float32)
EXPORT_FOR(BFloat16, bfloat16)

extern "C" int lanes() { return LANES; }
