// Linears over packed panels, for any number of rows.
//
// One tile of rows: a thread walks its panels from end to end; the weights stream from memory once, x comes from L1. More
// rows: for each slab of a pair of panels, 32 KB that stay in L2, all tiles of rows pass over it and prefetch the next slab,
// each its share, so that memory and arithmetic overlap.

#include <omp.h>

namespace causeway::cpu::CAUSEWAY_ISA {

constexpr int64_t kRowBlock = 256;     // rows at most that share a pass over the weights; their sums (64 KB) stay in L2
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

template <class Kind>
static void LinearOf(const LinearArgs& a) {
  using T = typename Kind::T;
  constexpr int64_t kWide = kTilePanels * kPanel;
  const int64_t units = UnitsOf(a.element, a.in), panel_words = units * kPanel, panels = PanelsOf(a.out);
  const int64_t groups = (panels + kTilePanels - 1) / kTilePanels, slabs = (units + kSlab - 1) / kSlab;
  const int64_t row_blocks = (a.rows + kRowBlock - 1) / kRowBlock, tasks = row_blocks * groups;
  const bool direct = Direct<Kind>(a);
  const T* x = static_cast<const T*>(a.x);
  Word* packed = static_cast<Word*>(a.scratch);
  const bool parallel = tasks > 1 && panels * panel_words * a.rows > kSerialWords;

#pragma omp parallel if (parallel)
  {
    const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    if (!direct) {
#pragma omp for schedule(static) collapse(2)
      for (int64_t s = 0; s < slabs; ++s) {
        for (int64_t r = 0; r < a.rows; ++r) {
          const int64_t n = units - s * kSlab < kSlab ? units - s * kSlab : kSlab;
          PackX<Kind>(x + r * a.in, a.in, s * kSlab, n, packed + (s * a.rows + r) * kRowWords<Kind>);
        }
      }
    }
    float* c = static_cast<float*>(Scratch(kRowBlock * kWide * sizeof(float)));
    const int64_t end = tasks * (thread + 1) / threads;
    for (int64_t task = tasks * thread / threads; task < end; ++task) {
      const int64_t block = task / groups, row0 = a.rows * block / row_blocks, rows = a.rows * (block + 1) / row_blocks - row0;
      const int64_t panel = task % groups * kTilePanels;
      const int64_t count = panels - panel < kTilePanels ? panels - panel : kTilePanels;
      TileArgs tile{};
      tile.panel_words = panel_words;
      tile.ldc = kWide;
      tile.w = a.panels + panel * panel_words;
      const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
      if (tiles == 1) {
        tile.x = direct ? reinterpret_cast<const Word*>(x) : packed + row0 * kRowWords<Kind>;
        tile.slab_words = direct ? kRowWords<Kind> : a.rows * kRowWords<Kind>;
        tile.units = units;
        tile.c = c;
        Tile<Kind>(rows, count, tile);
      } else {
        for (int64_t s = 0; s < slabs; ++s, tile.w += kSlab * kPanel) {
          // The next slab of these panels, or the first one of the next task's.
          const Word* next = s + 1 < slabs ? tile.w + kSlab * kPanel : a.panels + (task + 1) % groups * kTilePanels * panel_words;
          const bool fetch = s + 1 < slabs || task + 1 < end;
          tile.units = units - s * kSlab < kSlab ? units - s * kSlab : kSlab;
          tile.accumulate = s > 0;
          for (int64_t t = 0; t < tiles; ++t) {
            const int64_t first = rows * t / tiles, last = rows * (t + 1) / tiles;
            // A slab of a panel is two lines a unit, in halves of one: tile t fetches halves [half, half + lines).
            const int64_t half = 2 * count * t / tiles;
            tile.lines = fetch ? static_cast<int>(2 * count * (t + 1) / tiles - half) : 0;
            tile.ahead = next + half / 2 * panel_words + half % 2 * (kSlab * kPanel / 2);
            tile.x = packed + (s * a.rows + row0 + first) * kRowWords<Kind>;
            tile.c = c + first * kWide;
            Tile<Kind>(last - first, count, tile);
          }
        }
      }
      StoreRows<T>(a, c, kWide, row0, rows, panel * kPanel, count * kPanel);
    }
  }
}

static void Linear(const LinearArgs& a) { a.element == Element::kFp32 ? LinearOf<Fp32>(a) : LinearOf<BestBf16>(a); }
static int64_t LinearScratchBytes(const LinearArgs& a) {
  return a.element == Element::kFp32 ? ScratchBytesOf<Fp32>(a) : ScratchBytesOf<BestBf16>(a);
}

}  // namespace causeway::cpu::CAUSEWAY_ISA
