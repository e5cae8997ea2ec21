// How fast memory is read by plain loops, as a measure of what decoding can reach: benchmarks/engine_turns.py.

#include <omp.h>

#include <cstdint>

namespace {

typedef int32_t vec __attribute__((vector_size(64), aligned(64)));

}  // namespace

extern "C" {

// The exclusive or of n bytes, but for a rest of less than 512 for each thread. A thread reads its share as `streams`
// (1, 2 or 4) stretches side by side; where `ahead` is not 0 it fetches so many bytes ahead.
int read_bytes(const char* from, int64_t n, int streams, int64_t ahead, int threads) {
  int out = 0;
#pragma omp parallel num_threads(threads) reduction(^ : out)
  {
    int64_t share = n / omp_get_num_threads() / 512 * 512, stretch = share / streams;
    const char* own = from + share * omp_get_thread_num();
    vec found[4] = {};
    for (int64_t i = 0; i + 128 <= stretch; i += 128)
      for (int s = 0; s < streams; s++) {
        const char* at = own + s * stretch + i;
        if (ahead) __builtin_prefetch(at + ahead), __builtin_prefetch(at + ahead + 64);
        found[s] ^= *(const vec*)at ^ *(const vec*)(at + 64);
      }
    vec all = found[0] ^ found[1] ^ found[2] ^ found[3];
    for (int i = 0; i < 16; i++) out ^= all[i];
  }
  return out;
}
}
