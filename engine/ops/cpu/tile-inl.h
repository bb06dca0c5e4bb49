// The one inner kernel of linears and attention: a tile of C [rows, 32 * panels] = X [rows, units] times packed panels.
// Sums run over the units in order, with one accumulator for each output whatever the tile's shape. So a row's result
// does not depend on the rows beside it.
//
// The kinds of arithmetic differ in what a unit of x is:
//   DotBf16   two bf16 in a word, by vdpbf16ps (AVX-512 bf16 only)
//   WideBf16  two floats: x and weights are bf16, widened in registers
//   WideFp16  two floats: weights are fp16, widened as they are loaded. Sums are those of Fp32 over the same numbers
//   Fp32      one float

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace causeway::cpu::CAUSEWAY_ISA {

typedef uint32_t Word __attribute__((may_alias));

#if defined(__AVX512F__)
constexpr int kTileRows = 6, kTilePanels = 2;  // 24 accumulators of 32 registers
#elif defined(__AVX2__)
constexpr int kTileRows = 3, kTilePanels = 1;  // 12 of 16
#else
constexpr int kTileRows = 1, kTilePanels = 1;
#endif

struct Fp32 {
  using T = float;                               // of x and y
  using Weight = float;                          // of panels
  static constexpr int kWords = 1, kInputs = 1;  // of a unit: 32-bit words of x, and inputs
  // Weights of input `input` of a panel's unit, for the outputs from `lane` on.
  static __attribute__((always_inline)) F Weights(const Word* unit, int lane, int) {
    return Load(reinterpret_cast<const float*>(unit) + lane);
  }
};
struct WideBf16 {
  using T = Bf16;
  using Weight = Bf16;
  static constexpr int kWords = 2, kInputs = 2;
  static __attribute__((always_inline)) F Weights(const Word* unit, int lane, int input) {
    const U words = (U)Load(reinterpret_cast<const float*>(unit) + lane);
    return (F)(input == 0 ? words << 16 : words & 0xffff0000u);
  }
};
struct WideFp16 {
  using T = float;
  using Weight = Half;
  static constexpr int kWords = 2, kInputs = 2;
  static __attribute__((always_inline)) F Weights(const Word* unit, int lane, int input) {
    return Load(reinterpret_cast<const Half*>(unit) + input * kPanel + lane);
  }
};
struct DotBf16 {
  using T = Bf16;
  using Weight = Bf16;
  static constexpr int kWords = 1, kInputs = 2;
};
#if defined(__AVX512BF16__)
using BestBf16 = DotBf16;
#else
using BestBf16 = WideBf16;
#endif

// Whether a tile reads x as it came, but for the zero that fills up its last unit.
template <class Kind>
constexpr bool kAsItCame = Kind::kInputs * sizeof(typename Kind::T) == Kind::kWords * sizeof(Word);

// Whether weights that are gone over once are prefetched. Otherwise the processor sees their stream by itself; but
// where a load is a conversion, too, its window reaches less far.
template <class Kind>
constexpr bool kPrefetches = __is_same(Kind, WideFp16);

// x is cut into slabs of kSlab units, [slab][row][unit]: the rows of a tile lie at constant distances.
constexpr int64_t kSlab = kLinearSlab;
template <class Kind>
constexpr int64_t kRowWords = kSlab * Kind::kWords;

struct TileArgs {
  const Word* x;
  int64_t slab_words;  // words from a row's slab to its next slab
  const Word* w;
  int64_t panel_words;
  int64_t units;
  float* c;
  int64_t ldc;
  bool accumulate;  // add to c instead of overwriting it
  // What to prefetch of the weights meanwhile: `lines` cache lines (0 to 2) a unit, from `ahead` on. Tiles that go over
  // the same weights share the prefetching of the next ones. Where weights are gone over once, kOwnLines: what is
  // kOwnAhead further on in each panel (kPrefetches), or 0.
  const Word* ahead;
  int lines;
};
constexpr int kOwnLines = 3;
constexpr int64_t kOwnAhead = 24 * kPanel;  // words

template <class Kind, int kRows, int kPanels, int kLines>
CAUSEWAY_INLINE void TileImpl(const TileArgs& a) {
  constexpr int kPerPanel = static_cast<int>(kPanel) / W;
  constexpr int N = kPanels * kPerPanel;
  constexpr int64_t kLdx = kRowWords<Kind>;
  F acc[kRows][N];
  float* c = a.c;
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r, c += a.ldc) {
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) acc[r][v] = a.accumulate ? Load(c + v * W) : F{};
  }
  const Word* w = a.w;
  const int64_t panel_words = a.panel_words;
  const Word* ahead = a.ahead;
  for (int64_t done = 0; done < a.units; done += kSlab) {
    const Word* x = a.x + done / kSlab * a.slab_words;
    const int64_t units = a.units - done < kSlab ? a.units - done : kSlab;
    for (const Word* end = w + units * kPanel; w != end; w += kPanel, x += Kind::kWords) {
      if constexpr (kLines == kOwnLines) {
#pragma GCC unroll 4
        for (int i = 0; i < 2 * kPanels; ++i)
          __builtin_prefetch(w + i / 2 * panel_words + i % 2 * 16 + kOwnAhead, 0, 3);
      } else {
#pragma GCC unroll 2
        for (int i = 0; i < kLines; ++i) __builtin_prefetch(ahead + 16 * i, 0, 2);
        ahead += 16 * kLines;
      }
#if defined(__AVX512BF16__)
      if constexpr (Kind::kInputs > Kind::kWords) {
        __m512i words[N];
#pragma GCC unroll 8
        for (int v = 0; v < N; ++v) words[v] = _mm512_loadu_si512(w + v / kPerPanel * panel_words + v % kPerPanel * W);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const __m512bh pair = (__m512bh)_mm512_set1_epi32(static_cast<int>(x[r * kLdx]));
#pragma GCC unroll 8
          for (int v = 0; v < N; ++v) acc[r][v] = (F)_mm512_dpbf16_ps((__m512)acc[r][v], (__m512bh)words[v], pair);
        }
        continue;
      }
#endif
      if constexpr (Kind::kInputs == Kind::kWords) {
        const float* xf = reinterpret_cast<const float*>(x);
#pragma GCC unroll 8
        for (int v = 0; v < N; ++v) {
#pragma GCC unroll 2
          for (int i = 0; i < Kind::kInputs; ++i) {
            const F weights = Kind::Weights(w + v / kPerPanel * panel_words, v % kPerPanel * W, i);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) acc[r][v] += weights * xf[r * kLdx + i];
          }
        }
      }
    }
  }
  // This hides from the compiler that c began here. It would keep all rows' addresses in registers over the loop
  // otherwise.
  c = a.c;
  asm volatile("" : "+r"(c));
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r, c += a.ldc) {
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) Store(c + v * W, acc[r][v]);
  }
}

// There is one function for each shape: without noinline the compiler merges them into one frame and spills.
template <class Kind, int kRows, int kPanels, int kLines>
static __attribute__((noinline)) void TileOf(const TileArgs& a) {
  TileImpl<Kind, kRows, kPanels, kLines>(a);
}

template <class Kind, int kRows, int kPanels>
CAUSEWAY_INLINE void TileOfRows(const TileArgs& a) {
  switch (a.lines) {
    case 0: return TileOf<Kind, kRows, kPanels, 0>(a);
    case 1: return TileOf<Kind, kRows, kPanels, 1>(a);
    case 2: return TileOf<Kind, kRows, kPanels, 2>(a);
    case kOwnLines:
      if constexpr (kPrefetches<Kind>) TileOf<Kind, kRows, kPanels, kOwnLines>(a);
  }
}

template <class Kind, int kPanels>
CAUSEWAY_INLINE void TileOfPanels(int64_t rows, const TileArgs& a) {
  switch (rows) {
    case 1: return TileOfRows<Kind, 1, kPanels>(a);
#if defined(__AVX2__)
    case 2: return TileOfRows<Kind, 2, kPanels>(a);
    case 3: return TileOfRows<Kind, 3, kPanels>(a);
#endif
#if defined(__AVX512F__)
    case 4: return TileOfRows<Kind, 4, kPanels>(a);
    case 5: return TileOfRows<Kind, 5, kPanels>(a);
    case 6: return TileOfRows<Kind, 6, kPanels>(a);
#endif
  }
}

// rows are in [1, kTileRows], panels in [1, kTilePanels].
template <class Kind>
static void Tile(int64_t rows, int64_t panels, const TileArgs& a) {
#if defined(__AVX512F__)
  if (panels == 2) return TileOfPanels<Kind, 2>(rows, a);
#endif
  TileOfPanels<Kind, 1>(rows, a);
}

// Packs `units` units of one row of x, from unit `first` on, as a tile reads them; `in` is the row's length.
template <class Kind>
CAUSEWAY_INLINE void PackX(const typename Kind::T* x, int64_t in, int64_t first, int64_t units, Word* to) {
  const int64_t begin = Kind::kInputs * first, all = Kind::kInputs * units, n = in - begin < all ? in - begin : all;
  if (n < all) to[units * Kind::kWords - 1] = 0;
  if constexpr (kAsItCame<Kind>) {
    memcpy(to, x + begin, n * sizeof(typename Kind::T));
  } else {
    float* out = reinterpret_cast<float*>(to);
    int64_t i = 0;
    for (; i + W <= n; i += W) Store(out + i, Load(x + begin + i));
    for (; i < n; ++i) out[i] = ToFloat(x[begin + i]);
  }
}

}  // namespace causeway::cpu::CAUSEWAY_ISA
