// What Python calls: a pointer to every function for each dtype of products of this machine.
// References are passed like pointers.

#include "attention_gradient.h"
#include "block.h"
#include "convolution_gradient.h"

#define EXPORT_FOR(FORMAT, name)                                                   \
  extern "C" {                                                                     \
  auto* name##_transformer_block = &transformer_block<FORMAT>;                     \
  auto* name##_attention = &attention<FORMAT>;                                     \
  auto* name##_attention_gradient = &attention_gradient<FORMAT>;                   \
  auto* name##_feed_forward = &feed_forward<FORMAT>;                               \
  auto* name##_feed_forward_gradient = &feed_forward_gradient<FORMAT>;             \
  auto* name##_convolution = &convolution<FORMAT>;                                 \
  auto* name##_convolution_weight_gradient = &convolution_weight_gradient<FORMAT>; \
  }

EXPORT_FOR(Float32, float32)
#if defined(__AVX512BF16__)
EXPORT_FOR(BFloat16, bfloat16)
#endif

extern "C" int lanes() { return kLanes; }
extern "C" void release_memory() { Scratch::release(); }
