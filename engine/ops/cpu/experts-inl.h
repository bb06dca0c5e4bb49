// What is around the linears of experts: which experts a token goes to, and the sum of their outputs.

namespace causeway::cpu::CAUSEWAY_ISA {

// The scores of one token's logits.
template <class T>
CAUSEWAY_INLINE void ScoreRow(const T* logits, int64_t experts, bool sigmoid, float* scores) {
  if (sigmoid) {
    ForEachVector(experts, [&](int64_t i, int64_t n) { StoreSome(scores + i, Sigmoid(LoadSome(logits + i, n)), n); });
    return;
  }
  float most = ToFloat(logits[0]), sum = 0;
  for (int64_t e = 1; e < experts; ++e) most = ToFloat(logits[e]) > most ? ToFloat(logits[e]) : most;
  ForEachVector(experts, [&](int64_t i, int64_t n) { StoreSome(scores + i, Exp(LoadSome(logits + i, n) - most), n); });
  for (int64_t e = 0; e < experts; ++e) sum += scores[e];
  ForEachVector(experts, [&](int64_t i, int64_t n) { StoreSome(scores + i, LoadSome(scores + i, n) / sum, n); });
}

// Chooses the `count` highest of `scores`, highest first; of equal ones the one with the lower number. The choices are
// valid and distinct even where scores are NaN.
CAUSEWAY_INLINE void Choose(const float* scores, int64_t experts, int64_t count, int32_t* chosen) {
  int64_t held = 0;
  for (int64_t e = 0; e < experts; ++e) {
    if (held == count && !(scores[e] > scores[chosen[count - 1]])) continue;
    int64_t i = held < count ? held++ : count - 1;
    for (; i > 0 && scores[e] > scores[chosen[i - 1]]; --i) chosen[i] = chosen[i - 1];
    chosen[i] = static_cast<int32_t>(e);
  }
}

template <class T>
static void RouteOf(const RouteArgs& a) {
  ForEachOf(a.tokens > 1 && a.tokens * a.experts > 8192, a.tokens, [&](int64_t t) {
    float* scores = static_cast<float*>(Scratch(2 * a.experts * sizeof(float)));
    ScoreRow(static_cast<const T*>(a.logits) + t * a.experts, a.experts, a.sigmoid, scores);
    const float* compared = scores;
    if (a.correction != nullptr) {
      float* corrected = scores + a.experts;
      for (int64_t e = 0; e < a.experts; ++e) corrected[e] = scores[e] + a.correction[e];
      compared = corrected;
    }
    int32_t* chosen = a.chosen + t * a.count;
    float* weights = a.weights + t * a.count;
    Choose(compared, a.experts, a.count, chosen);
    float sum = 0;
    for (int64_t j = 0; j < a.count; ++j) sum += scores[chosen[j]];
    for (int64_t j = 0; j < a.count; ++j) weights[j] = a.normalize ? scores[chosen[j]] / sum : scores[chosen[j]];
  });
}

template <class T>
static void CombineOf(const CombineArgs& a) {
  ForEachOf(a.tokens > 1 && a.tokens * a.terms * a.width > 32768, a.tokens, [&](int64_t t) {
    const T* x = static_cast<const T*>(a.x);
    const int32_t* rows = a.rows + t * a.terms;
    const float* weights = a.weights + t * a.terms;
    ForEachVector(a.width, [&](int64_t i, int64_t n) {
      F sum{};
      for (int64_t j = 0; j < a.terms; ++j) sum += LoadSome(x + rows[j] * a.width + i, n) * weights[j];
      StoreSome(static_cast<T*>(a.y) + t * a.width + i, sum, n);
    });
  });
}

static void Route(const RouteArgs& a) { a.element == Element::kFp32 ? RouteOf<float>(a) : RouteOf<Bf16>(a); }
static void Combine(const CombineArgs& a) { a.element == Element::kFp32 ? CombineOf<float>(a) : CombineOf<Bf16>(a); }

}  // namespace causeway::cpu::CAUSEWAY_ISA
