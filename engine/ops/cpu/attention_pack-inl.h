// Packs keys and values of the paged cache into panels for the tile.

namespace causeway::cpu::CAUSEWAY_ISA {

#if defined(__AVX512F__)
// Selects 16-bit values 0, 32, 1, 33, ... of two vectors: their first halves, interleaved.
CAUSEWAY_INLINE __m512i InterleaveLow() {
  const __m512i words = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  return _mm512_or_si512(words, _mm512_slli_epi32(_mm512_add_epi32(words, _mm512_set1_epi32(32)), 16));
}
#endif

// Converts a block of n integers to T, which holds them exactly. Prefetches `ahead`.
template <class T>
CAUSEWAY_INLINE void WidenBlock(const int8_t* from, const int8_t* ahead, int64_t n, T* to) {
  for (int64_t i = 0; i < n; i += 64) __builtin_prefetch(ahead + i, 0, 2);
  int64_t i = 0;
#if defined(__AVX512BF16__)
  if constexpr (sizeof(T) == 2) {
    for (; i + 2 * W <= n; i += 2 * W) {
      _mm512_storeu_si512(to + i, (__m512i)_mm512_cvtne2ps_pbh((__m512)Load(from + i + W), (__m512)Load(from + i)));
    }
  }
#endif
  for (; i < n; i += W) Store(to + i, Load(from + i));
}

// Packs the keys of a block, [16, head_dim], into lanes [lane, lane + 16) of a panel of head_dim units. Where there is
// a block at `ahead`, it is prefetched on the way, row by row: a burst of prefetches would hold everything up.
template <class T>
CAUSEWAY_INLINE void PackKeys(const T* keys, const T* ahead, int64_t head_dim, Word* panel, int64_t lane) {
  constexpr int64_t kPerUnit = 4 / sizeof(T);
  const int64_t units = head_dim / kPerUnit;
  if (head_dim % kPerUnit == 0) {
    const Word* words = reinterpret_cast<const Word*>(keys);
    int64_t u = 0;
#if defined(__AVX512F__)
    for (; u + 16 <= units; u += 16) {
      if (ahead != nullptr) {
        const Word* next = reinterpret_cast<const Word*>(ahead) + u;
        for (int64_t i = 0; i < kBlockTokens; ++i) __builtin_prefetch(next + i * units, 0, 2);
      }
      SetLanes16<T>(words + u, units, panel + u * kPanel, lane);
    }
#endif
    for (; u < units; ++u) {
      for (int64_t i = 0; i < kBlockTokens; ++i) SetLane<T>(panel + u * kPanel, lane + i, words[i * units + u]);
    }
    return;
  }
  for (int64_t i = 0; i < kBlockTokens; ++i) {  // an odd number of 16-bit values: the last unit is half empty
    for (int64_t u = 0; u <= units; ++u) {
      Word word = 0;
      memcpy(&word, keys + i * head_dim + u * kPerUnit, u < units ? 4 : sizeof(T));
      SetLane<T>(panel + u * kPanel, lane + i, word);
    }
  }
}

// Packs the first `count` values of a block, [16, head_dim], into units [unit, ...) of panels of outputs. The other
// values of these units become zero, since nothing was written there and they may hold anything. Prefetches `ahead`, if
// there is one.
template <class T>
CAUSEWAY_INLINE void PackValues(const T* values, const T* ahead, int64_t head_dim, int64_t count, Word* panels,
                                int64_t panel_words, int64_t unit) {
  constexpr int64_t kPerUnit = 4 / sizeof(T);
  for (int64_t key = 0; key < kBlockTokens; key += kPerUnit, ++unit) {
    const T* row = values + key * head_dim;
    for (int64_t d0 = 0; d0 < head_dim; d0 += kPanel) {
      Word* to = panels + d0 / kPanel * panel_words + unit * kPanel;
      const int64_t n = head_dim - d0 < kPanel ? head_dim - d0 : kPanel;
      if (ahead != nullptr) {
        __builtin_prefetch(ahead + key * head_dim + d0, 0, 2);
        if (kPerUnit == 2) __builtin_prefetch(ahead + (key + 1) * head_dim + d0, 0, 2);
      }
      if (key >= count) {
        memset(to, 0, kPanel * 4);
      } else if constexpr (sizeof(T) == 4) {
        memcpy(to, row + d0, n * 4);
      } else if constexpr (__is_same(T, Half)) {
        Half* halves = reinterpret_cast<Half*>(to);
        const T* next = row + head_dim;
        if (key + 1 < count && n == kPanel) {  // the sizes are known when this is compiled
          memcpy(halves, row + d0, kPanel * 2);
          memcpy(halves + kPanel, next + d0, kPanel * 2);
          continue;
        }
        memset(halves, 0, kPanel * 4);
        memcpy(halves, row + d0, n * 2);
        if (key + 1 < count) memcpy(halves + kPanel, next + d0, n * 2);
      } else {
        const T* next = row + head_dim;
        const bool pair = key + 1 < count;
        int64_t i = 0;
#if defined(__AVX512F__)
        if (pair && n == kPanel) {
          const __m512i one = _mm512_loadu_si512(row + d0), two = _mm512_loadu_si512(next + d0);
          _mm512_storeu_si512(to, _mm512_permutex2var_epi16(one, InterleaveLow(), two));
          _mm512_storeu_si512(
              to + W, _mm512_permutex2var_epi16(one, _mm512_add_epi16(InterleaveLow(), _mm512_set1_epi16(16)), two));
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

}  // namespace causeway::cpu::CAUSEWAY_ISA
