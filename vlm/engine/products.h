// Products of a matrix with a few rows of activations, for decode.cpp: the matrix is read from memory once.
//
// Notable here:
// - Several rows of weights meet several of activations, so that a number in a register serves as many products as there
//   are registers for sums.
// - Weights of 8 and 4 bits (vlm/engine/quantize.py) become numbers in registers; scales are applied to sums.
// - One row of activations by plain weights: the processor sees from afar what is read next. Elsewhere it is told.
//
// Shapes: N outputs, K inputs, R rows of activations, G inputs that share a scale in int4.

#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdlib>

#include "vectors.h"

// A matrix as vlm/engine/native.py lays it out.
struct Matrix {
  const void* weight;  // (N, K) of the model's type where there are no scales, of int8 where there are no groups
  const void* scales;  // bf16: (N,), or (K / G, N, 2) of int4: scale and zero
  int64_t group;       // G; its weights are blocks of 64 rows (K, 32), in byte i those of rows i and i + 32
};

namespace {

constexpr Int AHEAD = 8192;   // bytes from what is multiplied to what is fetched: memory is slow to answer
constexpr Int SLICE = 16384;  // bytes of activations that are multiplied at a time: a third of the first cache
constexpr Int BLOCK = 64;     // rows of int4 that lie together
constexpr Int BAND = 16;      // rows of weights that are multiplied by all activations before the next are read

template <class T>
using Activation = Operand<T>;

// Room for n numbers, not yet written, from the beginning of a cache line on.
template <class T>
struct Room {
  T* at;
  explicit Room(Int n) : at((T*)std::aligned_alloc(64, padded(n * sizeof(T), 64))) {}
  Room(const Room&) = delete;
  ~Room() { std::free(at); }
  operator T*() const { return at; }
};

// P rows of weights by M rows of activations over k: the sum of (p, m) in out[(p * M + m) * 16 / (P * M)]. A function
// of its own, since amid a caller's pointers the compiler runs out of registers and spills the sums.
template <int P, int M, class W, class X>
__attribute__((noinline)) void tile(const W* w, Int w_row, const X* x, Int x_row, Int k, Int ahead, float* out) {
  using Of = Product<X>;
  vec acc[P * M];
#pragma GCC unroll 16
  for (int i = 0; i < P * M; i++) acc[i] = vec{};
  Int i = 0;
  for (; i + Of::width <= k; i += Of::width) {
    typename Of::Vector rows[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      if (M > 1 || sizeof(W) == 1) __builtin_prefetch(w + p * w_row + i + ahead, 0, 2);
      rows[p] = Of::take(w + p * w_row + i);
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) {
      typename Of::Vector column = Of::take(x + m * x_row + i);
#pragma GCC unroll 4
      for (int p = 0; p < P; p++) acc[p * M + m] = Of::along(acc[p * M + m], rows[p], column);
    }
  }
  store16(out, sums<P * M>(acc));
  for (; i < k; i++)
    for (int p = 0; p < P; p++)
      for (int m = 0; m < M; m++) out[(p * M + m) * (16 / (P * M))] += load(w[p * w_row + i]) * load(x[m * x_row + i]);
}

// N rows of weights by M rows of activations: as many at once as there are registers for 16 sums.
template <int M, class W, class X, class Sink>
void rows_by(const W* w, Int w_row, const X* x, Int x_row, Int k, Int ahead, Int n, Sink sink) {
  constexpr int P = M == 8 ? 2 : 4;
  float out[16];
  Int i = 0;
  for (; i + P <= n; i += P) {
    tile<P, M>(w + i * w_row, w_row, x, x_row, k, ahead, out);
    for (int j = 0; j < P * M; j++) sink(i + j / M, j % M, out[j * (16 / (P * M))]);
  }
  for (; i < n; i++) {
    tile<1, M>(w + i * w_row, w_row, x, x_row, k, ahead, out);
    for (int m = 0; m < M; m++) sink(i, m, out[m * (16 / M)]);
  }
}

// N rows of weights by any number of activations: sink(row of weights, row of activations, sum over k).
template <class W, class X, class Sink>
void multiply(const W* w, Int w_row, const X* x, Int x_row, Int k, Int ahead, Int n, Int rows, Sink sink) {
  for (Int m = 0, step; m < rows; m += step) {
    auto from = [&](Int i, int j, float out) { sink(i, m + j, out); };
    auto* own = x + m * x_row;
    step = rows - m >= 8 ? 8 : rows - m >= 4 ? 4 : rows - m >= 2 ? 2 : 1;
    if (step == 8) rows_by<8>(w, w_row, own, x_row, k, ahead, n, from);
    if (step == 4) rows_by<4>(w, w_row, own, x_row, k, ahead, n, from);
    if (step == 2) rows_by<2>(w, w_row, own, x_row, k, ahead, n, from);
    if (step == 1) rows_by<1>(w, w_row, own, x_row, k, ahead, n, from);
  }
}

// This thread's share of outputs, in whole cache lines, or in blocks of int4.
struct Share {
  Int begin, end;
  Share(Int n, const Matrix& w) {
    Int each = padded((n + omp_get_num_threads() - 1) / omp_get_num_threads(), w.group ? BLOCK : 16);
    begin = std::min(n, each * omp_get_thread_num());
    end = std::min(n, begin + each);
  }
};

// sink(output, row, sum over a part of k, whether it is the first part), for rows of weights side by side.
template <class W, class X, class Sink>
void by_rows(const W* w, const X* x, Share own, Int k, Int rows, Sink sink) {
  Int slice = SLICE / sizeof(X) / std::clamp(rows, Int(1), Int(8)) / 64 * 64;
  Int ahead = std::max(Int(1), AHEAD / Int(std::min(k, slice) * sizeof(W))) * k;
  for (Int first = 0; first < k; first += slice)
    for (Int band = own.begin; band < own.end; band += BAND)
      multiply(w + band * k + first, k, x + first, k, std::min(slice, k - first), ahead,
               std::min(BAND, own.end - band), rows, [&](Int i, Int r, float out) { sink(band + i, r, out, !first); });
}

// The counts of 64 rows of int4, less 8, for each of `depth` neighbours along k, in four vectors.
template <class X>
struct Nibbles {
  static constexpr Int depth = 1;
  using Vector = vec;
  static void take(const uint8_t* w, Vector* out) {
    for (int half = 0; half < 2; half++) {
      byte_vec x = reinterpret_cast<const byte_vec*>(w)[half];
      out[half] = load16((x & 15) - 8);
      out[half + 2] = load16(((x >> 4) & 15) - 8);
    }
  }
  static vec along(vec acc, Vector w, const float* x) { return acc + w * *x; }
};
#if defined(BF16_PAIRS)
struct Tables {
  uint8_t pairs[64] = {};    // bytes of rows i and i + 16, and then of their neighbours along k
  uint16_t values[32] = {};  // -8 to 7 as bf16, twice
  constexpr Tables() {
    constexpr uint16_t numbers[] = {0xc100, 0xc0e0, 0xc0c0, 0xc0a0, 0xc080, 0xc040, 0xc000, 0xbf80,
                                    0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0};
    for (int i = 0; i < 64; i++) pairs[i] = i / 4 + i % 2 * 16 + i / 2 % 2 * 32;
    for (int i = 0; i < 32; i++) values[i] = numbers[i % 16];
  }
};
alignas(64) constexpr Tables tables;

template <>
struct Nibbles<bf16> {
  static constexpr Int depth = 2;
  using Vector = __m512i;
  static void take(const uint8_t* w, Vector* out) {  // each of the 16-bit numbers looks its lowest four bits up
    __m512i values = _mm512_load_si512(tables.values);
    __m512i x = _mm512_permutexvar_epi8(_mm512_load_si512(tables.pairs), _mm512_loadu_si512(w));
    out[0] = _mm512_permutexvar_epi16(x, values);
    out[1] = _mm512_permutexvar_epi16(_mm512_srli_epi16(x, 8), values);
    out[2] = _mm512_permutexvar_epi16(_mm512_srli_epi16(x, 4), values);
    out[3] = _mm512_permutexvar_epi16(_mm512_srli_epi16(x, 12), values);
  }
  static vec along(vec acc, Vector w, const bf16* x) {
    int32_t pair;
    std::memcpy(&pair, x, 4);
    return (vec)_mm512_dpbf16_ps((__m512)acc, (__m512bh)w, (__m512bh)_mm512_set1_epi32(pair));
  }
};
#endif

// A block of 64 rows of int4 by M rows of activations, whose sums over each group are known: out (M, 64).
template <int M, class X>
__attribute__((noinline)) void block_by(const uint8_t* w, const bits_vec* scales, Int scales_row, Int group, const X* x,
                                        Int k, const float* sums, vec* out) {
  using Of = Nibbles<X>;
  Int groups = k / group;
  for (int i = 0; i < M * 4; i++) out[i] = vec{};
  for (Int g = 0; g < groups; g++, x += group, scales += scales_row) {
    vec acc[M][4] = {};
    for (Int i = 0; i < group; i += Of::depth, w += 32 * Of::depth) {
      if (M > 1) __builtin_prefetch(w + AHEAD, 0, 2);
      typename Of::Vector counts[4];
      Of::take(w, counts);
#pragma GCC unroll 4
      for (int m = 0; m < M; m++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) acc[m][j] = Of::along(acc[m][j], counts[j], x + m * k + i);
    }
#pragma GCC unroll 4
    for (int m = 0; m < M; m++)
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++)
        out[m * 4 + j] += (vec)(scales[j] << 16) * acc[m][j] + (vec)(scales[j] & 0xffff0000) * sums[m * groups + g];
  }
}

// The same for this thread's blocks and any number of activations, as `by_rows`.
template <class X, class Sink>
void by_blocks(const Matrix& w, const X* x, Share own, Int n, Int k, Int rows, Sink sink) {
  Int groups = k / w.group;
  Room<float> sums(rows * groups);
  for (Int i = 0; i < rows * groups; i++) {
    vec all = {};
    for (Int j = 0; j < w.group; j += 16) all += load16(x + i * w.group + j);
    sums[i] = sum(all);
  }
  for (Int at = own.begin; at < own.end; at += BLOCK)
    for (Int m = 0, step; m < rows; m += step) {
      auto* block = (const uint8_t*)w.weight + at * k / 2;
      auto* scales = (const bits_vec*)w.scales + at / 16;
      vec out[16];
      auto run = [&](auto* kernel) { kernel(block, scales, n / 16, w.group, x + m * k, k, sums + m * groups, out); };
      step = rows - m >= 4 ? 4 : rows - m >= 2 ? 2 : 1;
      run(step == 4 ? block_by<4, X> : step == 2 ? block_by<2, X> : block_by<1, X>);
      for (Int i = 0; i < step * BLOCK; i++) sink(at + i % BLOCK, m + i / BLOCK, out[i / 16][i % 16], true);
    }
}

// W (N, K) by X (R, K) for this thread's outputs: to[row, i] = sum over k, or to[row, i] += share(row) * sum.
template <bool Add, class T, class Weight>
void product(const Matrix& w, const Activation<T>* x, Int n, Int k, Int rows, float* to, Int to_row, Weight share) {
  Share own(n, w);
  auto put = [&](Int i, Int r, float out, bool first) {
    float* at = to + r * to_row + i;
    if constexpr (Add) {
      if (float weight = share(r)) *at += weight * out;
    } else {
      *at = first ? out : *at + out;
    }
  };
  if (!w.scales) return by_rows((const T*)w.weight, x, own, k, rows, put);
  if (w.group) return by_blocks(w, x, own, n, k, rows, put);
  auto scales = (const bf16*)w.scales;
  by_rows((const int8_t*)w.weight, x, own, k, rows,
          [&](Int i, Int r, float out, bool first) { put(i, r, load(scales[i]) * out, first); });
}

}  // namespace
