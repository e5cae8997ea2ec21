// One decoding pass, one new token for each of a few rows, from embeddings to logits in one parallel region.
//
// Notable here:
// - Each weight is read from memory once a pass, by one thread, in order: the time of a pass is the time to read them.
//   products.h has the forms that it may have. While threads attend or wait, what comes next is fetched.
// - Sums, softmax and the residual stream are fp32 whatever the weights are. Products of bf16 weights take bf16
//   activations where the processor multiplies those (AVX-512 BF16), fp32 ones elsewhere.
// - Rows of the batch never meet: what a row gets does not depend on the others.
// - vlm/engine/compiled.py compiles this, vlm/engine/native.py lays out the structs; both must agree.
//
// Shapes: R rows, D dim, F hidden_dim, H heads, Hkv key/value heads, G = H / Hkv, Dh head_dim, V vocabulary, N tokens
// attended to; matrices are (outputs, inputs), row by row.

#include <algorithm>
#include <climits>

#include "products.h"

namespace {

template <class T>
float dot(const float* a, const T* b, Int n) {
  vec acc = {};
  Int i = 0;
  for (; i + 16 <= n; i += 16) acc += load16(a + i) * load16(b + i);
  float out = sum(acc);
  for (; i < n; i++) out += a[i] * load(b[i]);
  return out;
}

template <class T, class To>
void rms_norm(const float* x, const T* weight, Int n, float eps, To* out) {
  float scale = 1.0f / std::sqrt(dot(x, x, n) / n + eps);
  Int i = 0;
  for (; i + 16 <= n; i += 16) store16(out + i, load16(x + i) * scale * load16(weight + i));
  for (; i < n; i++) store(out + i, x[i] * scale * load(weight[i]));
}

template <class From, class To>
void convert(const From* x, Int n, To* out) {
  Int i = 0;
  for (; i + 16 <= n; i += 16) store16(out + i, load16(x + i));
  for (; i < n; i++) store(out + i, load(x[i]));
}

// Of some logits: the largest, where it first stands, and the sum of e^(logit - largest): no number if a logit is none.
struct Likeliest {
  float top;
  Int token;
  float total;
};

inline Likeliest likeliest(const float* logits, Int begin, Int end) {
  const int_vec lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  vec most = vec{} - INFINITY, total = {};
  int_vec first = int_vec{} + INT_MAX;
  Int i = begin;
  for (; i + 16 <= end; i += 16) most = larger(most, load16(logits + i));
  float top = largest(most);
  for (; i < end; i++) top = logits[i] > top ? logits[i] : top;
  for (i = begin; i + 16 <= end; i += 16) {
    vec x = load16(logits + i);
    int_vec place = lanes + int(i);
    first = (x == top) & (place < first) ? place : first;
    total += exponential(x - top);
  }
  Likeliest out = {top, INT_MAX, sum(total)};
  for (int lane = 0; lane < 16; lane++) out.token = std::min(out.token, Int(first[lane]));
  for (; i < end; i++) {
    if (logits[i] == top) out.token = std::min(out.token, i);
    out.total += exponential(vec{} + (logits[i] - top))[0];
  }
  return out;
}

// The same of two stretches, the first of them earlier.
inline Likeliest both(const Likeliest& a, const Likeliest& b) {
  const Likeliest &more = b.top > a.top ? b : a, &less = b.top > a.top ? a : b;
  return {more.top, more.token, more.total + less.total * std::exp(less.top - more.top)};
}

// Where a row's tokens lie in one key/value head: in pages, or one after the other.
template <class T>
struct Tokens {
  const T *key, *value;
  Int n, key_row, value_row;  // rows: numbers from one token to the next
  const Int* pages;           // may be null
  int bits;                   // of a token's number within its page

  Int slot(Int t) const { return pages ? pages[t >> bits] << bits | (t & ((1 << bits) - 1)) : t; }
  const T* key_of(Int t) const { return key + slot(t) * key_row; }
  const T* value_of(Int t) const { return value + slot(t) * value_row; }
};

// The values of n tokens by their shares (G, n): sums (G, 16 D), G and D vectors at a time in registers. Those of
// `next` are fetched.
template <int G, int D, class T>
void mix(const float* shares, Int share_row, const Tokens<T>& tokens, const Tokens<T>& next, Int at, float* out,
         Int out_row) {
  vec acc[G][D] = {};
  for (Int t = 0; t < tokens.n; t++) {
    const T* v = tokens.value_of(t) + at;
    if (t < next.n) fetch(next.value_of(t) + at, D * 16);
#pragma GCC unroll 4
    for (int d = 0; d < D; d++) {
      vec x = load16(v + d * 16);
#pragma GCC unroll 4
      for (int g = 0; g < G; g++) acc[g][d] += shares[g * share_row + t] * x;
    }
  }
  for (int g = 0; g < G; g++)
    for (int d = 0; d < D; d++) store16(out + g * out_row + d * 16, acc[g][d]);
}

template <int G, class T>
void mix(const float* shares, Int share_row, const Tokens<T>& tokens, const Tokens<T>& next, Int dim, float* out) {
  Int at = 0;
  for (; at + 64 <= dim; at += 64) mix<G, 4>(shares, share_row, tokens, next, at, out + at, dim);
  for (; at + 16 <= dim; at += 16) mix<G, 1>(shares, share_row, tokens, next, at, out + at, dim);
  for (; at < dim; at++)
    for (int g = 0; g < G; g++) {
      out[g * dim + at] = 0;
      for (Int t = 0; t < tokens.n; t++) out[g * dim + at] += shares[g * share_row + t] * load(tokens.value_of(t)[at]);
    }
}

// G queries (G, Dh) by the keys and values of N tokens: softmax(q k / sqrt(Dh)) v, (G, Dh). Those of `next`, which are
// read after them, are fetched. Tokens t .. t + 3 of a t that 4 divides lie one after the other. `scratch` holds
// G * (padded(N) + 2 * Dh) numbers.
template <class T>
void attend(const float* queries, Int group, Int dim, const Tokens<T>& tokens, const Tokens<T>& next, float* scratch,
            Activation<T>* out) {
  Int n = tokens.n, wide = padded(n), t = 0;
  float scale = 1.0f / std::sqrt(float(dim)), *scores = scratch, *sums = scratch + group * wide;
  auto* q = (Activation<T>*)(sums + group * dim);
  convert(queries, group * dim, q);
  auto take = [&](Int p, Int g, const float* out, int many) {
    for (int j = 0; j < many; j++) scores[g * wide + t + p + j] = out[j] * scale;
  };
  for (; t < n; t += 4) {
    for (Int i = t; i < std::min(t + 4, next.n); i++) fetch(next.key_of(i), dim);
    multiply(tokens.key_of(t), tokens.key_row, q, dim, dim, 4 * tokens.key_row, std::min(Int(4), n - t), group, take);
  }
  for (Int g = 0; g < group; g++) {
    float* own = scores + g * wide;
    vec most = vec{} - INFINITY, total = {};
    for (t = n; t < wide; t++) own[t] = -INFINITY;  // becomes less than 1e-37
    for (t = 0; t < n; t += 16) most = larger(most, load16(own + t));
    float top = largest(most);
    for (t = 0; t < n; t += 16) {
      vec x = exponential(load16(own + t) - top);
      total += x;
      store16(own + t, x);
    }
    float whole = sum(total);
    for (t = 0; t < n; t += 16) store16(own + t, load16(own + t) / whole);
  }
  Int g = 0;
  for (; g + 4 <= group; g += 4) mix<4>(scores + g * wide, wide, tokens, next, dim, sums + g * dim);
  for (; g < group; g++) mix<1>(scores + g * wide, wide, tokens, next, dim, sums + g * dim);
  convert(sums, group * dim, out);
}

}  // namespace

extern "C" {

struct Sizes {
  Int dim, hidden, n_heads, n_kv, head_dim, vocab, page, n_blocks, n_cross;
  float eps;
};

struct Block {  // a Llama layer, or a gated block: that has q_norm, and no k and v
  Matrix q, k, v, o, gate, up, down;
  const void *attn_norm, *ffn_norm, *q_norm;
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
  const float *cos, *sin;  // (places, Dh / 2)
  const Sight* sights;     // (gated blocks, R)
  float* logits;           // (R, V)
  Int* chosen;             // (R,): the likeliest token
  float* logprobs;         // (R,): of that token, in nats; no number where a logit is none
};
}

namespace {

template <class T>
struct Decoder {
  const Sizes& s;
  const Block* blocks;
  const T *embedding, *norm;
  const Matrix& head;
  const Pass& pass;
  Int rows = pass.rows, wide = s.n_heads * s.head_dim, narrow = s.n_kv * s.head_dim, all = wide + 2 * narrow;
  Room<float> x{rows * s.dim}, qkv{rows * all}, gate{rows * s.hidden}, up{rows * s.hidden};
  Int dim_row = row_of<T>(s.dim), wide_row = row_of<T>(wide), hidden_row = row_of<T>(s.hidden);
  Room<Activation<T>> mixed{rows * wide_row}, gated{rows * hidden_row};  // (R, H * Dh), (R, F)
  Barrier barrier;

  void run(int threads) {
    Int longest = 0;
    for (Int r = 0; r < rows; r++) {
      convert(embedding + pass.tokens[r] * s.dim, s.dim, x + r * s.dim);
      longest = std::max(longest, pass.places[r] + 1);
    }
    Room<Likeliest> found(threads * rows);
    std::fill_n(found.at, threads * rows, Likeliest{-INFINITY, 0, 0});  // of threads that the system does not give
    for (Int i = 0; i < s.n_cross * rows; i++) longest = std::max(longest, pass.sights[i].tokens);
#pragma omp parallel num_threads(threads)
    {
      Room<Activation<T>> normed(rows * dim_row);
      Room<float> scratch((padded(longest) + 2 * s.head_dim) * (s.n_heads / s.n_kv));
      Int crossed = 0;
      for (Int b = 0; b < s.n_blocks; b++) {
        const Sight* seen = blocks[b].q_norm ? pass.sights + crossed++ * rows : nullptr;
        if (seen && std::all_of(seen, seen + rows, [](const Sight& s) { return !s.tokens; })) continue;
        block(blocks[b], seen, normed, scratch);
      }
      norm_rows(norm, normed);
      product<false, T>(head, normed, s.vocab, s.dim, rows, pass.logits, s.vocab, [](Int) { return 1; });
      Share own = share_of(head, s.vocab);
      for (Int r = 0; r < rows; r++)
        found[omp_get_thread_num() * rows + r] = likeliest(pass.logits + r * s.vocab, own.begin, own.end);
    }
    for (Int r = 0; r < rows; r++) {
      Likeliest all = found[r];
      for (Int t = 1; t < threads; t++) all = both(all, found[t * rows + r]);
      pass.chosen[r] = all.token, pass.logprobs[r] = -std::log(all.total);
    }
  }

  void norm_rows(const T* weight, Activation<T>* out) {  // every thread for itself: cheaper than to wait
    for (Int r = 0; r < rows; r++) rms_norm(&x[r * s.dim], weight, s.dim, s.eps, out + r * dim_row);
  }

  void block(const Block& w, const Sight* seen, Activation<T>* normed, float* scratch) {
    auto from_normed = [&](const Matrix& weight, Int n, float* to, Int to_row) {
      product<false, T>(weight, normed, n, s.dim, rows, to, to_row, [](Int) { return 1; });
    };
    auto grow = [&](const Matrix& weight, const Activation<T>* from, Int k, float gate) {
      product<true, T>(weight, from, s.dim, k, rows, x, s.dim,
                       [&](Int r) { return !seen ? 1.0f : seen[r].tokens ? gate : 0.0f; });
    };
    Share mine(rows * s.n_kv, 1);
    norm_rows((const T*)w.attn_norm, normed);
    from_normed(w.q, wide, qkv, all);
    if (!seen) from_normed(w.k, narrow, &qkv[wide], all), from_normed(w.v, narrow, &qkv[wide + narrow], all);
    auto at = [&](Int i) { return i < mine.end ? tokens(w, seen, i) : Tokens<T>{}; };
    Tokens<T> next = at(mine.begin);
    for (Int t = 0; t < next.n; t++) fetch(next.key_of(t), s.head_dim), fetch(next.value_of(t), s.head_dim);
    meet(w.o, s.dim, wide);
    for (Int i = mine.begin; i < mine.end; i++) {
      Tokens<T> now = next;
      next = at(i + 1);
      if (seen) {
        look(w, i, now, next, scratch);
      } else {
        read(i, now, next, scratch);
      }
    }
    meet(w.o, s.dim, wide);
    grow(w.o, mixed, wide, w.attn_gate);
    meet(w.gate, s.hidden, s.dim);
    norm_rows((const T*)w.ffn_norm, normed);
    from_normed(w.gate, s.hidden, gate, s.hidden);
    from_normed(w.up, s.hidden, up, s.hidden);
    Share own = share_of(w.gate, s.hidden);  // a multiple of 16
    for (Int r = 0; r < rows; r++)
      for (Int i = own.begin; i < own.end; i += 16) {
        vec g = load16(&gate[r * s.hidden + i]);
        store16(&gated[r * hidden_row + i], g / (1.0f + exponential(-g)) * load16(&up[r * s.hidden + i]));
      }
    meet(w.down, s.dim, s.hidden);
    grow(w.down, gated, s.hidden, w.ffn_gate);
    &w + 1 < blocks + s.n_blocks ? meet((&w + 1)->q, wide, s.dim) : meet(head, s.vocab, s.dim);
  }

  // Wait for the other threads; who comes early fetches of a matrix (N, K) what it will read first.
  void meet(const Matrix& w, Int n, Int k) {
    Share own = share_of(w, n);
    Int row = w.group ? k / 2 : w.scales ? k : k * Int(sizeof(T));
    barrier.wait((const char*)w.weight + own.begin * row, (own.end - own.begin) * row);
  }

  // What row i / Hkv attends to in key/value head i % Hkv.
  Tokens<T> tokens(const Block& w, const Sight* seen, Int i) {
    Int r = i / s.n_kv, head = i % s.n_kv, row = 2 * s.n_kv * s.head_dim;
    if (seen) {
      auto& at = seen[r];
      return {(const T*)at.key + head * at.key_head, (const T*)at.value + head * at.value_head, at.tokens, at.key_token,
              at.value_token, nullptr, 0};
    }
    const T* key = (const T*)w.memory + head * s.head_dim;
    return {key, key + row / 2, pass.places[r] + 1, row, row, pass.pages + r * pass.width, __builtin_ctzll(s.page)};
  }

  // Self-attention of a row in one key/value head: turn queries and key, write key and value to their slot, attend.
  void read(Int i, const Tokens<T>& now, const Tokens<T>& next, float* scratch) {
    Int dim = s.head_dim, group = s.n_heads / s.n_kv, r = i / s.n_kv, head = i % s.n_kv;
    float *q = &qkv[r * all + head * group * dim], *k = &qkv[r * all + (s.n_heads + head) * dim];
    for (Int g = 0; g < group; g++) turn(q + g * dim, r);
    turn(k, r);
    convert(k, dim, (T*)now.key_of(now.n - 1)), convert(k + s.n_kv * dim, dim, (T*)now.value_of(now.n - 1));
    attend(q, group, dim, now, next, scratch, &mixed[r * wide_row + head * group * dim]);
  }

  void turn(float* x, Int r) {
    Int half = s.head_dim / 2;
    const float *cos = pass.cos + pass.places[r] * half, *sin = pass.sin + pass.places[r] * half;
    for (Int i = 0; i < half; i++) {
      float a = x[i], b = x[half + i];
      x[i] = a * cos[i] - b * sin[i];
      x[half + i] = b * cos[i] + a * sin[i];
    }
  }

  // Cross-attention of a row in one key/value head.
  void look(const Block& w, Int i, const Tokens<T>& now, const Tokens<T>& next, float* scratch) {
    if (!now.n) return;
    Int dim = s.head_dim, group = s.n_heads / s.n_kv, r = i / s.n_kv, head = i % s.n_kv;
    float* q = &qkv[r * all + head * group * dim];
    for (Int g = 0; g < group; g++) rms_norm(q + g * dim, (const T*)w.q_norm, dim, s.eps, q + g * dim);
    attend(q, group, dim, now, next, scratch, &mixed[r * wide_row + head * group * dim]);
  }
};

}  // namespace

extern "C" {

void decode_fp32(const Sizes* s, const Block* blocks, const float* embedding, const float* norm, const Matrix* head,
                 const Pass* pass, int threads) {
  Decoder<float>{*s, blocks, embedding, norm, *head, *pass}.run(threads);
}

void decode_bf16(const Sizes* s, const Block* blocks, const bf16* embedding, const bf16* norm, const Matrix* head,
                 const Pass* pass, int threads) {
  Decoder<bf16>{*s, blocks, embedding, norm, *head, *pass}.run(threads);
}
}
