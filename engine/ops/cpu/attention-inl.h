// Attention over the paged cache. A task is a tile of queries (tokens times the heads that share a key-value head) against
// a range of keys, taken kStep at a time: keys and values are packed into panels once for all queries of the tile, scores
// and outputs are then two small matrix products by the linears' tile, and the softmax is computed online in fp32.

#include <omp.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace causeway::cpu::CAUSEWAY_ISA {

constexpr int64_t kStep = kTilePanels * kPanel;   // keys
static_assert(kStep % kBlockTokens == 0 && kAttentionSplit % kStep == 0 && kStep <= kSlab);
constexpr float kMinusInfinity = -1e30f;  // finite, so that differences of it are 0 and not NaN

CAUSEWAY_INLINE int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

#if defined(__AVX512F__)
// to[i][j] = from[j][i], 16 x 16 words; strides in words.
CAUSEWAY_INLINE void Transpose16(const Word* from, int64_t from_stride, Word* to, int64_t to_stride) {
  __m512i a[16], b[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(from + i * from_stride);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // a[4 i + k]: column 4 l + k of rows 4 i to 4 i + 3, in 128-bit lane l
    a[4 * i] = _mm512_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
    a[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
    a[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
    a[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    const __m512i p = _mm512_shuffle_i32x4(a[k], a[4 + k], 0x88), q = _mm512_shuffle_i32x4(a[8 + k], a[12 + k], 0x88);
    const __m512i r = _mm512_shuffle_i32x4(a[k], a[4 + k], 0xdd), s = _mm512_shuffle_i32x4(a[8 + k], a[12 + k], 0xdd);
    _mm512_storeu_si512(to + k * to_stride, _mm512_shuffle_i32x4(p, q, 0x88));
    _mm512_storeu_si512(to + (8 + k) * to_stride, _mm512_shuffle_i32x4(p, q, 0xdd));
    _mm512_storeu_si512(to + (4 + k) * to_stride, _mm512_shuffle_i32x4(r, s, 0x88));
    _mm512_storeu_si512(to + (12 + k) * to_stride, _mm512_shuffle_i32x4(r, s, 0xdd));
  }
}
#endif

#if defined(__AVX512F__)
// Selects 16-bit values 0, 32, 1, 33, ... of two vectors: their first halves, interleaved.
CAUSEWAY_INLINE __m512i InterleaveLow() {
  const __m512i words = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  return _mm512_or_si512(words, _mm512_slli_epi32(_mm512_add_epi32(words, _mm512_set1_epi32(32)), 16));
}
#endif

// The keys of a block, [16, head_dim], into lanes [lane, lane + 16) of a panel of head_dim units. The block at `ahead` is
// prefetched on the way, row by row: a burst of prefetches would hold everything up.
template <class T>
CAUSEWAY_INLINE void PackKeys(const T* keys, const T* ahead, int64_t head_dim, Word* panel, int64_t lane) {
  constexpr int64_t kPerUnit = 4 / sizeof(T);
  const int64_t units = head_dim / kPerUnit;
  if (head_dim % kPerUnit == 0) {
    const Word* words = reinterpret_cast<const Word*>(keys);
    int64_t u = 0;
#if defined(__AVX512F__)
    for (; u + 16 <= units; u += 16) {
      const Word* next = reinterpret_cast<const Word*>(ahead) + u;
      for (int64_t i = 0; i < kBlockTokens; ++i) __builtin_prefetch(next + i * units, 0, 2);
      Transpose16(words + u, units, panel + u * kPanel + lane, kPanel);
    }
#endif
    for (; u < units; ++u) {
      for (int64_t i = 0; i < kBlockTokens; ++i) panel[u * kPanel + lane + i] = words[i * units + u];
    }
    return;
  }
  for (int64_t i = 0; i < kBlockTokens; ++i) {  // an odd number of 16-bit values: the last unit is half empty
    for (int64_t u = 0; u <= units; ++u) {
      Word word = 0;
      memcpy(&word, keys + i * head_dim + u * kPerUnit, u < units ? 4 : sizeof(T));
      panel[u * kPanel + lane + i] = word;
    }
  }
}

// The first `count` values of a block, [16, head_dim], into units [unit, ...) of panels of outputs; the other units' values
// are zero (nothing was written there: they may hold anything). Prefetches `ahead`.
template <class T>
CAUSEWAY_INLINE void PackValues(const T* values, const T* ahead, int64_t head_dim, int64_t count, Word* panels,
                                int64_t panel_words, int64_t unit) {
  constexpr int64_t kPerUnit = 4 / sizeof(T);
  for (int64_t key = 0; key < kBlockTokens; key += kPerUnit, ++unit) {
    const T* row = values + key * head_dim;
    for (int64_t d0 = 0; d0 < head_dim; d0 += kPanel) {
      Word* to = panels + d0 / kPanel * panel_words + unit * kPanel;
      const int64_t n = head_dim - d0 < kPanel ? head_dim - d0 : kPanel;
      __builtin_prefetch(ahead + key * head_dim + d0, 0, 2);
      if (kPerUnit == 2) __builtin_prefetch(ahead + (key + 1) * head_dim + d0, 0, 2);
      if (key >= count) {
        memset(to, 0, n * 4);
      } else if constexpr (sizeof(T) == 4) {
        memcpy(to, row + d0, n * 4);
      } else {
        const T* next = row + head_dim;
        const bool pair = key + 1 < count;
        int64_t i = 0;
#if defined(__AVX512F__)
        if (pair && n == kPanel) {
          const __m512i one = _mm512_loadu_si512(row + d0), two = _mm512_loadu_si512(next + d0);
          _mm512_storeu_si512(to, _mm512_permutex2var_epi16(one, InterleaveLow(), two));
          _mm512_storeu_si512(to + W, _mm512_permutex2var_epi16(one, _mm512_add_epi16(InterleaveLow(), _mm512_set1_epi16(16)), two));
          continue;
        }
#endif
        for (; i + W <= n; i += W) {
          const U high = pair ? Widen(next + d0 + i) << 16 : U{};
          Store(reinterpret_cast<float*>(to + i), (F)(Widen(row + d0 + i) | high));
        }
        for (; i < n; ++i) to[i] = row[d0 + i].bits | (pair ? static_cast<Word>(next[d0 + i].bits) << 16 : 0);
      }
    }
  }
}

// The state of a tile's softmax: for each row its maximum (in units of ln 2), its sum, and its outputs not yet divided by
// the sum.
struct Softmax {
  float *max, *sum, *out;
  int64_t ld;  // of out
};

// Scores of one row against a step's keys, of which [first, last) count, at least one: updates the row's state, rescales its
// outputs and leaves the probabilities in `p`, as x of the tile that multiplies them with the values. `scale` includes
// log2 e: the exponentials are powers of two.
template <class Kind>
CAUSEWAY_INLINE void SoftmaxRow(const float* scores, float scale, int64_t first, int64_t last, int64_t row, Softmax& state,
                                int64_t width, Word* p) {
  constexpr int kVectors = kStep / W;
  constexpr bool kBf16 = sizeof(typename Kind::T) == 2;
  F s[kVectors];
  F largest = Set(kMinusInfinity);
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) s[v] = Load(scores + v * W) * scale;
  if (first > 0 || last < kStep) {
    const F ramp = Ramp();
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const F lane = ramp + static_cast<float>(v * W);
      s[v] = (lane >= static_cast<float>(first)) & (lane < static_cast<float>(last)) ? s[v] : Set(kMinusInfinity);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) largest = Max(largest, s[v]);
  const float old_max = state.max[row], step_max = MaxOf(largest);
  const float new_max = old_max > step_max ? old_max : step_max;
  F sum{};
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    const F e = Exp2<kBf16>(s[v] - new_max);
    sum += e;
    if constexpr (kBf16 && Kind::kWords == 1) {
      Store(reinterpret_cast<Bf16*>(p) + v * W, e);
    } else {
      Store(reinterpret_cast<float*>(p) + v * W, e);
    }
  }
  if (new_max > old_max) {
    const float rescale = Exp2<false>(Set(old_max - new_max))[0];
    state.sum[row] *= rescale;
    float* out = state.out + row * state.ld;
    for (int64_t i = 0; i < width; i += W) Store(out + i, Load(out + i) * rescale);
    state.max[row] = new_max;
  }
  state.sum[row] += Sum(sum);
}

// into += from, one row, two softmaxes over disjoint keys.
CAUSEWAY_INLINE void MergeRow(float* max, float* sum, float* out, float from_max, float from_sum, const float* from_out,
                              int64_t width) {
  const float m = *max > from_max ? *max : from_max;
  const float mine = *sum == 0 ? 0 : Exp2<false>(Set(*max - m))[0], theirs = from_sum == 0 ? 0 : Exp2<false>(Set(from_max - m))[0];
  *max = m;
  *sum = *sum * mine + from_sum * theirs;
  for (int64_t i = 0; i < width; ++i) out[i] = out[i] * mine + from_out[i] * theirs;
}

template <class T>
CAUSEWAY_INLINE void StoreOutput(const float* out, float sum, T* to, int64_t width) {
  const float inverse = 1.0f / sum;
  int64_t i = 0;
  for (; i + W <= width; i += W) Store(to + i, Load(out + i) * inverse);
  for (; i < width; ++i) StoreFirst(to + i, Set(out[i] * inverse), 1);
}

template <class Kind>
struct AttentionWork {
  using T = typename Kind::T;
  static constexpr int64_t kPerUnit = 4 / sizeof(T);
  static constexpr int64_t kValueUnits = kStep / kPerUnit;

  const AttentionArgs& a;
  int64_t group, units, width;  // heads of a group; units of head_dim; head_dim rounded up to whole panels
  Word *q, *p, *keys, *values;
  float* scores;
  Softmax step, total;

  explicit AttentionWork(const AttentionArgs& args) : a(args) {
    group = a.heads / a.kv_heads;
    units = UnitsOf(a.element, a.head_dim);
    width = RoundUp(a.head_dim, kPanel);
    const int64_t n = a.row_max;
    const int64_t x_words = n * RoundUp(units, kSlab) * Kind::kWords;
    const int64_t words = x_words + n * kRowWords<Kind> + kStep * units + kValueUnits * width + n * kStep + 2 * n * (width + 2);
    Word* at = static_cast<Word*>(Scratch((words + 8 * 16) * 4));
    auto take = [&at](int64_t count) {
      Word* taken = at;
      at += RoundUp(count, 16);
      return taken;
    };
    q = take(x_words);
    p = take(n * kRowWords<Kind>);
    keys = take(kStep * units);
    values = take(kValueUnits * width);
    scores = reinterpret_cast<float*>(take(n * kStep));
    auto take_softmax = [&] {
      float* floats = reinterpret_cast<float*>(take(n * (width + 2)));
      return Softmax{.max = floats + n * width, .sum = floats + n * (width + 1), .out = floats, .ld = width};
    };
    step = take_softmax();
    total = take_softmax();
    if (width != a.head_dim) memset(values, 0, kValueUnits * width * 4);  // the lanes beyond head_dim stay so
  }

  void Reset(Softmax& s, int64_t rows) {
    memset(s.out, 0, rows * width * sizeof(float));
    for (int64_t r = 0; r < rows; ++r) {
      s.max[r] = kMinusInfinity;
      s.sum[r] = 0;
    }
  }

  // C [rows, 32 * panels] (+)= X times panels, over tiles of the right height.
  void Multiply(int64_t rows, const Word* x, const Word* w, int64_t panels, int64_t n, float* c, int64_t ldc, bool accumulate) {
    const int64_t tiles = (rows + kTileRows - 1) / kTileRows, panel_words = n * kPanel;
    for (int64_t panel = 0; panel < panels; panel += kTilePanels) {
      const int64_t count = panels - panel < kTilePanels ? panels - panel : kTilePanels;
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t first = rows * t / tiles, last = rows * (t + 1) / tiles;
        Tile<Kind>(last - first, count,
                   {.x = x + first * kRowWords<Kind>, .slab_words = a.row_max * kRowWords<Kind>, .w = w + panel * panel_words,
                    .panel_words = panel_words, .units = n, .c = c + first * ldc + panel * kPanel, .ldc = ldc,
                    .accumulate = accumulate, .ahead = nullptr, .lines = 0});
      }
    }
  }

  // Where the block of the cache with key `key` of the task's sequence and head begins.
  int64_t BlockAt(const AttentionTask& task, int64_t key) const {
    const int64_t block = a.block_tables[task.sequence * a.table_stride + key / kBlockTokens];
    return (block * a.kv_heads + task.kv_head) * kBlockTokens * a.head_dim;
  }

  // The first key that any row of the task attends to, on the grid of steps, which starts at 0 for all: the grid is the
  // same for a row whatever tile it is in.
  int64_t Oldest(const AttentionTask& task) const {
    const int64_t row = task.last - task.rows + 1;
    return a.window > 0 && row >= a.window ? (row - a.window + 1) / kStep * kStep : 0;
  }
  int64_t Begin(const AttentionTask& task, int64_t split) const {
    const int64_t begin = split * kAttentionSplit, oldest = Oldest(task);
    return begin < oldest ? oldest : begin;
  }
  int64_t End(const AttentionTask& task, int64_t split) const {
    const int64_t end = (split + 1) * kAttentionSplit;
    return end < task.last + 1 ? end : task.last + 1;
  }

  // Keys [begin, end) of a sequence for all rows of the task; `begin` is on the grid of steps. While a step is packed, the
  // keys and values of the one after it are prefetched: of `next`, from next_begin on, when it is the last.
  void Range(const AttentionTask& task, int64_t begin, int64_t end, Softmax& state, const AttentionTask& next, int64_t next_begin) {
    const int64_t rows = task.rows * group;
    const T* all_keys = static_cast<const T*>(a.keys);
    const T* all_values = static_cast<const T*>(a.values);
    const float scale = a.scale * 1.44269504f;
    for (int64_t k0 = begin; k0 < end; k0 += kStep) {
      const int64_t count = end - k0 < kStep ? end - k0 : kStep;
      const AttentionTask& ahead_task = k0 + kStep < end ? task : next;
      const int64_t ahead_begin = k0 + kStep < end ? k0 + kStep : next_begin;
      for (int64_t k = 0; k < kStep; k += kBlockTokens) {
        const int64_t block = BlockAt(task, k < count ? k0 + k : k0);
        const int64_t ahead = ahead_begin + k <= ahead_task.last ? BlockAt(ahead_task, ahead_begin + k) : block;
        // Scores of lanes beyond `count` are not looked at; products with their values must be zero.
        if (k < count) PackKeys(all_keys + block, all_keys + ahead, a.head_dim, keys + k / kPanel * units * kPanel, k % kPanel);
        PackValues(all_values + block, all_values + ahead, a.head_dim, count - k, values, kValueUnits * kPanel, k / kPerUnit);
      }
      Multiply(rows, q, keys, kTilePanels, units, scores, kStep, false);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t position = task.last - task.rows + 1 + r / group;
        const int64_t oldest = a.window > 0 && position >= a.window ? position - a.window + 1 : 0;
        const int64_t first = oldest > k0 ? oldest - k0 : 0, last = position + 1 - k0 < kStep ? position + 1 - k0 : kStep;
        Word* row_p = p + r * kRowWords<Kind>;
        if (first >= last) {
          memset(row_p, 0, kValueUnits * Kind::kWords * 4);
        } else {
          SoftmaxRow<Kind>(scores + r * kStep, scale, first, last, r, state, width, row_p);
        }
      }
      Multiply(rows, p, values, width / kPanel, kValueUnits, state.out, width, true);
    }
  }

  // `next` is the task that this thread is likely to run after it.
  void Run(const AttentionTask& task, const AttentionTask& next) {
    const int64_t rows = task.rows * group;
    const T* qkv = static_cast<const T*>(a.qkv);
    for (int64_t r = 0; r < rows; ++r) {
      const T* from = qkv + (task.row + r / group) * a.qkv_stride + (task.kv_head * group + r % group) * a.head_dim;
      for (int64_t u = 0; u < units; u += kSlab) {
        PackX<Kind>(from, a.head_dim, u, units - u < kSlab ? units - u : kSlab,
                    q + (u / kSlab * a.row_max + r) * kRowWords<Kind>);
      }
    }
    Reset(total, rows);
    const int64_t splits_end = task.split_first + task.split_count;
    bool first = true;
    for (int64_t s = task.split_first; s < splits_end; ++s) {
      const int64_t begin = Begin(task, s), end = End(task, s);
      if (begin >= end) continue;
      const AttentionTask& after = s + 1 < splits_end ? task : next;
      const int64_t after_begin = s + 1 < splits_end ? Begin(task, s + 1) : Begin(next, next.split_first);
      if (first) {  // what merging it into nothing would give
        Range(task, begin, end, total, after, after_begin);
        first = false;
        continue;
      }
      Reset(step, rows);
      Range(task, begin, end, step, after, after_begin);
      for (int64_t r = 0; r < rows; ++r) {
        MergeRow(total.max + r, total.sum + r, total.out + r * width, step.max[r], step.sum[r], step.out + r * width,
                 a.head_dim);
      }
    }
    if (task.partial >= 0) {
      float* to = a.partials + task.partial * PartialFloats(group, a.head_dim);
      for (int64_t r = 0; r < rows; ++r, to += a.head_dim + 2) {
        to[0] = total.max[r];
        to[1] = total.sum[r];
        memcpy(to + 2, total.out + r * width, a.head_dim * sizeof(float));
      }
      return;
    }
    for (int64_t r = 0; r < rows; ++r) {
      StoreOutput(total.out + r * width, total.sum[r], OutputRow(task.row + r / group, task.kv_head, r % group), a.head_dim);
    }
  }

  T* OutputRow(int64_t token, int64_t kv_head, int64_t head) const {
    return static_cast<T*>(a.out) + (token * a.heads + kv_head * group + head) * a.head_dim;
  }

  void Merge(const AttentionMerge& merge) {
    for (int64_t h = 0; h < group; ++h) {
      float max = kMinusInfinity, sum = 0;
      memset(total.out, 0, width * sizeof(float));
      for (int64_t i = merge.first; i < merge.first + merge.count; ++i) {
        const float* from = a.partials + i * PartialFloats(group, a.head_dim) + h * (a.head_dim + 2);
        MergeRow(&max, &sum, total.out, from[0], from[1], from + 2, a.head_dim);
      }
      StoreOutput(total.out, sum, OutputRow(merge.row, merge.kv_head, h), a.head_dim);
    }
  }
};

template <class Kind>
static void AttentionOf(const AttentionArgs& a) {
#pragma omp parallel if (a.task_count > 1 && a.parallel)
  {
    AttentionWork<Kind> work(a);
    // Neighbours in the list are neighbours in memory; a thread takes a few at a time, and fetches ahead from one to the next.
    int64_t chunk = a.task_count / (16 * omp_get_num_threads());
    chunk = chunk < 1 ? 1 : chunk > 16 ? 16 : chunk;
#pragma omp for schedule(dynamic, chunk)
    for (int64_t i = 0; i < a.task_count; ++i) work.Run(a.tasks[i], a.tasks[i + 1 < a.task_count ? i + 1 : i]);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < a.merge_count; ++i) work.Merge(a.merges[i]);
  }
}

static void Attention(const AttentionArgs& a) { a.element == Element::kFp32 ? AttentionOf<Fp32>(a) : AttentionOf<BestBf16>(a); }

}  // namespace causeway::cpu::CAUSEWAY_ISA
