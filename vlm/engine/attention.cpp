// Attention of many queries to the same keys: those of pictures, in the encoder and in cross-attention, and of prompts.
//
// Notable here:
// - A block of queries attends to all keys at once: its scores stay in the cache, and softmax sees them whole.
// - Keys and values are laid out anew so that both products run along panels of 64 columns without adding up lanes:
//   keys (Dh, 64 keys) and values (keys, 64 of Dh), neighbours along the sum side by side where bf16 is multiplied in
//   pairs. That costs a percent or two of the products.
// - Scores, softmax and sums are fp32; probabilities are rounded to the values' type, as torch does.
// - vlm/engine/attention.py lays out the struct; both must agree.
//
// Shapes: B batch, H heads, Hkv key/value heads, G = H / Hkv, T queries, S keys, Dh head_dim.

#include <omp.h>

#include <algorithm>
#include <vector>

#include "vectors.h"

extern "C" {

struct Attention {
  Int batch, n_kv, group, queries, keys, dim;
  const void *q, *k, *v;  // (B, H, T, Dh), (B, Hkv, S, Dh) twice
  void* out;              // (B, H, T, Dh)
  const float* bias;      // (S,), added to the scores of a key; may be null
  Int causal;             // a query sees the keys up to its own place, the last query all
  Int q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token, out_batch, out_head, out_token;
};  // numbers from one to the next; those of Dh are side by side
}

namespace {

constexpr Int PANEL = 64;  // columns of a panel, in 4 vectors
constexpr int ROWS = 6;    // rows that a kernel multiplies at once: with 4 vectors, 24 sums in registers
constexpr Int BLOCK = 4 * ROWS;

// Rows x (ROWS, k) by a panel w (k / depth, 64, depth), of which N vectors are wanted: (ROWS, 16 N).
template <int N, class T>
void multiply(const Operand<T>* x, Int x_row, const Operand<T>* w, Int k, float* out, Int out_row) {
  constexpr Int depth = Product<T>::depth;
  vec acc[ROWS][N] = {};
  for (Int i = 0; i < k; i += depth, w += PANEL * depth) {
#pragma GCC unroll 6
    for (int m = 0; m < ROWS; m++)
#pragma GCC unroll 4
      for (int n = 0; n < N; n++) acc[m][n] = Product<T>::spread(acc[m][n], w + n * 16 * depth, x + m * x_row + i);
  }
#pragma GCC unroll 6
  for (int m = 0; m < ROWS; m++)
#pragma GCC unroll 4
    for (int n = 0; n < N; n++) store16(out + m * out_row + n * 16, acc[m][n]);
}

template <class T>
void multiply(int n, const Operand<T>* x, Int x_row, const Operand<T>* w, Int k, float* out, Int out_row) {
  if (n == 4) return multiply<4, T>(x, x_row, w, k, out, out_row);
  if (n == 3) return multiply<3, T>(x, x_row, w, k, out, out_row);
  if (n == 2) return multiply<2, T>(x, x_row, w, k, out, out_row);
  multiply<1, T>(x, x_row, w, k, out, out_row);
}

inline void put(float* to, float x) { *to = x; }
inline void put(float* to, bf16 x) { *to = load(x); }
inline void put(bf16* to, bf16 x) { *to = x; }

template <class T>
struct Heads {
  const Attention& a;
  Int dim, keys, wide;                  // Dh and S rounded up to whole pairs, S to whole panels
  std::vector<Operand<T>> key, value;  // (Hkv, S / 64, Dh / depth, 64, depth), (Hkv, Dh / 64, S / depth, 64, depth)
  std::vector<float> bias;             // (S,) as `wide`: no score for what is no key

  explicit Heads(const Attention& a) : a(a) {
    constexpr Int depth = Product<T>::depth;
    dim = padded(a.dim, depth), keys = padded(a.keys, depth), wide = padded(a.keys, PANEL);
    key.resize(a.n_kv * wide * dim), value.resize(a.n_kv * keys * padded(a.dim, PANEL)), bias.resize(wide, -INFINITY);
    for (Int s = 0; s < a.keys; s++) bias[s] = a.bias ? a.bias[s] : 0.0f;
  }

  Operand<T>* key_panel(Int head, Int panel) { return &key[(head * wide + panel * PANEL) * dim]; }
  Operand<T>* value_panel(Int head, Int panel) {
    return &value[(head * padded(a.dim, PANEL) + panel * PANEL) * keys];
  }

  // Lay out a head's keys and values; what fills up stays zero from the beginning.
  void lay_out(Int b, Int head) {
    constexpr Int depth = Product<T>::depth;
    for (Int s = 0; s < a.keys; s++) {
      const T* k = (const T*)a.k + b * a.k_batch + head * a.k_head + s * a.k_token;
      const T* v = (const T*)a.v + b * a.v_batch + head * a.v_head + s * a.v_token;
      Operand<T>* to = key_panel(head, s / PANEL) + s % PANEL * depth;
      for (Int i = 0; i < a.dim; i++) put(to + i / depth * PANEL * depth + i % depth, k[i]);
      for (Int first = 0; first < a.dim; first += PANEL) {
        to = value_panel(head, first / PANEL) + s / depth * PANEL * depth + s % depth;
        for (Int i = 0; i < std::min(PANEL, a.dim - first); i++) put(to + i * depth, v[first + i]);
      }
    }
  }

  // A block of the G * T queries of a head. `scratch` is this thread's own.
  void attend(Int b, Int head, Int first, float* scratch) {
    Int n = std::min(BLOCK, a.group * a.queries - first), rows = padded(n, ROWS), out_wide = padded(a.dim, PANEL);
    float *scores = scratch, *sums = scores + BLOCK * wide, scale = 1.0f / std::sqrt(float(a.dim));
    Operand<T>* q = (Operand<T>*)(sums + BLOCK * out_wide);
    std::fill_n((char*)q, BLOCK * dim * sizeof(*q), 0);
    Int seen = a.keys;  // of the block's last query
    for (Int r = 0; r < n; r++) {
      const T* from = (const T*)a.q + at(b, head, first + r, a.q_batch, a.q_head, a.q_token);
      for (Int i = 0; i < a.dim; i++) put(q + r * dim + i, from[i]);
    }
    if (a.causal) seen = sees(first + n - 1);
    for (Int s = 0; s < seen; s += PANEL)
      for (Int r = 0; r < rows; r += ROWS)
        multiply<4, T>(q + r * dim, dim, key_panel(head, s / PANEL), dim, scores + r * wide + s, wide);
    float totals[BLOCK];
    for (Int r = 0; r < n; r++) totals[r] = softmax(scores + r * wide, a.causal ? sees(first + r) : seen, seen, scale);
    const Operand<T>* shares = (const Operand<T>*)scores;  // in place of the scores
    Int step = wide * sizeof(float) / sizeof(Operand<T>);
    for (Int i = 0; i < a.dim; i += PANEL)
      for (Int r = 0; r < rows; r += ROWS)
        multiply<T>(std::min(PANEL, padded(a.dim - i)) / 16, shares + r * step, step, value_panel(head, i / PANEL),
                    padded(seen, Product<T>::depth), sums + r * out_wide + i, out_wide);
    for (Int r = 0; r < n; r++) {
      T* to = (T*)a.out + at(b, head, first + r, a.out_batch, a.out_head, a.out_token);
      for (Int i = 0; i < a.dim; i++) store(to + i, sums[r * out_wide + i] / totals[r]);
    }
  }

  Int at(Int b, Int head, Int row, Int batch, Int of_head, Int token) const {
    return b * batch + (head * a.group + row % a.group) * of_head + row / a.group * token;
  }
  Int sees(Int row) const { return a.keys - a.queries + row / a.group + 1; }

  // Scores of n keys -> e^(score - largest), zero from there to `end`, written over them as operands; their sum.
  float softmax(float* scores, Int n, Int end, float scale) const {
    vec most = vec{} - INFINITY, total = {};
    for (Int s = 0; s < n; s += 16) {
      vec x = load16(scores + s) * scale + load16(&bias[s]);
      if (n - s < 16)
        for (Int i = n - s; i < 16; i++) x[i] = -INFINITY;
      store16(scores + s, x);
      most = larger(most, x);
    }
    float top = largest(most);
    Operand<T>* shares = (Operand<T>*)scores;
    for (Int s = 0; s < n; s += 16) {
      vec x = exponential(load16(scores + s) - top);
      if (n - s < 16)
        for (Int i = n - s; i < 16; i++) x[i] = 0;
      total += x;
      store16(shares + s, x);
    }
    for (Int s = padded(n); s < padded(end); s += 16) store16(shares + s, vec{});
    return sum(total);
  }
};

template <class T>
void attention(const Attention& a, int threads) {
  Heads<T> heads(a);
  Int blocks = (a.group * a.queries + BLOCK - 1) / BLOCK;
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> scratch(BLOCK * (heads.wide + padded(a.dim, PANEL) + heads.dim));
    for (Int b = 0; b < a.batch; b++) {
#pragma omp for
      for (Int head = 0; head < a.n_kv; head++) heads.lay_out(b, head);
#pragma omp for
      for (Int i = 0; i < a.n_kv * blocks; i++) heads.attend(b, i / blocks, i % blocks * BLOCK, scratch.data());
    }
  }
}

}  // namespace

extern "C" {

// Whether the sums of a kernel fit the registers; elsewhere torch is the faster.
#if defined(__AVX512F__)
int attention_is_fast() { return 1; }
#else
int attention_is_fast() { return 0; }
#endif

void attention_fp32(const Attention* a, int threads) { attention<float>(*a, threads); }
void attention_bf16(const Attention* a, int threads) { attention<bf16>(*a, threads); }
}
