// What Python calls: a function for each dtype of products of this machine, and what both sides must
// agree on. References are passed like pointers.

#include "attention_gradient.h"
#include "block.h"
#include "convolution_gradient.h"

// How many threads the parallel regions of a call have.
class ThreadCount {
 public:
  explicit ThreadCount(int threads) : before(omp_get_max_threads()) {
    omp_set_num_threads(threads);
    most = std::max(most, threads);
  }
  ~ThreadCount() { omp_set_num_threads(before); }

  static inline thread_local int most = 1;  // that a call of this thread had

 private:
  const int before;
};

// Frees what the calling thread and those of its calls' teams keep.
static void release() {
  const ThreadCount count(ThreadCount::most);
  Scratch::release();
}

// A function as Python calls it: the number of threads first; the result is 0, or 1 if there is not
// enough memory.
template <auto function>
struct Entry;

template <class... Arguments, void (*function)(Arguments...)>
struct Entry<function> {
  static int call(int threads, Arguments... arguments) {
    const ThreadCount count(threads);
    try {
      function(arguments...);
      return 0;
    } catch (const std::bad_alloc&) {
      release();
      return 1;
    }
  }
};

#define EXPORT_FOR(FORMAT, name)                                                                \
  extern "C" {                                                                                  \
  auto* name##_transformer_block = &Entry<&transformer_block<FORMAT>>::call;                     \
  auto* name##_attention = &Entry<&attention<FORMAT>>::call;                                     \
  auto* name##_attention_gradient = &Entry<&attention_gradient<FORMAT>>::call;                   \
  auto* name##_feed_forward = &Entry<&feed_forward<FORMAT>>::call;                               \
  auto* name##_feed_forward_gradient = &Entry<&feed_forward_gradient<FORMAT>>::call;             \
  auto* name##_convolution = &Entry<&convolution<FORMAT>>::call;                                 \
  auto* name##_convolution_weight_gradient = &Entry<&convolution_weight_gradient<FORMAT>>::call; \
  }

EXPORT_FOR(Float32, float32)
#if defined(__AVX512BF16__)
EXPORT_FOR(BFloat16, bfloat16)
#endif

struct Shared {
  const char* name;
  long value;
};

#define SIZE_OF(structure) {#structure, (long)sizeof(structure)}
#define CONSTANT(name) {#name, (long)name}

extern "C" {
// Sizes of the structures and constants that structures.py and layout.py state too.
Shared shared[] = {
    SIZE_OF(Features), SIZE_OF(ShuffledView), SIZE_OF(Convolution), SIZE_OF(NormParameters),
    SIZE_OF(FeedForward), SIZE_OF(FeedForwardGradient), SIZE_OF(AttentionMatrices),
    SIZE_OF(Attention), SIZE_OF(AttentionGradient), CONSTANT(SAME), CONSTANT(UNSHUFFLE),
    CONSTANT(SHUFFLE), CONSTANT(JOIN_SHUFFLE), CONSTANT(kHalo), CONSTANT(kMaxMR),
    CONSTANT(kChunk), {nullptr, 0}};

int lanes() { return kLanes; }

void release_scratch() { release(); }

// Bytes that all threads keep.
long scratch_bytes() { return Scratch::held; }

// They can have no more than this; for tests.
void limit_scratch(long bytes) { Scratch::limit = bytes; }
}
