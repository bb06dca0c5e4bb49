// Quantizes rows of a weight to whole numbers and scales, on the loading path: see engine/ops/quantize.h. It is
// single-threaded, since many threads call it at once.

namespace causeway::cpu::CAUSEWAY_ISA {

// Rows and groups below this are held as zero: the inverse of their scale could overflow.
constexpr float kVanishing = 1e-30f;

// Rounds to the nearest whole number, ties to even, for |x| < 2^22.
CAUSEWAY_INLINE F Round(F x) {
#if defined(__AVX512F__)
  return (F)_mm512_roundscale_ps((__m512)x, 0);
#elif defined(__AVX2__)
  return (F)_mm256_round_ps((__m256)x, 0);
#else
  return (x + 12582912.0f) - 12582912.0f;
#endif
}
// Stores the first n lanes, rounded, as bytes; -128 <= x <= 127.
CAUSEWAY_INLINE void StoreBytes(void* p, F x, int64_t n) {
#if defined(__AVX512F__)
  const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32((__m512)x));
  if (n == W) return _mm_storeu_si128(static_cast<__m128i*>(p), bytes);
#elif defined(__AVX2__)
  const __m256i words = _mm256_cvtps_epi32((__m256)x);
  const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  const __m128i bytes = _mm_packs_epi16(halves, halves);
  if (n == W) return _mm_storel_epi64(static_cast<__m128i*>(p), bytes);
#else
  const F whole = Round(x);
  int8_t bytes[W];
  for (int i = 0; i < W; ++i) bytes[i] = static_cast<int8_t>(whole[i]);
#endif
  memcpy(p, &bytes, n);
}
CAUSEWAY_INLINE F Abs(F x) { return (F)((I)x & 0x7fffffff); }

// Rounds to the nearest number of fp16; beyond its range to infinity.
CAUSEWAY_INLINE float RoundToHalf(float x) {
  const float magnitude = x < 0 ? -x : x;
  if (magnitude < 6.103515625e-5f)
    return __builtin_copysignf((magnitude + 0.5f) - 0.5f, x);  // subnormal, in steps of 2^-24
  uint32_t bits;
  memcpy(&bits, &x, 4);
  bits = (bits + 0xfffu + ((bits >> 13) & 1u)) & ~0x1fffu;
  memcpy(&x, &bits, 4);
  return magnitude >= 65520.0f ? x * __builtin_inff() : x;
}

template <class T>
CAUSEWAY_INLINE void ToFloats(const T* x, float* y, int64_t count) {
  ForEachVector(count, [&](int64_t i, int64_t n) { StoreSome(y + i, LoadSome(x + i, n), n); });
}

// The largest magnitude, or an infinity or NaN if there is one: compared as whole numbers, these are above all others.
template <class T>
CAUSEWAY_INLINE float LargestMagnitude(const T* x, int64_t count) {
  I most{};
  ForEachVector(count, [&](int64_t i, int64_t n) {
    const I bits = (I)Abs(LoadSome(x + i, n));
    most = bits > most ? bits : most;
  });
  int32_t bits = 0;
  for (int i = 0; i < W; ++i) bits = most[i] > bits ? most[i] : bits;
  float largest;
  memcpy(&largest, &bits, 4);
  return largest;
}

template <class T>
static void QuantizeInt8Of(const QuantizeArgs& a) {
  float* row = static_cast<float*>(Scratch(a.in * sizeof(float)));
  for (int64_t r = 0; r < a.rows; ++r) {
    ToFloats(static_cast<const T*>(a.x) + r * a.in, row, a.in);
    const float largest = LargestMagnitude(row, a.in);
    const bool vanishes = largest < kVanishing;
    a.scales[r] = vanishes ? 0 : largest / 127;
    const float inverse = vanishes ? 0 : 127 / largest;
    int8_t* values = static_cast<int8_t*>(a.values) + r * a.in;
    ForEachVector(a.in, [&](int64_t i, int64_t n) { StoreBytes(values + i, LoadSome(row + i, n) * inverse, n); });
  }
}

// A scale puts the value of the largest magnitude at one of these places of -8..7 before rounding. Each is tried for
// each group. A value beyond -8 is cut off, which often pays.
constexpr float kLandings[] = {-7.2f, -7.7f, -8.2f, -8.8f, -9.6f, 7.4f};

// The scale of least squared error among those tried, for W groups at once; x is [group, W].
CAUSEWAY_INLINE F BestScale(const float* x, int64_t group) {
  F most{};  // the value of the largest magnitude
  for (int64_t i = 0; i < group; ++i) {
    const F v = Load(x + i * W);
    most = Abs(v) > Abs(most) ? v : most;
  }
  const F unit = Abs(most) < kVanishing ? F{} : 1.0f / most;
  F best{}, best_gain{};
  for (const float landing : kLandings) {
    const F inverse = landing * unit;
    F xq{}, qq{};
    for (int64_t i = 0; i < group; ++i) {
      const F v = Load(x + i * W);
      const F q = Round(Min(Max(v * inverse, Set(-8)), Set(7)));
      xq += v * q;
      qq += q * q;
    }
    // With the scale xq / qq the squared error is sum(x^2) - xq^2 / qq.
    const F scale = qq > 0.0f ? xq / qq : F{}, gain = scale * xq;
    best = gain > best_gain ? scale : best;
    best_gain = Max(gain, best_gain);
  }
  return best;
}

template <class T>
static void QuantizeInt4Of(const QuantizeArgs& a) {
  const int64_t groups = (a.in + a.group - 1) / a.group, padded = groups * a.group;
  float* row = static_cast<float*>(Scratch((padded + a.group * W) * sizeof(float)));
  float* turned = row + padded;  // W groups, [group, W]
  memset(turned, 0, a.group * W * sizeof(float));
  for (int64_t r = 0; r < a.rows; ++r) {
    ToFloats(static_cast<const T*>(a.x) + r * a.in, row, a.in);
    for (int64_t i = a.in; i < padded; ++i) row[i] = 0;
    float* scales = a.scales + r * groups;
    uint8_t* values = static_cast<uint8_t*>(a.values) + r * a.in;
    const float largest = LargestMagnitude(row, a.in);
    const bool finite = largest - largest == 0;
    for (int64_t g0 = 0; g0 < groups; g0 += W) {
      const int64_t count = groups - g0 < W ? groups - g0 : W;
      // Lanes beyond the last group keep what was there before; nobody reads their scale.
      for (int64_t i = 0; i < a.group; ++i) {
        for (int64_t g = 0; g < count; ++g) turned[i * W + g] = row[(g0 + g) * a.group + i];
      }
      const F best = BestScale(turned, a.group);
      for (int64_t g = 0; g < count; ++g) {
        const float scale = RoundToHalf(best[g]), inverse = scale != 0 ? 1 / scale : 0;
        scales[g0 + g] = finite ? scale : largest;
        const int64_t begin = (g0 + g) * a.group, end = begin + a.group < a.in ? begin + a.group : a.in;
        ForEachVector(end - begin, [&](int64_t i, int64_t n) {
          const F q = Round(Min(Max(LoadSome(row + begin + i, n) * inverse, Set(-8)), Set(7)));
          StoreBytes(values + begin + i, q + 8.0f, n);
        });
      }
    }
  }
}

static void QuantizeInt8(const QuantizeArgs& a) {
  a.element == Element::kFp32 ? QuantizeInt8Of<float>(a) : QuantizeInt8Of<Bf16>(a);
}
static void QuantizeInt4(const QuantizeArgs& a) {
  a.element == Element::kFp32 ? QuantizeInt4Of<float>(a) : QuantizeInt4Of<Bf16>(a);
}

}  // namespace causeway::cpu::CAUSEWAY_ISA
