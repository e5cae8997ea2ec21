// Products of a matrix with a few rows of activations, for decode.cpp: the matrix is read from memory once.
//
// Notable here:
// - Several rows of weights meet all rows of activations at once, so that each number is loaded into a register once for
//   as many products as there are registers for sums.
// - One row of activations: the processor sees from afar what is read next. More rows: it is told.
//
// Shapes: N outputs, K inputs, R rows of activations.

#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdlib>

#include "vectors.h"

namespace {

constexpr Int AHEAD = 8192;   // bytes from what is multiplied to what is fetched: memory is slow to answer
constexpr Int SLICE = 16384;  // bytes of activations that are multiplied at a time: a third of the first cache
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

// P rows of weights by M rows of activations over k: the sum of (p, m) in out[(p * M + m) * 16 / (P * M)]. A function of
// its own, since amid a caller's pointers the compiler runs out of registers and spills the sums.
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
      if (M > 1) __builtin_prefetch(w + p * w_row + i + ahead, 0, 2);
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

// This thread's share of outputs, in whole cache lines.
struct Share {
  Int begin, end;
  explicit Share(Int n) {
    Int each = padded((n + omp_get_num_threads() - 1) / omp_get_num_threads());
    begin = std::min(n, each * omp_get_thread_num());
    end = std::min(n, begin + each);
  }
};

// W (N, K) by X (R, K) for this thread's outputs: to[row, i] = sum over k, or to[row, i] += share(row) * sum.
template <bool Add, class T, class Weight>
void product(const T* w, const Activation<T>* x, Int n, Int k, Int rows, float* to, Int to_row, Weight share) {
  Share own(n);
  Int slice = SLICE / sizeof(*x) / std::clamp(rows, Int(1), Int(8)) / 64 * 64;
  Int ahead = std::max(Int(1), AHEAD / Int(std::min(k, slice) * sizeof(T))) * k;
  for (Int first = 0; first < k; first += slice)
    for (Int band = own.begin; band < own.end; band += BAND)
      multiply(w + band * k + first, k, x + first, k, std::min(slice, k - first), ahead,
               std::min(BAND, own.end - band), rows, [&](Int i, Int r, float out) {
                 float* at = to + r * to_row + band + i;
                 if constexpr (Add) {
                   if (float weight = share(r)) *at += weight * out;
                 } else {
                   *at = first ? *at + out : out;
                 }
               });
}

}  // namespace
