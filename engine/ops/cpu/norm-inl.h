// RMSNorm and LayerNorm, with the residual added on the way, in one pass over memory for a row that stays in L1; and
// the norms of columns in place. All sums are fp32.

namespace causeway::cpu::CAUSEWAY_ISA {

constexpr int64_t kParallelElements = 32768;  // work below which waking threads costs more than it gives

// Calls f(v, i, n) for the vectors of the row; the last may have fewer than W lanes.
template <class Body>
CAUSEWAY_INLINE void ForEachVector(int64_t width, Body body) {
  int64_t i = 0;
  for (; i + W <= width; i += W) body(i, W);
  if (i < width) body(i, width - i);
}
template <class T>
CAUSEWAY_INLINE F LoadSome(const T* p, int64_t n) {
  return n == W ? Load(p) : LoadFirst(p, n);
}
template <class T>
CAUSEWAY_INLINE void StoreSome(T* p, F v, int64_t n) {
  n == W ? Store(p, v) : StoreFirst(p, v, n);
}

// Calls run(T, Stored) with the types of what is computed and of what is stored where the element is `element`.
template <class Run>
CAUSEWAY_INLINE void WithTypes(Element element, Run run) {
  switch (element) {
    case Element::kBf16: return run(Bf16(), Bf16());
    case Element::kFp16: return run(float(), Half());
    case Element::kFp32: return run(float(), float());
  }
}

// The sum of (x - mean)^2.
template <class T>
CAUSEWAY_INLINE float Squares(const T* x, int64_t width, float mean) {
  F squares{};
  ForEachVector(width, [&](int64_t i, int64_t n) {
    F d = LoadSome(x + i, n) - mean;
    if (n < W) d = Ramp() < static_cast<float>(n) ? d : F{};
    squares += d * d;
  });
  return Sum(squares);
}

template <class T, class Weight, bool kRms>
CAUSEWAY_INLINE void NormRow(const NormArgs& a, int64_t row) {
  const T* x = static_cast<const T*>(a.x) + row * a.width;
  if (a.residual != nullptr) {
    T* residual = static_cast<T*>(a.residual) + row * a.width;
    ForEachVector(a.width, [&](int64_t i, int64_t n) {
      StoreSome(residual + i, LoadSome(residual + i, n) + LoadSome(x + i, n), n);
    });
    x = residual;
  }
  const float inverse_width = 1.0f / static_cast<float>(a.width);
  float mean = 0;
  if constexpr (!kRms) {
    F sum{};
    ForEachVector(a.width, [&](int64_t i, int64_t n) { sum += LoadSome(x + i, n); });
    mean = Sum(sum) * inverse_width;
  }
  const float scale = 1.0f / __builtin_sqrtf(Squares(x, a.width, mean) * inverse_width + a.eps);
  const Weight* weight = static_cast<const Weight*>(a.weight);
  const Weight* bias = static_cast<const Weight*>(a.bias);
  T* y = static_cast<T*>(a.y) + row * a.width;
  ForEachVector(a.width, [&](int64_t i, int64_t n) {
    F v = (LoadSome(x + i, n) - mean) * scale * LoadSome(weight + i, n);
    if (bias != nullptr) v += LoadSome(bias + i, n);
    StoreSome(y + i, v, n);
  });
}

template <bool kRms>
static void NormOf(const NormArgs& a) {
  WithTypes(a.element, [&](auto t, auto stored) {
    ForEachOf(a.rows > 1 && a.rows * a.width > kParallelElements, a.rows,
              [&](int64_t row) { NormRow<decltype(t), decltype(stored), kRms>(a, row); });
  });
}

template <class T, class Weight>
static void NormColumnsOf(const NormColumnsArgs& a) {
  const Weight* weight = static_cast<const Weight*>(a.weight);
  ForEachOf(a.rows > 1 && a.rows * a.groups * a.width > kParallelElements, a.rows, [&](int64_t row) {
    for (int64_t group = 0; group < a.groups; ++group) {
      T* x = static_cast<T*>(a.x) + row * a.stride + group * a.width;
      const float scale = 1.0f / __builtin_sqrtf(Squares(x, a.width, 0) / static_cast<float>(a.width) + a.eps);
      ForEachVector(a.width, [&](int64_t i, int64_t n) {
        StoreSome(x + i, Rounded(x, LoadSome(x + i, n) * scale) * LoadSome(weight + i, n), n);
      });
    }
  });
}

static void NormColumns(const NormColumnsArgs& a) {
  WithTypes(a.element, [&](auto t, auto stored) { NormColumnsOf<decltype(t), decltype(stored)>(a); });
}
static void RmsNorm(const NormArgs& a) { NormOf<true>(a); }
static void LayerNorm(const NormArgs& a) { NormOf<false>(a); }

}  // namespace causeway::cpu::CAUSEWAY_ISA
