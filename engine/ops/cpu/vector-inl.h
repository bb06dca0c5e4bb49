// Vectors of W floats in the compiler's own vector types, so that one source serves every instruction set. Included once by
// each kernel file, inside the namespace CAUSEWAY_ISA.
#ifndef CAUSEWAY_ISA
#error "kernel files define CAUSEWAY_ISA before including this"
#endif

#include <cstdint>
#include <cstring>

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

struct Bf16 {
  uint16_t bits;
};

CAUSEWAY_INLINE F Set(float x) { return F{} + x; }
CAUSEWAY_INLINE F Select(I mask, F yes, F no) { return mask ? yes : no; }
CAUSEWAY_INLINE F Max(F a, F b) { return a > b ? a : b; }
CAUSEWAY_INLINE F Min(F a, F b) { return a < b ? a : b; }

CAUSEWAY_INLINE F Load(const float* p) { return *reinterpret_cast<const FUnaligned*>(p); }
CAUSEWAY_INLINE void Store(float* p, F v) { *reinterpret_cast<FUnaligned*>(p) = v; }
CAUSEWAY_INLINE F FromBits(H h) { return (F)(__builtin_convertvector(h, U) << 16); }
CAUSEWAY_INLINE F Load(const Bf16* p) { return FromBits(*reinterpret_cast<const HUnaligned*>(p)); }
// To the nearest, ties to even; a NaN stays one.
CAUSEWAY_INLINE H ToBits(F v) {
  const U u = (U)v;
  const U rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const U bits = (v == v) ? rounded : (U{} + 0x7fc0u);
  return __builtin_convertvector(bits, H);
}
CAUSEWAY_INLINE void Store(Bf16* p, F v) { *reinterpret_cast<HUnaligned*>(p) = ToBits(v); }

// The first n lanes; the others are zero.
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

CAUSEWAY_INLINE float Sum(F v) {
  float lanes[W];
  Store(lanes, v);
  for (int n = W / 2; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) lanes[i] += lanes[i + n];
  }
  return lanes[0];
}
CAUSEWAY_INLINE float MaxOf(F v) {
  float lanes[W];
  Store(lanes, v);
  for (int n = W / 2; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) lanes[i] = lanes[i] > lanes[i + n] ? lanes[i] : lanes[i + n];
  }
  return lanes[0];
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

// The normal distribution's lower tail at -z, z >= 0, within 1e-6 of itself: e^(-z^2/2) t Q(t) with t = 1 / (1 + 0.35 z). Q was
// fitted for the least relative error, 3.2e-8, over z in [0, 14].
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
