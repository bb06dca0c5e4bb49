// Packs rows of a weight into its panels, on the loading path.

namespace causeway::cpu::CAUSEWAY_ISA {

// Sets the weights of one lane of a unit from a word that has the unit's inputs, the first one lowest.
template <class Weight>
CAUSEWAY_INLINE void SetLane(Word* unit, int64_t lane, Word word) {
  if constexpr (__is_same(Weight, Half)) {
    uint16_t* halves = reinterpret_cast<uint16_t*>(unit) + lane;
    halves[0] = static_cast<uint16_t>(word);
    halves[kPanel] = static_cast<uint16_t>(word >> 16);
  } else {
    unit[lane] = word;
  }
}

#if defined(__AVX512F__)
// Calls store(i, to[i]) for the rows of to[i][j] = from[j][i], 16 x 16 words; the stride is in words.
template <class Store>
CAUSEWAY_INLINE void Transpose16(const Word* from, int64_t from_stride, Store store) {
  __m512i a[16], b[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(from + i * from_stride);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // a[4 i + k] holds column 4 l + k of rows 4 i to 4 i + 3, in 128-bit lane l
    a[4 * i] = _mm512_unpacklo_epi64(b[4 * i], b[4 * i + 2]);
    a[4 * i + 1] = _mm512_unpackhi_epi64(b[4 * i], b[4 * i + 2]);
    a[4 * i + 2] = _mm512_unpacklo_epi64(b[4 * i + 1], b[4 * i + 3]);
    a[4 * i + 3] = _mm512_unpackhi_epi64(b[4 * i + 1], b[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    const __m512i p = _mm512_shuffle_i32x4(a[k], a[4 + k], 0x88), q = _mm512_shuffle_i32x4(a[8 + k], a[12 + k], 0x88);
    const __m512i r = _mm512_shuffle_i32x4(a[k], a[4 + k], 0xdd), s = _mm512_shuffle_i32x4(a[8 + k], a[12 + k], 0xdd);
    store(k, _mm512_shuffle_i32x4(p, q, 0x88));
    store(8 + k, _mm512_shuffle_i32x4(p, q, 0xdd));
    store(4 + k, _mm512_shuffle_i32x4(r, s, 0x88));
    store(12 + k, _mm512_shuffle_i32x4(r, s, 0xdd));
  }
}

// Calls store(i, to[i]) for the rows of to[i][j] = from[j][i], where from is 16 x 32 halves.
template <class Store>
CAUSEWAY_INLINE void TransposeHalves16(const Word* from, int64_t from_stride, Store store) {
  __m512i a[16], b[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(from + i * from_stride);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    b[2 * i] = _mm512_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm512_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    a[4 * i] = _mm512_unpacklo_epi32(b[4 * i], b[4 * i + 2]);
    a[4 * i + 1] = _mm512_unpackhi_epi32(b[4 * i], b[4 * i + 2]);
    a[4 * i + 2] = _mm512_unpacklo_epi32(b[4 * i + 1], b[4 * i + 3]);
    a[4 * i + 3] = _mm512_unpackhi_epi32(b[4 * i + 1], b[4 * i + 3]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {  // b[8 j + k] holds column 8 l + k of rows 8 j to 8 j + 7, in 128-bit lane l
    const int j = i / 4, k = i % 4;
    b[8 * j + 2 * k] = _mm512_unpacklo_epi64(a[8 * j + k], a[8 * j + 4 + k]);
    b[8 * j + 2 * k + 1] = _mm512_unpackhi_epi64(a[8 * j + k], a[8 * j + 4 + k]);
  }
  const __m512i low = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0), high = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
#pragma GCC unroll 8
  for (int k = 0; k < 8; ++k) {
    const __m512i p = _mm512_permutex2var_epi64(b[k], low, b[8 + k]),
                  q = _mm512_permutex2var_epi64(b[k], high, b[8 + k]);
    store(k, _mm512_castsi512_si256(p));
    store(8 + k, _mm512_extracti64x4_epi64(p, 1));
    store(16 + k, _mm512_castsi512_si256(q));
    store(24 + k, _mm512_extracti64x4_epi64(q, 1));
  }
}

// Sets 16 lanes from `lane` on of 16 neighbouring units; the words of each lane are `from_stride` from those before.
template <class Weight>
CAUSEWAY_INLINE void SetLanes16(const Word* from, int64_t from_stride, Word* units, int64_t lane) {
  if constexpr (__is_same(Weight, Half)) {
    uint16_t* const halves = reinterpret_cast<uint16_t*>(units) + lane;
    TransposeHalves16(from, from_stride, [&](int input, __m256i v) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(halves + input * kPanel), v);
    });
  } else {
    Transpose16(from, from_stride, [&](int unit, __m512i v) { _mm512_storeu_si512(units + unit * kPanel + lane, v); });
  }
}
#endif

// Packs a run of rows that share a panel, [first, last); `panel` is theirs.
template <class Weight>
static void PackRun(const PackArgs& a, int64_t first, int64_t last, Word* panel) {
  const char* from = static_cast<const char*>(a.rows) + (first - a.first) * a.row_bytes;
  const int64_t lane = first % kPanel, count = last - first;
  int64_t done = 0;  // units
#if defined(__AVX512F__)
  if (lane % 16 == 0 && count % 16 == 0 && a.row_bytes % 4 == 0) {
    const Word* words = reinterpret_cast<const Word*>(from);
    for (; (done + 16) * 4 <= a.row_bytes; done += 16) {
      for (int64_t r = 0; r < count; r += 16) {
        // This writes into the caches. A page that the kernel has just cleared is in them, and writing past them would
        // first put it to memory.
        SetLanes16<Weight>(words + r * a.row_bytes / 4 + done, a.row_bytes / 4, panel + done * kPanel, lane + r);
      }
    }
  }
#endif
  constexpr int64_t kRun = 64;  // units taken from each row before the next row, so that what is written to stays in L1
  Word run[kRun];
  for (; done < a.units; done += kRun) {
    const int64_t n = a.units - done < kRun ? a.units - done : kRun, bytes = a.row_bytes - done * 4;
    for (int64_t r = 0; r < count; ++r) {
      run[n - 1] = 0;  // clears the half of the last unit that odd inputs leave
      memcpy(run, from + r * a.row_bytes + done * 4, bytes < n * 4 ? bytes : n * 4);
      for (int64_t u = 0; u < n; ++u) SetLane<Weight>(panel + (done + u) * kPanel, lane + r, run[u]);
    }
  }
}

static void PackRows(const PackArgs& a) {
  const int64_t end = a.first + a.count;
  for (int64_t row = a.first; row < end;) {
    const int64_t panel = row / kPanel, panel_end = (panel + 1) * kPanel < end ? (panel + 1) * kPanel : end;
    WithTypes(a.element, [&](auto, auto stored) {
      PackRun<decltype(stored)>(a, row, panel_end, reinterpret_cast<Word*>(a.panels) + panel * a.units * kPanel);
    });
    row = panel_end;
  }
}

}  // namespace causeway::cpu::CAUSEWAY_ISA
