// Linears over packed panels, for any number of rows: several at once, each with rows and weights of its own. The
// threads share their tasks as if they were one linear.
//
// One tile of rows: a thread walks its panels from end to end; the weights stream from memory once, and x comes from
// L1. More rows: for each slab of a pair of panels (32 KB that stay in L2), all tiles of rows pass over it. Each of
// them prefetches its share of the next slab, so that memory and arithmetic overlap.
//
// A task's products stand in the thread's own memory until it owns the task, since the owner of the team may take over
// what a helper has begun. Late helpers read packed x and weights, and never write.

namespace causeway::cpu::CAUSEWAY_ISA {

// A task has this many rows at most: their sums (16 KB) stay in L1, and little is lost when a task is done twice.
constexpr int64_t kRowBlock = 64;
// This many blocks of rows pass over a group of panels one after the other, while the group is in L2.
constexpr int64_t kBlocksTogether = 4;
constexpr int64_t kSerialWords = 4096;  // weights times rows below which waking threads costs more than it gives
constexpr int64_t kSerialPacks = 64;    // slabs of rows (512 bytes each) below which sharing costs more than it gives

template <class T>
CAUSEWAY_INLINE void StoreRow(const float* c, const float* bias, T* y, int64_t n) {
  int64_t i = 0;
  for (; i + W <= n; i += W) Store(y + i, bias == nullptr ? Load(c + i) : Load(c + i) + Load(bias + i));
  if (i < n) StoreFirst(y + i, bias == nullptr ? Load(c + i) : Load(c + i) + LoadFirst(bias + i, n - i), n - i);
}

// Whether x is read in place, without packing: a single row may be.
template <class Kind>
CAUSEWAY_INLINE bool Direct(const LinearArgs& a) {
  return a.rows == 1 && kAsItCame<Kind> && a.in % Kind::kInputs == 0;
}

template <class Kind>
static int64_t ScratchBytesOf(const LinearArgs& a) {
  return Direct<Kind>(a) ? 0 : a.rows * ((UnitsOf(a.element, a.in) + kSlab - 1) / kSlab) * kRowWords<Kind> * 4;
}

// Stores rows of y for one group of panels, from the products in c.
template <class T>
CAUSEWAY_INLINE void StoreRows(const LinearArgs& a, const float* c, int64_t ldc, int64_t row0, int64_t rows,
                               int64_t column, int64_t columns) {
  const int64_t n = a.out - column < columns ? a.out - column : columns;
  for (int64_t r = 0; r < rows; ++r) {
    StoreRow(c + r * ldc, a.bias == nullptr ? nullptr : a.bias + column,
             static_cast<T*>(a.y) + (row0 + r) * a.out + column, n);
  }
}

// A part is cut into groups of panels, blocks of rows and slabs of inputs. A task is a block against a group.
constexpr int64_t kWide = kTilePanels * kPanel;
struct RowCut {
  int64_t passes, blocks;  // passes over all weights, and blocks of each pass
};
CAUSEWAY_INLINE RowCut CutRows(int64_t rows) {
  constexpr int64_t kPassRows = kRowBlock * kBlocksTogether;
  const int64_t passes = (rows + kPassRows - 1) / kPassRows, pass_rows = (rows + passes - 1) / passes;
  return {passes, (pass_rows + kRowBlock - 1) / kRowBlock};
}
CAUSEWAY_INLINE int64_t LinearTasks(int64_t rows, int64_t out) {
  const RowCut cut = CutRows(rows);
  return cut.passes * cut.blocks * ((PanelsOf(out) + kTilePanels - 1) / kTilePanels);
}
CAUSEWAY_INLINE int64_t SlabsOf(const LinearArgs& a) { return (UnitsOf(a.element, a.in) + kSlab - 1) / kSlab; }

// How many items several parts have together; part p has items(p). They are numbered through.
template <class Items>
CAUSEWAY_INLINE int64_t ItemsOf(int64_t parts, const Items& items) {
  int64_t total = 0;
  for (int64_t p = 0; p < parts; ++p) total += items(p);
  return total;
}

// The part that an item belongs to.
struct PartCursor {
  int64_t part = 0, first = 0;  // the number of the part's first item
};
// The items that one thread asks for mostly ascend.
template <class Items>
CAUSEWAY_INLINE void MoveTo(PartCursor& at, int64_t item, const Items& items) {
  if (item < at.first) at.part = at.first = 0;
  for (int64_t count = items(at.part); item >= at.first + count; count = items(at.part)) {
    at.first += count;
    ++at.part;
  }
}

// Calls each(p, begin, end) for all items, with those of one part in pieces.
template <class Items, class Each>
CAUSEWAY_INLINE void ForItems(bool shared, int64_t parts, const Items& items, const Each& each) {
  ForPieces(shared, ItemsOf(parts, items), [&](int64_t begin, int64_t end) {
    PartCursor at;
    while (begin < end) {
      MoveTo(at, begin, items);
      const int64_t last = at.first + items(at.part);
      each(at.part, begin - at.first, (end < last ? end : last) - at.first);
      begin = last;
    }
  });
}

// The products of a task, in c: rows [row0, row0 + rows) with a group's panels. `after` are the panels that this thread
// goes on with, or null.
template <class Kind>
static void Multiply(const LinearArgs& a, int64_t panel, int64_t count, int64_t row0, int64_t rows, const Word* after,
                     float* c) {
  const int64_t units = UnitsOf(a.element, a.in), panel_words = units * kPanel, slabs = SlabsOf(a);
  const bool direct = Direct<Kind>(a);
  const Word* packed = static_cast<const Word*>(a.scratch);
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
    tile.lines = kPrefetches<Kind> ? kOwnLines : 0;
    return Tile<Kind>(rows, count, tile);
  }
  for (int64_t s = 0; s < slabs; ++s, tile.w += kSlab * kPanel) {
    // The next slab of these panels, or the first slab of the panels after them.
    const Word* next = s + 1 < slabs ? tile.w + kSlab * kPanel : after;
    tile.units = units - s * kSlab < kSlab ? units - s * kSlab : kSlab;
    tile.accumulate = s > 0;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = rows * t / tiles, last = rows * (t + 1) / tiles;
      // A slab of a panel has two cache lines a unit. Tiles share them in halves: tile t fetches halves [half, half +
      // lines).
      const int64_t half = 2 * count * t / tiles;
      tile.lines = next != nullptr ? static_cast<int>(2 * count * (t + 1) / tiles - half) : 0;
      tile.ahead = next == nullptr ? nullptr : next + half / 2 * panel_words + half % 2 * (kSlab * kPanel / 2);
      tile.x = packed + (s * a.rows + row0 + first) * kRowWords<Kind>;
      tile.c = c + first * kWide;
      Tile<Kind>(last - first, count, tile);
    }
  }
}

// What a task computes (a block of rows against a group of panels), and what its thread most likely goes on with.
struct TaskPlace {
  int64_t row0, rows, panel, panels;
  int64_t after_panel;  // a panel of the same part, or -1
  bool after_part;      // the next part's first panel
};
CAUSEWAY_INLINE TaskPlace PlaceOf(int64_t all_rows, int64_t out, const RegionTasks& tasks, const PartCursor& at) {
  const RowCut cut = CutRows(all_rows);
  const int64_t panels = PanelsOf(out), groups = (panels + kTilePanels - 1) / kTilePanels;
  const int64_t task = tasks.task - at.first, following = tasks.following - at.first;
  const int64_t block = task / (groups * cut.blocks) * cut.blocks + task % cut.blocks, blocks = cut.passes * cut.blocks;
  TaskPlace place{};
  place.row0 = all_rows * block / blocks;
  place.rows = all_rows * (block + 1) / blocks - place.row0;
  place.panel = task / cut.blocks % groups * kTilePanels;
  place.panels = panels - place.panel < kTilePanels ? panels - place.panel : kTilePanels;
  place.after_part = following >= groups * blocks;
  place.after_panel = following >= 0 && !place.after_part ? following / cut.blocks % groups * kTilePanels : -1;
  return place;
}

template <class Kind>
static void LinearTasksOf(const void* context, int64_t context_bytes, RegionTasks& tasks) {
  const LinearArgs* parts = static_cast<const LinearArgs*>(context);
  const int64_t part_count = context_bytes / static_cast<int64_t>(sizeof(LinearArgs));
  float* c = static_cast<float*>(Scratch(kRowBlock * kWide * sizeof(float)));
  PartCursor at;
  while (tasks.Next()) {
    MoveTo(at, tasks.task, [&](int64_t p) { return LinearTasks(parts[p].rows, parts[p].out); });
    const LinearArgs& a = parts[at.part];
    const TaskPlace place = PlaceOf(a.rows, a.out, tasks, at);
    const Word* after = nullptr;
    if (place.after_panel >= 0)
      after = a.panels + place.after_panel * UnitsOf(a.element, a.in) * kPanel;
    else if (place.after_part && at.part + 1 < part_count)
      after = parts[at.part + 1].panels;
    Multiply<Kind>(a, place.panel, place.panels, place.row0, place.rows, after, c);
    if (tasks.Own())
      StoreRows<typename Kind::T>(a, c, kWide, place.row0, place.rows, place.panel * kPanel, place.panels * kPanel);
  }
}

template <class Kind>
static void LinearOf(const LinearArgs* parts, int64_t part_count) {
  using T = typename Kind::T;
  const auto packs = [&](int64_t p) { return Direct<Kind>(parts[p]) ? 0 : SlabsOf(parts[p]) * parts[p].rows; };
  int64_t tasks = 0, words = 0;
  for (int64_t p = 0; p < part_count; ++p) {
    const LinearArgs& a = parts[p];
    tasks += LinearTasks(a.rows, a.out);
    words += PanelsOf(a.out) * UnitsOf(a.element, a.in) * kPanel * a.rows;
  }
  ForItems(ItemsOf(part_count, packs) > kSerialPacks, part_count, packs, [&](int64_t p, int64_t begin, int64_t end) {
    const LinearArgs& a = parts[p];
    const int64_t units = UnitsOf(a.element, a.in);
    for (int64_t i = begin; i < end; ++i) {  // in the order of the packed rows
      const int64_t s = i / a.rows, r = i % a.rows, n = units - s * kSlab < kSlab ? units - s * kSlab : kSlab;
      PackX<Kind>(static_cast<const T*>(a.x) + r * a.in, a.in, s * kSlab, n,
                  static_cast<Word*>(a.scratch) + i * kRowWords<Kind>);
    }
  });
  RunRegionIf(words > kSerialWords, LinearTasksOf<Kind>, parts, part_count * static_cast<int64_t>(sizeof(LinearArgs)),
              tasks);
}

static void Linear(const LinearArgs* parts, int64_t count) {
  switch (parts->element) {
    case Element::kBf16: return LinearOf<BestBf16>(parts, count);
    case Element::kFp16: return LinearOf<WideFp16>(parts, count);
    case Element::kFp32: return LinearOf<Fp32>(parts, count);
  }
}
static int64_t LinearScratchBytes(const LinearArgs& a) {
  switch (a.element) {
    case Element::kBf16: return ScratchBytesOf<BestBf16>(a);
    case Element::kFp16: return ScratchBytesOf<WideFp16>(a);
    default: return ScratchBytesOf<Fp32>(a);
  }
}

}  // namespace causeway::cpu::CAUSEWAY_ISA
