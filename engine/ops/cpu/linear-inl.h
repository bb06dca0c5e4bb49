// Linears over packed panels, for any number of rows: several at once, each with rows and weights of its own, whose tasks
// are shared out over the threads as if they were one.
//
// One tile of rows: a thread walks its panels from end to end; the weights stream from memory once, x comes from L1. More
// rows: for each slab of a pair of panels, 32 KB that stay in L2, all tiles of rows pass over it and prefetch the next slab,
// each its share, so that memory and arithmetic overlap.

#include <omp.h>

namespace causeway::cpu::CAUSEWAY_ISA {

constexpr int64_t kRowBlock = 256;     // rows at most that share a pass over the weights; their sums (64 KB) stay in L2
constexpr int64_t kStreamedRows = 8;   // rows below which a task takes as long as its weights take to arrive
constexpr int64_t kSerialWords = 4096;  // weights times rows below which waking threads costs more than it gives

template <class T>
CAUSEWAY_INLINE void StoreRow(const float* c, const float* bias, T* y, int64_t n) {
  int64_t i = 0;
  for (; i + W <= n; i += W) Store(y + i, bias == nullptr ? Load(c + i) : Load(c + i) + Load(bias + i));
  if (i < n) StoreFirst(y + i, bias == nullptr ? Load(c + i) : Load(c + i) + LoadFirst(bias + i, n - i), n - i);
}

// Whether x is read in place: a single row has no rows to hold apart.
template <class Kind>
CAUSEWAY_INLINE bool Direct(const LinearArgs& a) {
  return a.rows == 1 && (sizeof(typename Kind::T) == 4 || (Kind::kWords == 1 && a.in % 2 == 0));
}

template <class Kind>
static int64_t ScratchBytesOf(const LinearArgs& a) {
  return Direct<Kind>(a) ? 0 : a.rows * ((UnitsOf(a.element, a.in) + kSlab - 1) / kSlab) * kRowWords<Kind> * 4;
}

// Rows of y for one group of panels, whose products stand in c.
template <class T>
CAUSEWAY_INLINE void StoreRows(const LinearArgs& a, const float* c, int64_t ldc, int64_t row0, int64_t rows, int64_t column,
                               int64_t columns) {
  const int64_t n = a.out - column < columns ? a.out - column : columns;
  for (int64_t r = 0; r < rows; ++r) {
    StoreRow(c + r * ldc, a.bias == nullptr ? nullptr : a.bias + column, static_cast<T*>(a.y) + (row0 + r) * a.out + column, n);
  }
}

// How a part is cut: groups of panels, blocks of rows, slabs of inputs. A task is a block against a group.
constexpr int64_t kWide = kTilePanels * kPanel;
CAUSEWAY_INLINE int64_t GroupsOf(const LinearArgs& a) { return (PanelsOf(a.out) + kTilePanels - 1) / kTilePanels; }
CAUSEWAY_INLINE int64_t RowBlocksOf(const LinearArgs& a) { return (a.rows + kRowBlock - 1) / kRowBlock; }
CAUSEWAY_INLINE int64_t SlabsOf(const LinearArgs& a) { return (UnitsOf(a.element, a.in) + kSlab - 1) / kSlab; }
CAUSEWAY_INLINE int64_t TaskWork(const LinearArgs& a) {
  return UnitsOf(a.element, a.in) * (a.rows < kStreamedRows ? kStreamedRows : a.rows / RowBlocksOf(a));
}

// Part p has items(p) equal items of work(p) each, all in a row. Calls each(p, begin, end) for the items of part p that start within
// the work [first, last).
template <class Items, class Work, class Each>
CAUSEWAY_INLINE void ForWork(int64_t parts, Items items, Work work, int64_t first, int64_t last, Each each) {
  for (int64_t p = 0; p < parts && last > 0; ++p) {  // first, last: from this part's beginning on
    const int64_t count = items(p), one = work(p);
    const int64_t begin = first <= 0 ? 0 : (first + one - 1) / one, end = (last + one - 1) / one;
    if (begin < count) each(p, begin, end < count ? end : count);
    first -= count * one;
    last -= count * one;
  }
}

// An equal number of the items for each thread of the region.
template <class Items, class Each>
CAUSEWAY_INLINE void ForShare(int64_t parts, Items items, Each each) {
  int64_t total = 0;
  for (int64_t p = 0; p < parts; ++p) total += items(p);
  const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
  ForWork(parts, items, [](int64_t) { return int64_t{1}; }, total * thread / threads, total * (thread + 1) / threads, each);
}

// Each thread of the region takes a part of the work that is left, again and again, less each time: processors that share their
// memory or their time with others are not equally fast. `taken`, shared by the threads, is 0 before.
template <class Items, class Work, class Each>
CAUSEWAY_INLINE void ForTaken(int64_t* taken, int64_t parts, Items items, Work work, Each each) {
  int64_t total = 0, least = 1;
  for (int64_t p = 0; p < parts; ++p) {
    total += items(p) * work(p);
    if (work(p) > least) least = work(p);
  }
  const int64_t threads = omp_get_num_threads(), shares = threads > 1 ? 2 * threads : 1;
  int64_t first = __atomic_load_n(taken, __ATOMIC_RELAXED);
  while (first < total) {
    const int64_t share = (total - first) / shares, last = first + (share > least ? share : least);
    if (!__atomic_compare_exchange_n(taken, &first, last, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
    ForWork(parts, items, work, first, last, each);
    first = __atomic_load_n(taken, __ATOMIC_RELAXED);
  }
}

// Tasks [begin, end) of a part. `after`: panels that this thread goes on with, or null.
template <class Kind>
static void RunTasks(const LinearArgs& a, int64_t begin, int64_t end, const Word* after, float* c) {
  using T = typename Kind::T;
  const int64_t units = UnitsOf(a.element, a.in), panel_words = units * kPanel, panels = PanelsOf(a.out);
  const int64_t groups = GroupsOf(a), slabs = SlabsOf(a), row_blocks = RowBlocksOf(a);
  const bool direct = Direct<Kind>(a);
  const Word* packed = static_cast<const Word*>(a.scratch);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t block = task / groups, row0 = a.rows * block / row_blocks, rows = a.rows * (block + 1) / row_blocks - row0;
    const int64_t panel = task % groups * kTilePanels;
    const int64_t count = panels - panel < kTilePanels ? panels - panel : kTilePanels;
    TileArgs tile{};
    tile.panel_words = panel_words;
    tile.ldc = kWide;
    tile.w = a.panels + panel * panel_words;
    const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
    if (tiles == 1) {
      tile.x = direct ? static_cast<const Word*>(a.x) : packed + row0 * kRowWords<Kind>;
      tile.slab_words = direct ? kRowWords<Kind> : a.rows * kRowWords<Kind>;
      tile.units = units;
      tile.c = c;
      Tile<Kind>(rows, count, tile);
    } else {
      const Word* following = task + 1 < end ? a.panels + (task + 1) % groups * kTilePanels * panel_words : after;
      for (int64_t s = 0; s < slabs; ++s, tile.w += kSlab * kPanel) {
        // The next slab of these panels, or the first one of what follows.
        const Word* next = s + 1 < slabs ? tile.w + kSlab * kPanel : following;
        tile.units = units - s * kSlab < kSlab ? units - s * kSlab : kSlab;
        tile.accumulate = s > 0;
        for (int64_t t = 0; t < tiles; ++t) {
          const int64_t first = rows * t / tiles, last = rows * (t + 1) / tiles;
          // A slab of a panel is two lines a unit, in halves of one: tile t fetches halves [half, half + lines).
          const int64_t half = 2 * count * t / tiles;
          tile.lines = next != nullptr ? static_cast<int>(2 * count * (t + 1) / tiles - half) : 0;
          tile.ahead = next == nullptr ? nullptr : next + half / 2 * panel_words + half % 2 * (kSlab * kPanel / 2);
          tile.x = packed + (s * a.rows + row0 + first) * kRowWords<Kind>;
          tile.c = c + first * kWide;
          Tile<Kind>(last - first, count, tile);
        }
      }
    }
    StoreRows<T>(a, c, kWide, row0, rows, panel * kPanel, count * kPanel);
  }
}

template <class Kind>
static void LinearOf(const LinearArgs* parts, int64_t part_count) {
  using T = typename Kind::T;
  const auto packs = [&](int64_t p) { return Direct<Kind>(parts[p]) ? 0 : SlabsOf(parts[p]) * parts[p].rows; };
  int64_t tasks = 0, words = 0, packs_total = 0, taken = 0;
  for (int64_t p = 0; p < part_count; ++p) {
    const LinearArgs& a = parts[p];
    tasks += RowBlocksOf(a) * GroupsOf(a);
    words += PanelsOf(a.out) * UnitsOf(a.element, a.in) * kPanel * a.rows;
    packs_total += packs(p);
  }
#pragma omp parallel if (tasks > 1 && words > kSerialWords)
  {
    if (packs_total > 0) {
      ForShare(part_count, packs, [&](int64_t p, int64_t begin, int64_t end) {
        const LinearArgs& a = parts[p];
        const int64_t units = UnitsOf(a.element, a.in);
        for (int64_t i = begin; i < end; ++i) {  // in the order of the packed rows
          const int64_t s = i / a.rows, r = i % a.rows, n = units - s * kSlab < kSlab ? units - s * kSlab : kSlab;
          PackX<Kind>(static_cast<const T*>(a.x) + r * a.in, a.in, s * kSlab, n, static_cast<Word*>(a.scratch) + i * kRowWords<Kind>);
        }
      });
#pragma omp barrier
    }
    float* c = static_cast<float*>(Scratch(kRowBlock * kWide * sizeof(float)));
    const auto tasks_of = [&](int64_t p) { return RowBlocksOf(parts[p]) * GroupsOf(parts[p]); };
    ForTaken(&taken, part_count, tasks_of, [&](int64_t p) { return TaskWork(parts[p]); }, [&](int64_t p, int64_t begin, int64_t end) {
      const bool goes_on = end == tasks_of(p) && p + 1 < part_count;
      RunTasks<Kind>(parts[p], begin, end, goes_on ? parts[p + 1].panels : nullptr, c);
    });
  }
}

static void Linear(const LinearArgs* parts, int64_t count) {
  parts->element == Element::kFp32 ? LinearOf<Fp32>(parts, count) : LinearOf<BestBf16>(parts, count);
}
static int64_t LinearScratchBytes(const LinearArgs& a) {
  return a.element == Element::kFp32 ? ScratchBytesOf<Fp32>(a) : ScratchBytesOf<BestBf16>(a);
}

}  // namespace causeway::cpu::CAUSEWAY_ISA
