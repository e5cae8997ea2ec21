// What the threads of a pass share: work, waiting, and room to write to.

#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <thread>

#include "vectors.h"

namespace {

constexpr Int AHEAD = 8192;          // bytes from what is read to what is fetched: memory is slow to answer
constexpr Int FETCHED = 32 * AHEAD;  // bytes that who waits fetches at most: a quarter of the second cache
constexpr int PATIENCE = 4000;       // looks whether the others came, before the core is left to them: some 10 us

// Room for n numbers, not yet written, from the beginning of a cache line on.
template <class T>
struct Room {
  T* at;
  explicit Room(Int n) : at((T*)std::aligned_alloc(64, padded(n * sizeof(T), 64))) {}
  Room(const Room&) = delete;
  ~Room() { std::free(at); }
  operator T*() const { return at; }
};

// This thread's share of n, in whole units.
struct Share {
  Int begin, end;
  Share(Int n, Int unit) {
    Int each = padded((n + omp_get_num_threads() - 1) / omp_get_num_threads(), unit);
    begin = std::min(n, each * omp_get_thread_num());
    end = std::min(n, begin + each);
  }
};

// Have n numbers brought to the second cache.
template <class T>
inline void fetch(const T* from, Int n) {
  for (Int i = 0; i < n * Int(sizeof(T)); i += 64) __builtin_prefetch((const char*)from + i, 0, 2);
}

// Where all threads wait for one another. Memory is read meanwhile: each fetches the beginning of what it reads next,
// and goes on with that if it came early.
class Barrier {
  alignas(64) std::atomic<int> came{0};
  alignas(64) std::atomic<int> round{0};

 public:
  void wait(const char* next, Int bytes) {
    Int at = std::min(bytes, AHEAD), end = std::min(bytes, FETCHED);
    fetch(next, at);
    int now = round.load();
    if (came.fetch_add(1) + 1 == omp_get_num_threads()) {
      came = 0;
      round = now + 1;
      return;
    }
    for (int looks = 0; round.load(std::memory_order_acquire) == now; looks++) {
      fetch(next + at, std::min(Int(256), end - at));
      at = std::min(at + 256, end);
      if (looks > PATIENCE) std::this_thread::yield();  // another program may have one of their cores
    }
  }
};

}  // namespace
