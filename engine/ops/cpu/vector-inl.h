// Vectors of W floats in the compiler's own vector types, so that one source serves every instruction set. Each kernel
// file includes it once, inside the namespace CAUSEWAY_ISA.
#ifndef CAUSEWAY_ISA
#error "kernel files define CAUSEWAY_ISA before including this"
#endif

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define CAUSEWAY_INLINE static inline __attribute__((always_inline))

namespace causeway::cpu::CAUSEWAY_ISA {

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float F __attribute__((vector_size(4 * W), may_alias));
typedef float FUnaligned __attribute__((vector_size(4 * W), may_alias, aligned(4)));
typedef int32_t I __attribute__((vector_size(4 * W), may_alias));
typedef uint32_t U __attribute__((vector_size(4 * W), may_alias));
typedef uint16_t H __attribute__((vector_size(2 * W), may_alias));
typedef uint16_t HUnaligned __attribute__((vector_size(2 * W), may_alias, aligned(2)));
typedef int8_t BUnaligned __attribute__((vector_size(W), may_alias, aligned(1)));

struct Bf16 {
  uint16_t bits;
};
struct Half {  // IEEE's, fp16
  uint16_t bits;
};

CAUSEWAY_INLINE F Set(float x) { return F{} + x; }
CAUSEWAY_INLINE F Select(I mask, F yes, F no) { return mask ? yes : no; }
CAUSEWAY_INLINE F Max(F a, F b) { return a > b ? a : b; }
CAUSEWAY_INLINE F Min(F a, F b) { return a < b ? a : b; }

CAUSEWAY_INLINE F Load(const float* p) { return *reinterpret_cast<const FUnaligned*>(p); }
CAUSEWAY_INLINE void Store(float* p, F v) { *reinterpret_cast<FUnaligned*>(p) = v; }
// Loads W 16-bit values, each into a word. (The compiler's own conversion takes the long way round.)
CAUSEWAY_INLINE U Widen(const void* p) {
#if defined(__AVX512F__)
  return (U)_mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
#elif defined(__AVX2__)
  return (U)_mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
#else
  return __builtin_convertvector(*static_cast<const HUnaligned*>(p), U);
#endif
}
CAUSEWAY_INLINE F Load(const Bf16* p) { return (F)(Widen(p) << 16); }
// Rounds to the nearest, ties to even; a NaN stays one.
CAUSEWAY_INLINE U RoundToBf16(F v) {
  const U u = (U)v;
  const U rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return (v == v) ? rounded : (U{} + 0x7fc0u);
}
CAUSEWAY_INLINE void Store(Bf16* p, F v) {
#if defined(__AVX512BF16__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh((__m512)v));
#elif defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16((__m512i)RoundToBf16(v)));
#elif defined(__AVX2__)
  const __m256i words = (__m256i)RoundToBf16(v);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(words, words), 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
#else
  *reinterpret_cast<HUnaligned*>(p) = __builtin_convertvector(RoundToBf16(v), H);
#endif
}

CAUSEWAY_INLINE F Load(const Half* p) {
#if defined(__AVX512F__)
  return (F)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__)
  return (F)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  const U h = Widen(p), magnitude = h & 0x7fffu;
  const F finite = (F)(magnitude << 13) * 0x1p112f;  // the exponent's bias moves from 15 to 127
  const U bits = (I)magnitude >= 0x7c00 ? magnitude << 13 | 0x7f800000u : (U)finite;
  return (F)(bits | (h & 0x8000u) << 16);
#endif
}
// Rounds to the nearest, ties to even; beyond fp16's range to infinity. A NaN stays one.
CAUSEWAY_INLINE void Store(Half* p, F v) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#else
  const U sign = (U)v >> 16 & 0x8000u;
  const I magnitude = (I)v & 0x7fffffff;
  const I normal = ((magnitude + 0xfff + (magnitude >> 13 & 1)) >> 13) - (112 << 10);
  // Adding 1/2 rounds to steps of 2^-24, those of fp16's least numbers, and leaves their count in the low bits.
  const I subnormal = (I)((F)magnitude + 0.5f) - 0x3f000000;
  I half = magnitude < 0x38800000 ? subnormal : normal;
  half = magnitude >= 0x47800000 ? I{} + 0x7c00 : half;
  half = magnitude > 0x7f800000 ? I{} + 0x7e00 : half;
  *reinterpret_cast<HUnaligned*>(p) = __builtin_convertvector((U)half | sign, H);
#endif
}

// v rounded as the type of p holds it.
CAUSEWAY_INLINE F Rounded(const float*, F v) { return v; }
CAUSEWAY_INLINE F Rounded(const Bf16*, F v) { return (F)(RoundToBf16(v) << 16); }
// Loads W integers of 8 bits.
CAUSEWAY_INLINE F Load(const int8_t* p) {
#if defined(__AVX512F__)
  return (F)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX2__)
  return (F)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  return __builtin_convertvector(*reinterpret_cast<const BUnaligned*>(p), F);
#endif
}
// Rounds to the nearest, ties to even; v is within [-128, 127].
CAUSEWAY_INLINE void Store(int8_t* p, F v) {
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, left in the low bits
  *reinterpret_cast<BUnaligned*>(p) = __builtin_convertvector((I)(v + magic) - (I)Set(magic), BUnaligned);
}

// Loads the first n lanes; the others are zero.
template <class T>
CAUSEWAY_INLINE F LoadFirst(const T* p, int64_t n) {
  T lanes[W] = {};
  memcpy(lanes, p, n * sizeof(T));
  return Load(lanes);
}
template <class T>
CAUSEWAY_INLINE void StoreFirst(T* p, F v, int64_t n) {
  T lanes[W];
  Store(lanes, v);
  memcpy(p, lanes, n * sizeof(T));
}

CAUSEWAY_INLINE float ToFloat(float x) { return x; }
CAUSEWAY_INLINE float ToFloat(Bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}

CAUSEWAY_INLINE float ToFloat(Half x) { return LoadFirst(&x, 1)[0]; }

CAUSEWAY_INLINE float Sum(F v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#else
  float lanes[W];
  Store(lanes, v);
  for (int n = W / 2; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) lanes[i] += lanes[i + n];
  }
  return lanes[0];
#endif
}
CAUSEWAY_INLINE float MaxOf(F v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)v);
#else
  float lanes[W];
  Store(lanes, v);
  for (int n = W / 2; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) lanes[i] = lanes[i] > lanes[i + n] ? lanes[i] : lanes[i + n];
  }
  return lanes[0];
#endif
}

CAUSEWAY_INLINE F Ramp() {
  F v;
  for (int i = 0; i < W; ++i) v[i] = static_cast<float>(i);
  return v;
}

// e^x within 2 ulp for x in [-87, 88]; 0 below, about 2e38 above.
CAUSEWAY_INLINE F Exp(F x) {
  const F clamped = Min(Max(x, Set(-87.0f)), Set(88.0f));
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, left in the low bits
  const F shifted = clamped * 1.44269504f + magic;
  const F n = shifted - magic;
  F r = clamped - n * 0.693359375f;  // ln 2 in two parts: n times the first is exact
  r = r - n * -2.12194440e-4f;
  // e^r on [-ln 2 / 2, ln 2 / 2], coefficients near 1 / k!
  F p = Set(1.9841270e-4f);
  p = p * r + 1.3888889e-3f;
  p = p * r + 8.3333333e-3f;
  p = p * r + 4.1666666e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  const U exponent = ((U)shifted - (U)Set(magic)) << 23;
  const F y = (F)((U)p + exponent);
  return x < -87.0f ? F{} : y;
}

// 2^x for x <= 0, within 2e-7 of itself, or 3e-6 with kShort, which is far below what bf16 keeps. It is 0 below -126,
// and 2^0 is 1.
template <bool kShort>
CAUSEWAY_INLINE F Exp2(F x) {
  const float magic = 12582912.0f;
  const F clamped = Max(x, Set(-127.0f));
  const F shifted = clamped + magic;
  const F r = clamped - (shifted - magic);  // in [-1/2, 1/2]
  F p;
  if constexpr (kShort) {  // fitted for the least relative error
    p = Set(9.58284943e-3f);
    p = p * r + 5.59064246e-2f;
    p = p * r + 2.40240987e-1f;
    p = p * r + 6.93124193e-1f;
    p = p * r + 1.0f;
  } else {  // the series of e^(r ln 2)
    p = Set(1.5252734e-5f);
    p = p * r + 1.5403530e-4f;
    p = p * r + 1.3333558e-3f;
    p = p * r + 9.6181291e-3f;
    p = p * r + 5.5504109e-2f;
    p = p * r + 2.4022651e-1f;
    p = p * r + 6.9314718e-1f;
    p = p * r + 1.0f;
  }
  const F y = (F)((U)p + (((U)shifted - (U)Set(magic)) << 23));
  return x < -126.0f ? F{} : y;
}

// The normal distribution's lower tail at -z, z >= 0, within 1e-6 of itself: e^(-z^2/2) t Q(t) with t = 1 / (1 + 0.35
// z). Q was fitted for the least relative error, 3.2e-8, over z in [0, 14].
CAUSEWAY_INLINE F NormalTail(F z) {
  const F t = 1.0f / (1.0f + 0.35f * z);
  F q = Set(-0.029146105f);
  q = q * t + 0.143972521f;
  q = q * t - 0.255715887f;
  q = q * t + 0.159175934f;
  q = q * t - 0.0231109814f;
  q = q * t + 0.105508452f;
  q = q * t + 0.119832765f;
  q = q * t + 0.139861882f;
  q = q * t + 0.139621404f;
  return Exp(-0.5f * z * z) * t * q;
}

CAUSEWAY_INLINE F Sigmoid(F x) { return 1.0f / (1.0f + Exp(-x)); }

}  // namespace causeway::cpu::CAUSEWAY_ISA
