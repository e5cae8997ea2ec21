// Products of a matrix with a few rows of activations, for decode.cpp: the matrix is read from memory once.
//
// Notable here:
// - Several rows of weights meet several of activations, so that a number in a register serves as many products as
//   there are registers for sums.
// - Weights of 8 and 4 bits (vlm/engine/quantize.py) become numbers in registers; scales are applied to sums.
// - One row of activations by plain weights: the processor sees from afar what is read next. Elsewhere it is told, in
//   the order in which rows lie: a memory that is slow is read a fifth faster so than by several rows side by side.
//
// Shapes: N outputs, K inputs, R rows of activations, G inputs that share a scale in int4.

#pragma once

#include <algorithm>

#include "threads.h"
#include "vectors.h"

// A matrix as vlm/engine/native.py lays it out.
struct Matrix {
  const void* weight;  // (N, K) of the model's type where there are no scales, of int8 where there are no groups
  const void* scales;  // bf16: (N,), or (K / G, N, 2) of int4: scale and zero
  int64_t group;       // G; its weights are blocks of 64 rows (K, 32), in byte i those of rows i and i + 32
};

namespace {

constexpr Int SLICE = 24576;  // bytes of activations that are multiplied at a time: half of the first cache
constexpr Int BLOCK = 64;     // rows of int4 that lie together
constexpr Int BAND = 96;      // rows of weights that are multiplied by all activations before the next are read

template <class T>
using Activation = Operand<T>;

// Numbers from one row of k activations to the next: eight rows then have the first cache's sets (4 KB) in turn.
template <class T>
inline Int row_of(Int k) {
  constexpr Int size = sizeof(Activation<T>);
  return (padded(k * size, 4096) + 1536) / size;
}

// P rows of weights by M rows of activations over k: the sum of (m, p) in out[m * P + p]. A function of its own, since
// amid a caller's pointers the compiler runs out of registers and spills the sums.
template <int P, int M, class W, class X>
__attribute__((noinline)) void tile(const W* w, Int w_row, const X* x, Int x_row, Int k, Int ahead, float* out) {
  using Of = Product<X>;
  constexpr int width = Of::width;
  bool whole = w_row == k;  // then what is fetched follows in memory, else in each row
  Int side = whole ? width : w_row, step = whole ? P * width : width;
  const W* next = w + ahead;
  vec acc[P * M];
#pragma GCC unroll 24
  for (int i = 0; i < P * M; i++) acc[i] = vec{};
  Int i = 0;
  for (; i + width <= k; i += width, next += step) {
    typename Of::Vector rows[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      if (M > 1 || sizeof(W) == 1) __builtin_prefetch(next + p * side);
      rows[p] = Of::take(w + p * w_row + i);
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) {
      typename Of::Vector column = Of::take(x + m * x_row + i);
#pragma GCC unroll 4
      for (int p = 0; p < P; p++) acc[m * P + p] = Of::along(acc[m * P + p], rows[p], column);
    }
  }
  sums<P * M>(acc, out);
  for (; i < k; i++)
    for (int p = 0; p < P; p++)
      for (int m = 0; m < M; m++) out[m * P + p] += load(w[p * w_row + i]) * load(x[m * x_row + i]);
}

// N rows of weights by M rows of activations: as many at once as there are registers for sums.
template <int M, class W, class X, class Sink>
void rows_by(const W* w, Int w_row, const X* x, Int x_row, Int k, Int ahead, Int n, Sink sink) {
  constexpr int P = M == 8 ? 3 : 4;
  float out[32];
  Int i = 0;
  for (; i + P <= n; i += P) {
    tile<P, M>(w + i * w_row, w_row, x, x_row, k, ahead, out);
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) sink(i, m, out + m * P, P);
  }
  for (; i < n; i++) {
    tile<1, M>(w + i * w_row, w_row, x, x_row, k, ahead, out);
    for (int m = 0; m < M; m++) sink(i, m, out + m, 1);
  }
}

// N rows of weights by any number of activations: sink(row of weights, row of activations, sums over k of some rows of
// weights from there on, how many).
template <class W, class X, class Sink>
void multiply(const W* w, Int w_row, const X* x, Int x_row, Int k, Int ahead, Int n, Int rows, Sink sink) {
  for (Int m = 0, step; m < rows; m += step) {
    auto from = [&](Int i, int j, const float* out, int many) { sink(i, m + j, out, many); };
    auto* own = x + m * x_row;
    step = rows - m >= 8 ? 8 : rows - m >= 4 ? 4 : rows - m >= 2 ? 2 : 1;
    if (step == 8) rows_by<8>(w, w_row, own, x_row, k, ahead, n, from);
    if (step == 4) rows_by<4>(w, w_row, own, x_row, k, ahead, n, from);
    if (step == 2) rows_by<2>(w, w_row, own, x_row, k, ahead, n, from);
    if (step == 1) rows_by<1>(w, w_row, own, x_row, k, ahead, n, from);
  }
}

// This thread's share of a matrix' outputs, in whole cache lines, or in blocks of int4.
inline Share share_of(const Matrix& w, Int n) { return Share(n, w.group ? BLOCK : 16); }

// sink(output, row, sums over a part of k, how many, whether it is the first part), for rows of weights side by side.
template <class W, class X, class Sink>
void by_rows(const W* w, const X* x, Int x_row, Share own, Int k, Int rows, Sink sink) {
  Int fits = SLICE / sizeof(X) / std::clamp(rows, Int(1), Int(8)), slice = padded(k / ((k + fits - 1) / fits), 64);
  Int ahead = slice >= k ? AHEAD / Int(sizeof(W)) : padded(AHEAD, slice * sizeof(W)) / Int(slice * sizeof(W)) * k;
  for (Int band = own.begin; band < own.end; band += BAND)
    for (Int first = 0; first < k; first += slice)
      multiply(w + band * k + first, k, x + first, x_row, std::min(slice, k - first), ahead,
               std::min(BAND, own.end - band), rows,
               [&](Int i, Int r, const float* out, int n) { sink(band + i, r, out, n, !first); });
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
                                        Int x_row, Int k, const float* sums, vec* out) {
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
        for (int j = 0; j < 4; j++) acc[m][j] = Of::along(acc[m][j], counts[j], x + m * x_row + i);
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
void by_blocks(const Matrix& w, const X* x, Int x_row, Share own, Int n, Int k, Int rows, Sink sink) {
  Int groups = k / w.group;
  Room<float> sums(rows * groups);
  for (Int i = 0; i < rows * groups; i++) {
    vec all = {};
    for (Int j = 0; j < w.group; j += 16) all += load16(x + i / groups * x_row + i % groups * w.group + j);
    sums[i] = sum(all);
  }
  for (Int at = own.begin; at < own.end; at += BLOCK)
    for (Int m = 0, step; m < rows; m += step) {
      auto* block = (const uint8_t*)w.weight + at * k / 2;
      auto* scales = (const bits_vec*)w.scales + at / 16;
      vec out[16];
      auto run = [&](auto* kernel) {
        kernel(block, scales, n / 16, w.group, x + m * x_row, x_row, k, sums + m * groups, out);
      };
      step = rows - m >= 4 ? 4 : rows - m >= 2 ? 2 : 1;
      run(step == 4 ? block_by<4, X> : step == 2 ? block_by<2, X> : block_by<1, X>);
      for (Int i = 0; i < step; i++) sink(at, m + i, (const float*)(out + i * BLOCK / 16), BLOCK, true);
    }
}

// W (N, K) by X (R, K), whose rows are row_of(K) apart, for this thread's outputs: to[row, i] = sum over k, or
// to[row, i] += share(row) * sum.
template <bool Add, class T, class Weight>
void product(const Matrix& w, const Activation<T>* x, Int n, Int k, Int rows, float* to, Int to_row, Weight share) {
  Share own = share_of(w, n);
  Int x_row = row_of<T>(k);
  auto put = [&](Int i, Int r, const float* sums, int many, bool first) {
    float* at = to + r * to_row + i;
    float weight = share(r);
    if (!weight) return;
    for (int j = 0; j < many; j++) at[j] = Add || !first ? at[j] + weight * sums[j] : sums[j];
  };
  if (!w.scales) return by_rows((const T*)w.weight, x, x_row, own, k, rows, put);
  if (w.group) return by_blocks(w, x, x_row, own, n, k, rows, put);
  auto scales = (const bf16*)w.scales;
  by_rows((const int8_t*)w.weight, x, x_row, own, k, rows, [&](Int i, Int r, const float* sums, int many, bool first) {
    float scaled[4];
    for (int j = 0; j < many; j++) scaled[j] = load(scales[i + j]) * sums[j];
    put(i, r, scaled, many, first);
  });
}

}  // namespace
