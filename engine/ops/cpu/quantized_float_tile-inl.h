// The tiles of quantized linears that compute with floats. Weights become floats in registers, exactly, and x stays as
// it came.
//   WideKind  fp32 x, any format: what computing in fp32 takes; and fp8 where x is not bf16 or there is no vdpbf16ps
//   Fp8Kind   bf16 x and fp8 weights, by vdpbf16ps: e4m3 is exact in bf16. Several tiles of rows
//            share decoded weights
// A chunk is summed by itself, then scaled and added to the sum of the chunks before it.

namespace causeway::cpu::CAUSEWAY_ISA {

struct Fp8 {
  static constexpr int kUnits = 8, kHalves = 1;
  static constexpr bool kScaleLast = false;
};

// Input j of a word as floats, less its zero.
CAUSEWAY_INLINE F Decode(Int8, U word, int j, F) {
  return __builtin_convertvector((I)(word >> (8 * j) & 255u), F) - static_cast<float>(kInt8Zero);
}
CAUSEWAY_INLINE F Decode(Int4, U word, int j, F zero) {
  return __builtin_convertvector((I)(word >> (8 * (j % 4) + j / 4 * 4) & 15u), F) - zero;
}
CAUSEWAY_INLINE F Decode(Fp8, U word, int j, F) {
  const U byte = word >> (8 * j);
  const F magnitude = (F)((byte & 127u) << 20) * 0x1p120f;  // the exponent's bias moves from 7 to 127
  return (F)((U)magnitude | (byte & 128u) << 24);
}

template <class Format>
CAUSEWAY_INLINE F ScalesOf(const uint8_t* head, int v) {
  if constexpr (Format::kHalves == 2) {
    return Load(reinterpret_cast<const Half*>(head) + v * W);
  } else {
    return Load(reinterpret_cast<const float*>(head) + v * W);
  }
}

template <class Format, int kRows, int kPanels>
CAUSEWAY_INLINE void AddScaled(const QuantizedTileArgs& a, const uint8_t* head,
                               const F (&acc)[kRows][kPanels * static_cast<int>(kPanel) / W]) {
  constexpr int kPerPanel = static_cast<int>(kPanel) / W;
#pragma GCC unroll 8
  for (int v = 0; v < kPanels * kPerPanel; ++v) {
    const F scale =
        Format::kScaleLast ? Set(1) : ScalesOf<Format>(head + v / kPerPanel * a.layout->panel_bytes, v % kPerPanel);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      float* c = a.c + r * a.ldc + v * W;
      Store(c, Load(c) + acc[r][v] * scale);
    }
  }
}

template <class F_>
struct WideKind {
  using Format = F_;
  static constexpr bool kChunks = false, kDecodes = false;
  static constexpr int64_t kXBytes = kQuantizedBlock * 4;
  template <int kRows, int kPanels>
  static __attribute__((noinline)) void Tile(const QuantizedTileArgs& a) {
    constexpr int kPerPanel = static_cast<int>(kPanel) / W, N = kPanels * kPerPanel, kInputs = 4 * Format::kHalves;
    const QuantizedLayout& l = *a.layout;
    GroupCursor at(a);
    const uint8_t* x = a.x;
    for (int64_t done = 0; done < a.blocks;) {
      const int64_t end = done + at.Next(l, a.blocks - done);
      F acc[kRows][N] = {}, zero[N];
      for (int v = 0; v < N; ++v) {
        const uint8_t* zeros = at.head + l.scale_bytes + v / kPerPanel * l.panel_bytes + v % kPerPanel * W;
        zero[v] = l.zero_points ? __builtin_convertvector(LoadBytes(zeros), F) : Set(kInt4Zero);
      }
      for (; done < end; ++done, x += a.x_stride) {
        PrefetchBlock(a, done, kPanels);
        for (int u = 0; u < Format::kUnits; ++u) {
          const float* xu = reinterpret_cast<const float*>(x) + u * kInputs;
#pragma GCC unroll 8
          for (int v = 0; v < N; ++v) {
            const U word = (U)Load(reinterpret_cast<const float*>(at.w + v / kPerPanel * l.panel_bytes) + u * kPanel +
                                   v % kPerPanel * W);
#pragma GCC unroll 8
            for (int j = 0; j < kInputs; ++j) {
              const F value = Decode(Format(), word, j, zero[v]);
#pragma GCC unroll 8
              for (int r = 0; r < kRows; ++r) acc[r][v] += value * xu[r * kQuantizedBlock + j];
            }
          }
        }
        at.w += l.block_bytes;
      }
      AddScaled<Format, kRows, kPanels>(a, at.head, acc);
    }
  }
};

#if defined(__AVX512BF16__)
// Turns bytes 0 and 2 of each word (even) or 1 and 3 into two bf16. The bias of the exponent grows by 120, which is an
// addition to the bits. The eight values with an exponent of 0 take their addend from a table.
struct Fp8ToBf16 {
  __m512i table, bias = _mm512_set1_epi16(120 << 7), mask = _mm512_set1_epi16(static_cast<int16_t>(0x87f0));

  Fp8ToBf16() {
    // bits(m / 512) - (m << 4)
    constexpr int16_t kAddend[8] = {
        0, 0x3b00 - 0x10, 0x3b80 - 0x20, 0x3bc0 - 0x30, 0x3c00 - 0x40, 0x3c20 - 0x50, 0x3c40 - 0x60, 0x3c60 - 0x70};
    table = _mm512_maskz_broadcast_i32x4(static_cast<__mmask16>(-1),
                                         _mm_loadu_si128(reinterpret_cast<const __m128i*>(kAddend)));
  }
  __attribute__((always_inline)) __m512i Even(__m512i w) const {
    const __m512i bits = _mm512_and_si512(_mm512_srai_epi16(_mm512_slli_epi16(w, 8), 4), mask);
    const __mmask32 small = _mm512_testn_epi16_mask(w, _mm512_set1_epi16(0x0078));
    return _mm512_add_epi16(bits, _mm512_mask_permutexvar_epi16(bias, small, w, table));
  }
  __attribute__((always_inline)) __m512i Odd(__m512i w) const {
    const __m512i bits = _mm512_and_si512(_mm512_srai_epi16(w, 4), mask);
    const __mmask32 small = _mm512_testn_epi16_mask(w, _mm512_set1_epi16(0x7800));
    return _mm512_add_epi16(bits, _mm512_mask_permutexvar_epi16(bias, small, _mm512_srli_epi16(w, 8), table));
  }
};

// Panels decoded for several tiles of rows are [block][unit][even, odd][panel][kPanel] words.
struct Fp8Kind {
  using Format = Fp8;
  static constexpr bool kChunks = false, kDecodes = true;
  static constexpr int64_t kXBytes = kQuantizedBlock * 2;  // two vectors for four inputs: 0 and 2, then 1 and 3

  // Decodes the blocks of a's panels.
  static void Decode(const QuantizedTileArgs& a, int64_t panels, uint8_t* to) {
    const Fp8ToBf16 decode;
    GroupCursor at(a);
    for (int64_t done = 0; done < a.blocks;) {
      for (const int64_t end = done + at.Next(*a.layout, a.blocks - done); done < end;
           ++done, at.w += a.layout->block_bytes) {
        for (int64_t u = 0; u < Format::kUnits; ++u, to += 2 * panels * kPanel * 4) {
          for (int64_t p = 0; p < panels; ++p) {
            for (int64_t i = 0; i < kPanel * 4; i += 64) {
              const __m512i word = _mm512_loadu_si512(at.w + p * a.layout->panel_bytes + u * kPanel * 4 + i);
              _mm512_storeu_si512(to + p * kPanel * 4 + i, decode.Even(word));
              _mm512_storeu_si512(to + (panels + p) * kPanel * 4 + i, decode.Odd(word));
            }
          }
        }
      }
    }
  }

  template <int kRows, int kPanels>
  static void Tile(const QuantizedTileArgs& a) {
    a.decoded != nullptr ? TileOf<kRows, kPanels, true>(a) : TileOf<kRows, kPanels, false>(a);
  }

  template <int kRows, int kPanels, bool kDecoded>
  static __attribute__((noinline)) void TileOf(const QuantizedTileArgs& a) {
    constexpr int kPerPanel = static_cast<int>(kPanel) / W, N = kPanels * kPerPanel;
    const QuantizedLayout& l = *a.layout;
    const Fp8ToBf16 decode;
    GroupCursor at(a);
    const uint8_t* x = a.x;
    const uint8_t* decoded = a.decoded;
    for (int64_t done = 0; done < a.blocks;) {
      const int64_t end = done + at.Next(l, a.blocks - done);
      F acc[kRows][N] = {};
      for (; done < end; ++done, x += a.x_stride) {
        PrefetchBlock(a, done, kPanels);
        const uint8_t* w = at.w;
        const uint8_t* xu = x;
        for (int u = 0; u < Format::kUnits; ++u, w += kPanel * 4, xu += 8) {
#pragma GCC unroll 2
          for (int odd = 0; odd < 2; ++odd) {
            __m512i words[N];
#pragma GCC unroll 8
            for (int v = 0; v < N; ++v) {
              if constexpr (kDecoded) {
                words[v] = _mm512_loadu_si512(decoded + (odd * N + v) * 64);
              } else {
                words[v] = _mm512_loadu_si512(w + v / kPerPanel * l.panel_bytes + v % kPerPanel * W * 4);
                words[v] = odd ? decode.Odd(words[v]) : decode.Even(words[v]);
              }
            }
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
              const __m512bh pair = (__m512bh)_mm512_set1_epi32(
                  static_cast<int>(*reinterpret_cast<const Word*>(xu + r * kXBytes + 4 * odd)));
#pragma GCC unroll 8
              for (int v = 0; v < N; ++v) acc[r][v] = (F)_mm512_dpbf16_ps((__m512)acc[r][v], (__m512bh)words[v], pair);
            }
          }
          if constexpr (kDecoded) decoded += 2 * N * 64;
        }
        at.w += l.block_bytes;
      }
      AddScaled<Format, kRows, kPanels>(a, at.head, acc);
    }
  }
};
#endif

}  // namespace causeway::cpu::CAUSEWAY_ISA
