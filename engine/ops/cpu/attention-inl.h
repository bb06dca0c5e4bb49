// Attention over the paged cache. A task is a tile of queries (tokens times the heads that share a key-value head)
// against a range of keys, taken kStep at a time. Keys and values are packed into panels once for all queries of the
// tile. Scores and outputs are then two small matrix products by the linears' tile, and the softmax is computed online
// in fp32.

namespace causeway::cpu::CAUSEWAY_ISA {

CAUSEWAY_INLINE int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Stored is what the cache holds: what the tile's weights are, or int8 with scales. These weights hold the integers
// exactly. Their scales are multiplied into the scores and the probabilities: one for each key, and not one for each of
// its dimensions.
template <class Kind, class Stored>
struct AttentionWork {
  using T = typename Kind::T;
  using Weight = typename Kind::Weight;
  static constexpr bool kScaled = sizeof(Stored) == 1;
  static constexpr int64_t kPerUnit = Kind::kInputs;
  static constexpr int64_t kValueUnits = kStep / kPerUnit;

  const AttentionArgs& a;
  int64_t group, units, width;  // heads of a group; units of head_dim; head_dim rounded up to whole panels
  Word *q, *p, *keys, *values;
  float* scores;
  float *key_scales, *value_scales;  // kStep each
  Weight* wide;                      // a block of integers as weights
  Softmax step, total;

  explicit AttentionWork(const AttentionArgs& args) : a(args) {
    group = a.heads / a.kv_heads;
    units = (a.head_dim + kPerUnit - 1) / kPerUnit;
    width = RoundUp(a.head_dim, kPanel);
    const int64_t n = a.row_max;
    const int64_t x_words = n * RoundUp(units, kSlab) * Kind::kWords;
    const int64_t words = x_words + n * kRowWords<Kind> + kStep * units + kValueUnits * width + n * kStep +
                          2 * n * (width + 2) + (kScaled ? 2 * kStep + kBlockTokens * a.head_dim : 0);
    Word* at = static_cast<Word*>(Scratch((words + 11 * 16) * 4));
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
    key_scales = reinterpret_cast<float*>(take(kScaled ? kStep : 0));
    value_scales = reinterpret_cast<float*>(take(kScaled ? kStep : 0));
    wide = reinterpret_cast<Weight*>(take(kScaled ? kBlockTokens * a.head_dim : 0));
    auto take_softmax = [&] {
      float* floats = reinterpret_cast<float*>(take(n * (width + 2)));
      return Softmax{.max = floats + n * width, .sum = floats + n * (width + 1), .out = floats, .ld = width};
    };
    step = take_softmax();
    total = take_softmax();
    if (width != a.head_dim) memset(values, 0, kValueUnits * width * 4);  // the lanes beyond head_dim stay zero
  }

  void Reset(Softmax& s, int64_t rows) {
    memset(s.out, 0, rows * width * sizeof(float));
    for (int64_t r = 0; r < rows; ++r) {
      s.max[r] = kMinusInfinity;
      s.sum[r] = 0;
    }
  }

  // C [rows, 32 * panels] (+)= X times panels, over tiles of the right height.
  void Multiply(int64_t rows, const Word* x, const Word* w, int64_t panels, int64_t n, float* c, int64_t ldc,
                bool accumulate) {
    const int64_t tiles = (rows + kTileRows - 1) / kTileRows, panel_words = n * kPanel;
    for (int64_t panel = 0; panel < panels; panel += kTilePanels) {
      const int64_t count = panels - panel < kTilePanels ? panels - panel : kTilePanels;
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t first = rows * t / tiles, last = rows * (t + 1) / tiles;
        Tile<Kind>(last - first, count,
                   {.x = x + first * kRowWords<Kind>,
                    .slab_words = a.row_max * kRowWords<Kind>,
                    .w = w + panel * panel_words,
                    .panel_words = panel_words,
                    .units = n,
                    .c = c + first * ldc + panel * kPanel,
                    .ldc = ldc,
                    .accumulate = accumulate,
                    .ahead = nullptr,
                    .lines = 0});
      }
    }
  }

  // The cell of the cache (a token and head) where the block begins that holds `key` of the task's sequence and head.
  int64_t BlockAt(const AttentionTask& task, int64_t key) const {
    const int64_t block = a.block_tables[task.sequence * a.table_stride + key / kBlockTokens];
    return (block * a.kv_heads + task.kv_head) * kBlockTokens;
  }

  // The block of the cache at `at` as weights. Where it has to be converted, the block at `ahead` is prefetched on the
  // way.
  const Weight* Block(const Stored* at, const Stored* ahead) {
    if constexpr (kScaled) {
      WidenBlock(at, ahead, kBlockTokens * a.head_dim, wide);
      return wide;
    } else {
      return at;
    }
  }

  // What packing has to prefetch: nothing where converting has prefetched it.
  static const Weight* Ahead(const Stored* ahead) {
    if constexpr (kScaled)
      return nullptr;
    else
      return ahead;
  }

  // Takes the scales of a step's keys [k, k + kBlockTokens) from the cells from `at` on. The scales of values from
  // `count` on become 0, since nothing was written there.
  void TakeScales(int64_t at, int64_t ahead, int64_t k, int64_t count, float scale) {
    __builtin_prefetch(a.key_scales + ahead, 0, 2);
    __builtin_prefetch(a.value_scales + ahead, 0, 2);
    for (int64_t i = 0; i < kBlockTokens; ++i) key_scales[k + i] = a.key_scales[at + i] * scale;
    for (int64_t i = 0; i < kBlockTokens; ++i) value_scales[k + i] = k + i < count ? a.value_scales[at + i] : 0;
  }

  // The first key that any row of the task attends to, rounded down to the grid of steps. The grid starts at 0 for all,
  // so that it is the same for a row whatever tile the row is in.
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

  // Computes keys [begin, end) of a sequence for all rows of the task; `begin` is on the grid of steps. While a step is
  // packed, the keys and values of the step after it are prefetched. After the last step, those of `next` are, from
  // next_begin on.
  void Range(const AttentionTask& task, int64_t begin, int64_t end, Softmax& state, const AttentionTask& next,
             int64_t next_begin) {
    const int64_t rows = task.rows * group;
    const Stored* all_keys = static_cast<const Stored*>(a.keys);
    const Stored* all_values = static_cast<const Stored*>(a.values);
    const float scale = a.scale * 1.44269504f;
    for (int64_t k0 = begin; k0 < end; k0 += kStep) {
      const int64_t count = end - k0 < kStep ? end - k0 : kStep;
      const AttentionTask& ahead_task = k0 + kStep < end ? task : next;
      const int64_t ahead_begin = k0 + kStep < end ? k0 + kStep : next_begin;
      for (int64_t k = 0; k < kStep; k += kBlockTokens) {
        const int64_t cell = BlockAt(task, k < count ? k0 + k : k0), block = cell * a.head_dim;
        const int64_t ahead_cell = ahead_begin + k <= ahead_task.last ? BlockAt(ahead_task, ahead_begin + k) : cell;
        const int64_t ahead = ahead_cell * a.head_dim;
        if constexpr (kScaled) TakeScales(cell, ahead_cell, k, count, scale);
        // The scores of lanes from `count` on are not looked at, but products with their values must be zero.
        if (k < count) {
          const Weight* from = Block(all_keys + block, all_keys + ahead);
          PackKeys(from, Ahead(all_keys + ahead), a.head_dim, keys + k / kPanel * units * kPanel, k % kPanel);
        }
        const Weight* from = Block(all_values + block, all_values + ahead);
        PackValues(from, Ahead(all_values + ahead), a.head_dim, count - k, values, kValueUnits * kPanel, k / kPerUnit);
      }
      Multiply(rows, q, keys, kTilePanels, units, scores, kStep, false);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t position = task.last - task.rows + 1 + r / group;
        const int64_t oldest = a.window > 0 && position >= a.window ? position - a.window + 1 : 0;
        const int64_t first = oldest > k0 ? oldest - k0 : 0,
                      last = position + 1 - k0 < kStep ? position + 1 - k0 : kStep;
        Word* row_p = p + r * kRowWords<Kind>;
        if (first >= last) {
          memset(row_p, 0, kValueUnits * Kind::kWords * 4);
        } else {
          SoftmaxRow<Kind, kScaled>(scores + r * kStep, scale, key_scales, value_scales, first, last, r, state, width,
                                    row_p);
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
      if (first) {  // the same as merging it into nothing
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
      StoreOutput(total.out + r * width, total.sum[r], OutputRow(task.row + r / group, task.kv_head, r % group),
                  a.head_dim);
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

// Neighbours in the list are neighbours in memory: a thread prefetches from one to the next.
template <class Kind, class Stored>
static void AttentionTasksOf(const void* context, int64_t, RegionTasks& tasks) {
  const AttentionArgs& a = *static_cast<const AttentionArgs*>(context);
  AttentionWork<Kind, Stored> work(a);
  while (tasks.Next()) {
    if (tasks.Own()) work.Run(a.tasks[tasks.task], a.tasks[tasks.following >= 0 ? tasks.following : tasks.task]);
  }
}

template <class Kind, class Stored>
static void AttentionMergesOf(const void* context, int64_t, RegionTasks& tasks) {
  const AttentionArgs& a = *static_cast<const AttentionArgs*>(context);
  AttentionWork<Kind, Stored> work(a);
  while (tasks.Next()) {
    if (tasks.Own()) work.Merge(a.merges[tasks.task]);
  }
}

template <class Kind, class Stored>
static void AttentionOf(const AttentionArgs& a) {
  RunRegionIf(a.parallel, AttentionTasksOf<Kind, Stored>, &a, sizeof(a), a.task_count);
  if (a.merge_count > 0) RunRegionIf(a.parallel, AttentionMergesOf<Kind, Stored>, &a, sizeof(a), a.merge_count);
}

static void Attention(const AttentionArgs& a) {
  if (a.key_scales != nullptr) {
    a.element == Element::kBf16 ? AttentionOf<BestBf16, int8_t>(a) : AttentionOf<Fp32, int8_t>(a);
    return;
  }
  switch (a.element) {
    case Element::kBf16: return AttentionOf<BestBf16, Bf16>(a);
    case Element::kFp16: return AttentionOf<WideFp16, Half>(a);
    case Element::kFp32: return AttentionOf<Fp32, float>(a);
  }
}

}  // namespace causeway::cpu::CAUSEWAY_ISA
