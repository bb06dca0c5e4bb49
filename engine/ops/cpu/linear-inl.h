// Linears over packed panels, for any number of rows.
//
// Few rows (one tile): a thread walks its panels from end to end, so that the weights stream from memory once, x comes from
// L1 and nothing is copied. More rows: x is copied into slabs of kSlab units ([slab][row][unit]: a tile's rows lie close
// together, whatever the matrix's stride), and for each slab of a pair of panels, 16 KB that stay in L1, all row tiles pass
// over it while they prefetch the next slab, each its share, so that memory and arithmetic overlap.

#include <omp.h>

namespace causeway::cpu::CAUSEWAY_ISA {

constexpr int64_t kSlab = 64;          // units
constexpr int64_t kRowBlock = 252;     // rows that share a pass over the weights; their sums (64 KB) stay in L2
constexpr int64_t kSerialWords = 4096;  // weights below which waking threads costs more than it gives

template <class T>
CAUSEWAY_INLINE void StoreRow(const float* c, const float* bias, T* y, int64_t n) {
  int64_t i = 0;
  for (; i + W <= n; i += W) Store(y + i, bias == nullptr ? Load(c + i) : Load(c + i) + Load(bias + i));
  if (i < n) StoreFirst(y + i, bias == nullptr ? Load(c + i) : Load(c + i) + LoadFirst(bias + i, n - i), n - i);
}

// How x is cut for a tile to read.
struct Slabs {
  bool direct;  // x itself serves: one tile holds all rows, and a row is whole words
  int64_t units, count;
};
template <class Kind>
CAUSEWAY_INLINE Slabs SlabsOf(const LinearArgs& a) {
  const bool words = sizeof(typename Kind::T) == 4 || (Kind::kWords == 1 && a.in % 2 == 0);
  const int64_t units = UnitsOf(a.element, a.in), slab = a.rows <= kTileRows ? units : kSlab;
  return {a.rows <= kTileRows && words, slab, (units + slab - 1) / slab};
}

template <class Kind>
static int64_t ScratchBytesOf(const LinearArgs& a) {
  const Slabs s = SlabsOf<Kind>(a);
  return s.direct ? 0 : a.rows * s.count * s.units * Kind::kWords * 4;
}

template <class Kind>
static void LinearOf(const LinearArgs& a) {
  using T = typename Kind::T;
  constexpr int64_t kWide = kTilePanels * kPanel;
  const T* x = static_cast<const T*>(a.x);
  const int64_t units = UnitsOf(a.element, a.in), panel_words = units * kPanel, panels = PanelsOf(a.out);
  const int64_t groups = (panels + kTilePanels - 1) / kTilePanels;
  const auto [direct, slab, slabs] = SlabsOf<Kind>(a);
  const int64_t row_blocks = (a.rows + kRowBlock - 1) / kRowBlock;
  const int64_t tasks = row_blocks * groups;
  Word* packed = static_cast<Word*>(a.scratch);
  const bool parallel = tasks > 1 && panels * panel_words * a.rows > kSerialWords;

#pragma omp parallel if (parallel)
  {
    const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    if (!direct) {
#pragma omp for schedule(static)
      for (int64_t s = 0; s < slabs; ++s) {
        const int64_t n = units - s * slab < slab ? units - s * slab : slab;
        for (int64_t r = 0; r < a.rows; ++r) {
          PackX<Kind>(x + r * a.in, a.in, s * slab, n, packed + (s * a.rows + r) * slab * Kind::kWords);
        }
      }
    }
    float* c = static_cast<float*>(Scratch(kRowBlock * kWide * sizeof(float)));
    for (int64_t task = tasks * thread / threads; task < tasks * (thread + 1) / threads; ++task) {
      const int64_t group = task % groups, row0 = task / groups * kRowBlock;
      const int64_t rows = a.rows - row0 < kRowBlock ? a.rows - row0 : kRowBlock;
      const int64_t panel = group * kTilePanels;
      const int64_t count = panels - panel < kTilePanels ? panels - panel : kTilePanels;
      const Word* w = a.panels + panel * panel_words;
      if (direct) {
        Tile<Kind>(rows, count, reinterpret_cast<const Word*>(x), a.in * static_cast<int64_t>(sizeof(T)) / 4, w,
                   panel_words, units, c, kWide, false, {reinterpret_cast<const char*>(w) + 2048, 4});
      } else {
        const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
        for (int64_t s = 0; s < slabs; ++s) {
          const int64_t n = units - s * slab < slab ? units - s * slab : slab;
          for (int64_t t = 0; t < tiles; ++t) {
            const int64_t first = rows * t / tiles, last = rows * (t + 1) / tiles;
            Tile<Kind>(last - first, count, packed + (s * a.rows + row0 + first) * slab * Kind::kWords, slab * Kind::kWords,
                       w + s * slab * kPanel, panel_words, n, c + first * kWide, kWide, s > 0);
          }
        }
      }
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t n = a.out - panel * kPanel < count * kPanel ? a.out - panel * kPanel : count * kPanel;
        StoreRow(c + r * kWide, a.bias == nullptr ? nullptr : a.bias + panel * kPanel,
                 static_cast<T*>(a.y) + (row0 + r) * a.out + panel * kPanel, n);
      }
    }
  }
}

static void Linear(const LinearArgs& a) { a.element == Element::kFp32 ? LinearOf<Fp32>(a) : LinearOf<BestBf16>(a); }
static int64_t LinearScratchBytes(const LinearArgs& a) {
  return a.element == Element::kFp32 ? ScratchBytesOf<Fp32>(a) : ScratchBytesOf<BestBf16>(a);
}

}  // namespace causeway::cpu::CAUSEWAY_ISA
