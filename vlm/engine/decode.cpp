// One decoding pass, one new token for each of a few rows, from embeddings to logits in one parallel region.
//
// Notable here:
// - Each weight is read from memory once a pass, by one thread, in order: the time of a pass is the time to read them.
// - Sums, softmax and the residual stream are fp32 whatever the weights are. Products of bf16 weights take bf16
//   activations where the processor multiplies those (AVX-512 BF16), fp32 ones elsewhere.
// - Rows of the batch never meet: what a row gets does not depend on the others.
// - vlm/engine/native.py compiles this and lays out the structs; both must agree.
//
// Shapes: R rows, D dim, F hidden_dim, H heads, Hkv key/value heads, G = H / Hkv, Dh head_dim, V vocabulary, N tokens
// attended to; matrices are (outputs, inputs), row by row.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace {

using Int = int64_t;

struct bf16 {
  uint16_t bits;
};
typedef float vec __attribute__((vector_size(64), aligned(4)));  // 16 numbers, whatever registers there are
typedef uint16_t half_vec __attribute__((vector_size(32), aligned(2)));
typedef int32_t int_vec __attribute__((vector_size(64)));
typedef uint32_t bits_vec __attribute__((vector_size(64), aligned(4)));

inline float load(float x) { return x; }
inline float load(bf16 x) {
  uint32_t bits = uint32_t(x.bits) << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}
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
inline float sum(vec x) {
  const int_vec lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  x += __builtin_shuffle(x, lanes ^ 8);
  x += __builtin_shuffle(x, lanes ^ 4);
  x += __builtin_shuffle(x, lanes ^ 2);
  x += __builtin_shuffle(x, lanes ^ 1);
  return x[0];
}

// How a product takes its activations, and how many numbers it takes at once.
template <class T>
struct Dot {
  using Activation = float;
  static constexpr Int width = 16;
  static vec step(vec acc, const T* w, const float* x) { return acc + load16(w) * load16(x); }
};
#if defined(__AVX512BF16__)
template <>
struct Dot<bf16> {
  using Activation = bf16;
  static constexpr Int width = 32;
  static vec step(vec acc, const bf16* w, const bf16* x) {
    return (vec)_mm512_dpbf16_ps((__m512)acc, (__m512bh)_mm512_loadu_si512(w), (__m512bh)_mm512_loadu_si512(x));
  }
};
#endif
template <class T>
using Activation = typename Dot<T>::Activation;

// Rows w .. w + P of a matrix by columns x .. x + M: sink(p, m, sum over k).
template <int P, int M, class T, class Sink>
void tile(const T* w, const Activation<T>* x, Int k, Sink sink) {
  vec acc[P][M] = {};
  Int i = 0;
  for (; i + Dot<T>::width <= k; i += Dot<T>::width)
    for (int p = 0; p < P; p++) {
      __builtin_prefetch(w + (p + P) * k + i);  // the next rows: memory is waited for before it is needed
      for (int m = 0; m < M; m++) acc[p][m] = Dot<T>::step(acc[p][m], w + p * k + i, x + m * k + i);
    }
  for (int p = 0; p < P; p++)
    for (int m = 0; m < M; m++) {
      float out = sum(acc[p][m]);
      for (Int j = i; j < k; j++) out += load(w[p * k + j]) * load(x[m * k + j]);
      sink(p, m, out);
    }
}

template <int P, class T, class Sink>
void tiles(const T* w, const Activation<T>* x, Int k, Int rows, Sink sink) {
  Int m = 0;
  auto from = [&](int p, int j, float out) { sink(p, m + j, out); };
  for (; m + 8 <= rows; m += 8) {
    if constexpr (P > 2) {  // registers for 16 sums
      for (int p = 0; p < P; p += 2)
        tile<2, 8>(w + p * k, x + m * k, k, [&](int q, int j, float out) { sink(p + q, m + j, out); });
    } else {
      tile<P, 8>(w, x + m * k, k, from);
    }
  }
  if (m + 4 <= rows) tile<P, 4>(w, x + m * k, k, from), m += 4;
  if (m + 2 <= rows) tile<P, 2>(w, x + m * k, k, from), m += 2;
  if (m < rows) tile<P, 1>(w, x + m * k, k, from);
}

// This thread's share of outputs, in whole cache lines.
struct Share {
  Int begin, end;
  explicit Share(Int n) {
    Int each = (n + omp_get_num_threads() - 1) / omp_get_num_threads();
    each = (each + 15) / 16 * 16;
    begin = std::min(n, each * omp_get_thread_num());
    end = std::min(n, begin + each);
  }
};

// W (n, k) by X (rows, k): sink(output, row, value) for this thread's outputs.
template <class T, class Sink>
void product(const T* w, const Activation<T>* x, Int n, Int k, Int rows, Sink sink) {
  Share share(n);
  Int i = share.begin;
  auto from = [&](int p, Int m, float out) { sink(i + p, m, out); };
  for (; i + 4 <= share.end; i += 4) tiles<4>(w + i * k, x, k, rows, from);
  for (; i < share.end; i++) tiles<1>(w + i * k, x, k, rows, from);
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

template <class T>
float dot(const float* a, const T* b, Int n) {
  vec acc = {};
  Int i = 0;
  for (; i + 16 <= n; i += 16) acc += load16(a + i) * load16(b + i);
  float out = sum(acc);
  for (; i < n; i++) out += a[i] * load(b[i]);
  return out;
}

template <class T>
void add(float* to, float weight, const T* x, Int n) {
  Int i = 0;
  for (; i + 16 <= n; i += 16) *(vec*)(to + i) += weight * load16(x + i);
  for (; i < n; i++) to[i] += weight * load(x[i]);
}

template <class T, class To>
void rms_norm(const float* x, const T* weight, Int n, float eps, To* out) {
  float scale = 1.0f / std::sqrt(dot(x, x, n) / n + eps);
  for (Int i = 0; i < n; i++) store(out + i, x[i] * scale * load(weight[i]));
}

inline Int padded(Int n) { return (n + 15) / 16 * 16; }

// G queries (G, Dh) by N keys and values at key(t), value(t): softmax(q k / sqrt(Dh)) v, (G, Dh).
// `scratch` holds G * (padded(N) + Dh) numbers.
template <class T, class Key, class Value>
void attend(const float* q, Int group, Int dim, Int n, Key key, Value value, float* scratch, Activation<T>* out) {
  float scale = 1.0f / std::sqrt(float(dim)), *scores = scratch, *sums = scratch + group * padded(n);
  std::fill_n(scratch, group * (padded(n) + dim), 0.0f);
  for (Int t = 0; t < n; t++) {
    const T* k = key(t);
    for (Int g = 0; g < group; g++) scores[g * padded(n) + t] = dot(q + g * dim, k, dim) * scale;
  }
  for (Int g = 0; g < group; g++) {
    float *own = scores + g * padded(n), most = *std::max_element(own, own + n);
    vec total = {};
    for (Int t = n; t < padded(n); t++) own[t] = -INFINITY;  // becomes less than 1e-37
    for (Int t = 0; t < n; t += 16) total += *(vec*)(own + t) = exponential(load16(own + t) - most);
    for (Int t = 0; t < n; t += 16) *(vec*)(own + t) /= sum(total);
  }
  for (Int t = 0; t < n; t++) {
    const T* v = value(t);
    for (Int g = 0; g < group; g++) add(sums + g * dim, scores[g * padded(n) + t], v, dim);
  }
  for (Int i = 0; i < group * dim; i++) store(out + i, sums[i]);
}

}  // namespace

extern "C" {

struct Sizes {
  Int dim, hidden, n_heads, n_kv, head_dim, vocab, page, n_blocks, n_cross;
  float eps;
};

struct Block {  // a Llama layer, or a gated block: that has q_norm, and no k and v
  const void *attn_norm, *q, *k, *v, *o, *ffn_norm, *gate, *up, *down, *q_norm;
  void* memory;  // (slots, 2 * Hkv, Dh): first the keys of a token, then its values
  float attn_gate, ffn_gate;
};

struct Sight {  // of a row at a gated block; no tokens: it sees no picture
  const void *key, *value;
  Int tokens, key_head, key_token, value_head, value_token;  // numbers from one head, or token, to the next
};

struct Pass {
  Int rows;
  const Int *tokens, *places;  // (R,): ids, and tokens before this one
  const Int* pages;            // (R, width)
  Int width;
  const float *cos, *sin;  // (R, Dh), the sines with the sign of the half that they meet
  const Sight* sights;     // (gated blocks, R)
  float* logits;           // (R, V)
};
}

namespace {

template <class T>
struct Decoder {
  const Sizes& s;
  const Block* blocks;
  const T *embedding, *norm, *head;
  const Pass& pass;
  std::vector<float> x, qkv, gate, up;  // (R, D), (R, (H + 2 * Hkv) * Dh), (R, F), (R, F)
  std::vector<Activation<T>> mixed, gated;  // (R, H * Dh), (R, F)

  void run(int threads) {
    Int rows = pass.rows, wide = s.n_heads * s.head_dim, longest = 0;
    x.resize(rows * s.dim), qkv.resize(rows * (wide + 2 * s.n_kv * s.head_dim)), gate.resize(rows * s.hidden);
    up.resize(rows * s.hidden), mixed.resize(rows * wide), gated.resize(rows * s.hidden);
    for (Int r = 0; r < rows; r++) {
      for (Int i = 0; i < s.dim; i++) x[r * s.dim + i] = load(embedding[pass.tokens[r] * s.dim + i]);
      longest = std::max(longest, pass.places[r] + 1);
    }
    for (Int i = 0; i < s.n_cross * rows; i++) longest = std::max(longest, pass.sights[i].tokens);
#pragma omp parallel num_threads(threads)
    {
      std::vector<Activation<T>> normed(rows * s.dim);
      std::vector<float> scratch((padded(longest) + s.head_dim) * (s.n_heads / s.n_kv));
      Int crossed = 0;
      for (Int b = 0; b < s.n_blocks; b++) {
        const Sight* seen = blocks[b].q_norm ? pass.sights + crossed++ * rows : nullptr;
        if (seen && std::all_of(seen, seen + rows, [](const Sight& s) { return !s.tokens; })) continue;
        block(blocks[b], seen, normed.data(), scratch.data());
      }
      norm_rows(norm, normed.data());
      product(head, normed.data(), s.vocab, s.dim, rows,
              [&](Int i, Int r, float out) { pass.logits[r * s.vocab + i] = out; });
    }
  }

  void norm_rows(const T* weight, Activation<T>* out) {  // every thread for itself: cheaper than to wait
    for (Int r = 0; r < pass.rows; r++) rms_norm(&x[r * s.dim], weight, s.dim, s.eps, out + r * s.dim);
  }

  void block(const Block& w, const Sight* seen, Activation<T>* normed, float* scratch) {
    Int rows = pass.rows, wide = s.n_heads * s.head_dim, narrow = s.n_kv * s.head_dim, all = wide + 2 * narrow;
    auto part = [&](const void* weight, Int n, Int at) {
      product((const T*)weight, normed, n, s.dim, rows,
              [&](Int i, Int r, float out) { qkv[r * all + at + i] = out; });
    };
    auto grow = [&](const void* weight, const Activation<T>* from, Int k, float share) {
      product((const T*)weight, from, s.dim, k, rows, [&](Int i, Int r, float out) {
        if (!seen || seen[r].tokens) x[r * s.dim + i] += share * out;
      });
    };
    norm_rows((const T*)w.attn_norm, normed);
    part(w.q, wide, 0);
    if (!seen) part(w.k, narrow, wide), part(w.v, narrow, wide + narrow);
#pragma omp barrier
#pragma omp for
    for (Int i = 0; i < rows * s.n_kv; i++) {
      if (seen) {
        look(w, seen[i / s.n_kv], i / s.n_kv, i % s.n_kv, scratch);
      } else {
        read(w, i / s.n_kv, i % s.n_kv, scratch);
      }
    }
    grow(w.o, mixed.data(), wide, seen ? w.attn_gate : 1.0f);
#pragma omp barrier
    norm_rows((const T*)w.ffn_norm, normed);
    product((const T*)w.gate, normed, s.hidden, s.dim, rows,
            [&](Int i, Int r, float out) { gate[r * s.hidden + i] = out; });
    product((const T*)w.up, normed, s.hidden, s.dim, rows,
            [&](Int i, Int r, float out) { up[r * s.hidden + i] = out; });
    Share own(s.hidden);  // a multiple of 16
    for (Int r = 0; r < rows; r++)
      for (Int at = r * s.hidden + own.begin; at < r * s.hidden + own.end; at += 16) {
        vec g = load16(&gate[at]), out = g / (1.0f + exponential(-g)) * load16(&up[at]);
        for (Int i = 0; i < 16; i++) store(&gated[at + i], out[i]);
      }
#pragma omp barrier
    grow(w.down, gated.data(), s.hidden, seen ? w.ffn_gate : 1.0f);
#pragma omp barrier
  }

  // Self-attention of a row in one key/value head: turn queries and key, write key and value to their slot, attend.
  void read(const Block& w, Int r, Int head, float* scratch) {
    Int dim = s.head_dim, group = s.n_heads / s.n_kv, all = (s.n_heads + 2 * s.n_kv) * dim;
    float *q = &qkv[r * all + head * group * dim], *k = &qkv[r * all + (s.n_heads + head) * dim];
    float* v = k + s.n_kv * dim;
    for (Int g = 0; g < group; g++) turn(q + g * dim, r);
    turn(k, r);
    T* memory = (T*)w.memory;
    const Int* pages = pass.pages + r * pass.width;
    auto at = [&](Int t, Int side) {
      return memory + ((pages[t / s.page] * s.page + t % s.page) * 2 + side) * s.n_kv * dim + head * dim;
    };
    for (Int i = 0; i < dim; i++) store(at(pass.places[r], 0) + i, k[i]), store(at(pass.places[r], 1) + i, v[i]);
    attend<T>(
        q, group, dim, pass.places[r] + 1, [&](Int t) { return at(t, 0); }, [&](Int t) { return at(t, 1); },
        scratch, &mixed[(r * s.n_heads + head * group) * dim]);
  }

  void turn(float* x, Int r) {
    const float *cos = pass.cos + r * s.head_dim, *sin = pass.sin + r * s.head_dim;
    Int half = s.head_dim / 2;
    for (Int i = 0; i < half; i++) {
      float a = x[i], b = x[half + i];
      x[i] = a * cos[i] + b * sin[i];
      x[half + i] = b * cos[half + i] + a * sin[half + i];
    }
  }

  // Cross-attention of a row in one key/value head.
  void look(const Block& w, const Sight& seen, Int r, Int head, float* scratch) {
    if (!seen.tokens) return;
    Int dim = s.head_dim, group = s.n_heads / s.n_kv, all = (s.n_heads + 2 * s.n_kv) * dim;
    float* q = &qkv[r * all + head * group * dim];
    for (Int g = 0; g < group; g++) rms_norm(q + g * dim, (const T*)w.q_norm, dim, s.eps, q + g * dim);
    const T *key = (const T*)seen.key + head * seen.key_head, *value = (const T*)seen.value + head * seen.value_head;
    attend<T>(
        q, group, dim, seen.tokens, [&](Int t) { return key + t * seen.key_token; },
        [&](Int t) { return value + t * seen.value_token; }, scratch, &mixed[(r * s.n_heads + head * group) * dim]);
  }
};

template <class T>
void decode(const Sizes* s, const Block* blocks, const void* embedding, const void* norm, const void* head,
            const Pass* pass, int threads) {
  Decoder<T>{*s, blocks, (const T*)embedding, (const T*)norm, (const T*)head, *pass, {}, {}, {}, {}, {}, {}}.run(threads);
}

}  // namespace

extern "C" {

void decode_fp32(const Sizes* s, const Block* blocks, const void* embedding, const void* norm, const void* head,
                 const Pass* pass, int threads) {
  decode<float>(s, blocks, embedding, norm, head, pass, threads);
}

void decode_bf16(const Sizes* s, const Block* blocks, const void* embedding, const void* norm, const void* head,
                 const Pass* pass, int threads) {
  decode<bf16>(s, blocks, embedding, norm, head, pass, threads);
}
}
