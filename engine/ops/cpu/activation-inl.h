// Activations, and their product with the other half of a gated layer.

namespace causeway::cpu::CAUSEWAY_ISA {

enum Activation { kSilu, kGelu, kGeluTanh, kRelu };  // the order of Activation

template <int kKind>
CAUSEWAY_INLINE F Activated(F x) {
  if constexpr (kKind == kSilu) return x * Sigmoid(x);
  if constexpr (kKind == kRelu) return Max(x, F{});
  // (1 + tanh u) / 2 is the sigmoid of 2u, which keeps its relative accuracy where u is far below 0.
  if constexpr (kKind == kGeluTanh) return x * Sigmoid(1.5957691216f * (x + 0.044715f * x * x * x));
  const F tail = NormalTail(x < 0.0f ? -x : x);
  return x * (x < 0.0f ? tail : 1.0f - tail);
}

template <class T, int kKind>
static void ActivateKind(const ActivateArgs& a) {
  const int64_t stride = a.gated ? 2 * a.width : a.width;
  // Rows are cut into pieces, so that threads can share a single wide row, too.
  constexpr int64_t kPiece = 2048;
  const int64_t pieces = (a.width + kPiece - 1) / kPiece;
  ForEachOf(a.rows * a.width > 8192, a.rows * pieces, [&](int64_t t) {
    const int64_t row = t / pieces, begin = t % pieces * kPiece;
    const int64_t end = begin + kPiece < a.width ? begin + kPiece : a.width;
    const T* x = static_cast<const T*>(a.x) + row * stride;
    T* y = static_cast<T*>(a.y) + row * a.width;
    ForEachVector(end - begin, [&](int64_t i, int64_t n) {
      i += begin;
      F v = Activated<kKind>(LoadSome(x + i, n));
      if (a.gated) v *= LoadSome(x + a.width + i, n);
      StoreSome(y + i, v, n);
    });
  });
}

template <class T>
static void ActivateOf(const ActivateArgs& a) {
  switch (a.kind) {
    case kSilu: return ActivateKind<T, kSilu>(a);
    case kGelu: return ActivateKind<T, kGelu>(a);
    case kGeluTanh: return ActivateKind<T, kGeluTanh>(a);
    case kRelu: return ActivateKind<T, kRelu>(a);
  }
}

static void Activate(const ActivateArgs& a) {
  a.element == Element::kFp32 ? ActivateOf<float>(a) : ActivateOf<Bf16>(a);
}

static void ExpOf(const float* x, float* y, int64_t count) {
  ForEachVector(count, [&](int64_t i, int64_t n) { StoreSome(y + i, Exp(LoadSome(x + i, n)), n); });
}
static void GeluOf(const float* x, float* y, int64_t count) {
  ForEachVector(count, [&](int64_t i, int64_t n) { StoreSome(y + i, Activated<kGelu>(LoadSome(x + i, n)), n); });
}

}  // namespace causeway::cpu::CAUSEWAY_ISA
