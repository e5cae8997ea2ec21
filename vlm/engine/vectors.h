// Numbers and vectors that decode.cpp and attention.cpp share.
//
// Notable here:
// - vec is 16 fp32 numbers in whatever registers the processor has: one with AVX-512, two with AVX2, four with SSE.
// - Products of bf16 take pairs of neighbours and add in fp32 where the processor does that (AVX-512 BF16, and VBMI to
//   lay pairs of small weights; only Cooper Lake has the one alone); elsewhere bf16 is widened first.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif
#if defined(__AVX512BF16__) && defined(__AVX512VBMI__)
#define BF16_PAIRS
#endif

namespace {

using Int = int64_t;

struct bf16 {
  uint16_t bits;
};
typedef float vec __attribute__((vector_size(64), aligned(4)));
typedef uint16_t half_vec __attribute__((vector_size(32), aligned(2)));
typedef int8_t byte_vec __attribute__((vector_size(16), aligned(1)));
typedef int32_t int_vec __attribute__((vector_size(64), aligned(4)));
typedef uint32_t bits_vec __attribute__((vector_size(64), aligned(4)));

inline float load(float x) { return x; }
inline float load(bf16 x) {
  uint32_t bits = uint32_t(x.bits) << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}
inline float load(int8_t x) { return x; }
inline void store(float* to, float x) { *to = x; }
inline void store(bf16* to, float x) {  // to the nearest, ties to even; what is not a number stays none
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  to->bits = x != x ? 0x7fc0 : uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline vec load16(const float* x) { return *reinterpret_cast<const vec*>(x); }
inline vec load16(const bf16* x) {
  return (vec)(__builtin_convertvector(*reinterpret_cast<const half_vec*>(x), bits_vec) << 16);
}
inline vec load16(byte_vec x) {
#if defined(__AVX512F__)
  return (vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32((__m128i)x));  // the compiler would take the bytes one by one
#else
  return __builtin_convertvector(__builtin_convertvector(x, int_vec), vec);
#endif
}
inline vec load16(const int8_t* x) { return load16(*reinterpret_cast<const byte_vec*>(x)); }
inline void store16(float* to, vec x) { *reinterpret_cast<vec*>(to) = x; }
inline void store16(bf16* to, vec x) {
#if defined(BF16_PAIRS)
  __m256bh out = _mm512_cvtneps_pbh((__m512)x);
  std::memcpy(to, &out, 32);
#else
  for (int i = 0; i < 16; i++) store(to + i, x[i]);
#endif
}

inline float sum(vec x) {
  const int_vec lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  x += __builtin_shuffle(x, lanes ^ 8);
  x += __builtin_shuffle(x, lanes ^ 4);
  x += __builtin_shuffle(x, lanes ^ 2);
  x += __builtin_shuffle(x, lanes ^ 1);
  return x[0];
}

// Sums of N vectors (1, 2, 4, 8 or 16): that of x[i] in lane i * 16 / N. Each step adds the halves of two vectors, or of
// one, so that N sums cost hardly more than one.
template <int N, int Half = 8>
inline vec sums(vec* x) {
  const int_vec lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  if constexpr (Half == 0) {
    return x[0];
  } else if constexpr (N == 1) {
    x[0] += __builtin_shuffle(x[0], lanes ^ Half);
    return sums<1, Half / 2>(x);
  } else {
    const int_vec second = (lanes & Half) != 0 ? int_vec{} + 16 : int_vec{};  // lanes that take the other vector's
#pragma GCC unroll 8
    for (int i = 0; i < N / 2; i++)
      x[i] = __builtin_shuffle(x[i], x[i + N / 2], lanes + second) +
             __builtin_shuffle(x[i], x[i + N / 2], (lanes ^ Half) + second);
    return sums<N / 2, Half / 2>(x);
  }
}

// The same side by side, of any N: out[i] for x[i]. Numbers behind them may be written, up to a multiple of 16.
template <int N>
inline void sums(vec* x, float* out) {
  constexpr int most = N >= 16 ? 16 : N >= 8 ? 8 : N >= 4 ? 4 : N >= 2 ? 2 : 1;
  const int_vec lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  store16(out, __builtin_shuffle(sums<most>(x), lanes * (16 / most)));
  if constexpr (N > most) sums<N - most>(x + most, out + most);
}

inline vec larger(vec a, vec b) { return a > b ? a : b; }  // b where one is no number
inline float largest(vec x) {
  float out = x[0];
  for (int i = 1; i < 16; i++) out = x[i] > out ? x[i] : out;
  return out;
}

// e^x, to two units in the last place; what is not a number stays none.
inline vec exponential(vec x) {
  const vec low = vec{} - 87.0f, high = vec{} + 88.0f, magic = vec{} + 12582912.0f;  // adding it rounds
  x = x < low ? low : x > high ? high : x;
  vec whole = (x * 1.44269504f + magic) - magic;
  vec rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  vec out = rest * 1.9875691500e-4f + 1.3981999507e-3f;
  out = out * rest + 8.3334519073e-3f;
  out = out * rest + 4.1665795894e-2f;
  out = out * rest + 1.6666665459e-1f;
  out = out * rest + 5.0000001201e-1f;
  out = out * rest * rest + rest + 1.0f;
  return out * (vec)((__builtin_convertvector(whole, int_vec) + 127) << 23);
}

inline Int padded(Int n, Int to = 16) { return (n + to - 1) / to * to; }

// How products take numbers of type T: as what (Operand), and how many neighbours along the sum at once (depth).
template <class T>
struct Product {
  using Operand = float;
  static constexpr Int depth = 1;
  // acc[i] += w[i] * x[0], 16 of them
  static vec spread(vec acc, const float* w, const float* x) { return acc + load16(w) * *x; }
  // acc[i] += w[i] * x[i], 16 of them
  static constexpr Int width = 16;
  using Vector = vec;
  template <class From>
  static vec take(const From* x) {
    return load16(x);
  }
  static vec along(vec acc, vec w, vec x) { return acc + w * x; }
};
#if defined(BF16_PAIRS)
template <>
struct Product<bf16> {
  using Operand = bf16;
  static constexpr Int depth = 2;
  // acc[i] += w[2 i] * x[0] + w[2 i + 1] * x[1], 16 of them
  static vec spread(vec acc, const bf16* w, const bf16* x) {
    int32_t pair;
    std::memcpy(&pair, x, 4);
    return (vec)_mm512_dpbf16_ps((__m512)acc, (__m512bh)_mm512_loadu_si512(w), (__m512bh)_mm512_set1_epi32(pair));
  }
  // acc[i] += w[2 i] * x[2 i] + w[2 i + 1] * x[2 i + 1], 16 of them
  static constexpr Int width = 32;
  using Vector = __m512bh;
  static Vector take(const bf16* x) { return (__m512bh)_mm512_loadu_si512(x); }
  static Vector take(const int8_t* x) { return _mm512_cvtne2ps_pbh((__m512)load16(x + 16), (__m512)load16(x)); }
  static vec along(vec acc, Vector w, Vector x) { return (vec)_mm512_dpbf16_ps((__m512)acc, w, x); }
};
#endif
template <class T>
using Operand = typename Product<T>::Operand;

}  // namespace
