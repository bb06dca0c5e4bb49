// The tile of quantized linears that computes with whole numbers: C [rows, 32 * panels] += X [rows, inputs] times
// packed blocks. x is signed bytes with a scale for each row and chunk, and weights are unsigned bytes as they are
// stored.
//
// Within a chunk sums are whole numbers, so they are exact in any order. They start at -zero * (sum of x), so that the
// weights' zero costs nothing. Chunks are added in order, in fp32, one sum for each output: a row's result depends
// neither on the tile's shape nor on the instruction set, but for the roundings of that last step.

namespace causeway::cpu::CAUSEWAY_ISA {

// A row's chunk of x has a scale and a start for its sums: the values' negated sum, times the weights' zero where that
// is the same for all.
struct ChunkOfX {
  float scale;
  int32_t start;
};

struct QuantizedTileArgs {
  const QuantizedLayout* layout;
  const uint8_t* panel;    // first byte of the first panel; the second panel follows
  int64_t first, blocks;   // the blocks to go over; `first` begins a chunk
  const uint8_t* decoded;  // what Kind::Decode() made of the blocks, or null
  const uint8_t* x;        // from block `first` on: [block][row][Kind::kXBytes]
  int64_t x_stride;        // bytes from a block to the next
  const ChunkOfX* chunks;  // from block `first` on: [chunk][row]
  int64_t chunk_stride;
  float* c;
  int64_t ldc;
  // What to prefetch of each panel meanwhile: `lines` cache lines for each block.
  const uint8_t* ahead;
  int64_t lines;
};

// A tile's place in its panel: the scales of its group, the next block, the blocks left in the group.
struct GroupCursor {
  const uint8_t* head;
  const uint8_t* w;
  int64_t left;

  explicit GroupCursor(const QuantizedTileArgs& a) {
    const QuantizedLayout& l = *a.layout;
    const int64_t inside = a.first % l.group_blocks;
    head = a.panel + a.first / l.group_blocks * l.group_bytes;
    w = head + l.head_bytes + inside * l.block_bytes;
    left = l.group_blocks - inside;
  }
  // The blocks of the next chunk; `more` are left in the tile.
  __attribute__((always_inline)) int64_t Next(const QuantizedLayout& l, int64_t more) {
    if (left == 0) {
      head = w;
      w += l.head_bytes;
      left = l.group_blocks;
    }
    int64_t n = l.chunk_blocks < left ? l.chunk_blocks : left;
    n = n < more ? n : more;
    left -= n;
    return n;
  }
};

CAUSEWAY_INLINE void PrefetchBlock(const QuantizedTileArgs& a, int64_t block, int panels) {
  for (int p = 0; p < panels; ++p) {
    const uint8_t* from = a.ahead + p * a.layout->panel_bytes + block * a.lines * 64;
    for (int64_t i = 0; i < a.lines; ++i) __builtin_prefetch(from + i * 64, 0, 2);
  }
}

// Loads W bytes, each into a word.
CAUSEWAY_INLINE I LoadBytes(const uint8_t* p) {
#if defined(__AVX512F__)
  return (I)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  I v;
  for (int i = 0; i < W; ++i) v[i] = p[i];
  return v;
#endif
}

struct Int8 {
  static constexpr int kUnits = 8, kHalves = 1;  // words of a block for each output; parts of a word with 4 inputs each
  static constexpr bool kScaleLast = true;       // an output has one scale, which is multiplied in when all is summed
};
struct Int4 {
  static constexpr int kUnits = 4, kHalves = 2;
  static constexpr bool kScaleLast = false;
};

// acc + the sum over the four bytes of each word of w (unsigned) and x (signed).
template <class Format>
CAUSEWAY_INLINE I DotBytes(I acc, U w, I x) {
#if defined(__AVX512VNNI__)
  return (I)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, (__m512i)x);
#elif defined(__AVX512F__)
  if constexpr (Format::kHalves == 2) {  // 15 * 127 * 2 fits 16 bits
    return acc + (I)_mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)w, (__m512i)x), _mm512_set1_epi16(1));
  } else {
    const __m512i low = _mm512_and_si512((__m512i)w, _mm512_set1_epi16(255)), high = _mm512_srli_epi16((__m512i)w, 8);
    const __m512i x_low = _mm512_srai_epi16(_mm512_slli_epi16((__m512i)x, 8), 8),
                  x_high = _mm512_srai_epi16((__m512i)x, 8);
    return acc + (I)_mm512_madd_epi16(low, x_low) + (I)_mm512_madd_epi16(high, x_high);
  }
#elif defined(__AVX2__)
  if constexpr (Format::kHalves == 2) {
    return acc + (I)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)w, (__m256i)x), _mm256_set1_epi16(1));
  } else {
    const __m256i low = _mm256_and_si256((__m256i)w, _mm256_set1_epi16(255)), high = _mm256_srli_epi16((__m256i)w, 8);
    const __m256i x_low = _mm256_srai_epi16(_mm256_slli_epi16((__m256i)x, 8), 8),
                  x_high = _mm256_srai_epi16((__m256i)x, 8);
    return acc + (I)_mm256_madd_epi16(low, x_low) + (I)_mm256_madd_epi16(high, x_high);
  }
#else
  for (int j = 0; j < 4; ++j) acc += (I)((w >> (8 * j)) & 255u) * ((I)((U)x << (24 - 8 * j)) >> 24);
  return acc;
#endif
}

template <class Format, bool kZeros, int kRows, int kPanels>
CAUSEWAY_INLINE void IntTileImpl(const QuantizedTileArgs& a) {
  constexpr int kPerPanel = static_cast<int>(kPanel) / W;
  constexpr int N = kPanels * kPerPanel;
  constexpr int64_t kXBytes = kQuantizedBlock;
  const QuantizedLayout& l = *a.layout;
  const int64_t panel_bytes = l.panel_bytes;
  GroupCursor at(a);
  const uint8_t* x = a.x;
  const ChunkOfX* chunk = a.chunks;
  for (int64_t done = 0; done < a.blocks; chunk += a.chunk_stride) {
    const int64_t end = done + at.Next(l, a.blocks - done);
    I acc[kRows][N];
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) {
      I zero;
      if constexpr (kZeros) zero = LoadBytes(at.head + l.scale_bytes + v / kPerPanel * panel_bytes + v % kPerPanel * W);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) acc[r][v] = kZeros ? zero * chunk[r].start : I{} + chunk[r].start;
    }
    for (; done < end; ++done, x += a.x_stride) {
      PrefetchBlock(a, done, kPanels);
      const uint8_t* w = at.w;
      const uint8_t* xu = x;
      for (int u = 0; u < Format::kUnits; ++u, w += kPanel * 4, xu += 4 * Format::kHalves) {
        U words[N];
#pragma GCC unroll 8
        for (int v = 0; v < N; ++v)
          words[v] = (U)Load(reinterpret_cast<const float*>(w + v / kPerPanel * panel_bytes) + v % kPerPanel * W);
#pragma GCC unroll 2
        for (int h = 0; h < Format::kHalves; ++h) {
          U part[N];
#pragma GCC unroll 8
          for (int v = 0; v < N; ++v)
            part[v] = Format::kHalves == 1 ? words[v] : (h == 0 ? words[v] : words[v] >> 4) & 0x0f0f0f0fu;
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) {
            const I four = (I)(U{} + *reinterpret_cast<const Word*>(xu + r * kXBytes + 4 * h));
#pragma GCC unroll 8
            for (int v = 0; v < N; ++v) acc[r][v] = DotBytes<Format>(acc[r][v], part[v], four);
          }
        }
      }
      at.w += l.block_bytes;
    }
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) {
      F scale;
      if constexpr (!Format::kScaleLast)
        scale = Load(reinterpret_cast<const Half*>(at.head + v / kPerPanel * panel_bytes) + v % kPerPanel * W);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        float* c = a.c + r * a.ldc + v * W;
        F sum = __builtin_convertvector(acc[r][v], F);
        if constexpr (!Format::kScaleLast) sum *= scale;
        Store(c, Load(c) + sum * chunk[r].scale);
      }
    }
  }
}

// The kind with x as signed bytes and weights in Format, with or without zero points.
template <class F_, bool kZeros_>
struct IntKind {
  using Format = F_;
  static constexpr bool kChunks = true, kDecodes = false;  // x has ChunkOfX; Decode() prepares slabs for several tiles
  static constexpr int64_t kXBytes = kQuantizedBlock;
  // There is one function for each shape, as in TileOf.
  template <int kRows, int kPanels>
  static __attribute__((noinline)) void Tile(const QuantizedTileArgs& a) {
    IntTileImpl<Format, kZeros_, kRows, kPanels>(a);
  }
};

}  // namespace causeway::cpu::CAUSEWAY_ISA
