// The softmax of attention, computed online in fp32: row by row over steps of keys, and merged over ranges of them.

namespace causeway::cpu::CAUSEWAY_ISA {

constexpr int64_t kStep = kTilePanels * kPanel;  // keys
static_assert(kStep % kBlockTokens == 0 && kAttentionSplit % kStep == 0 && kStep <= kSlab);
constexpr float kMinusInfinity = -1e30f;  // finite, so that differences of it are 0 and not NaN

// The state of a tile's softmax. Each row has its maximum (in units of ln 2), its sum, and its outputs not yet divided
// by the sum.
struct Softmax {
  float *max, *sum, *out;
  int64_t ld;  // row stride of out
};

// Takes the scores of one row against a step's keys, of which [first, last) count, at least one. Updates the row's
// state, rescales its outputs and leaves the probabilities in `p`, as x of the tile that multiplies them with the
// values. `scale` includes log2 e, since the exponentials are powers of two. kScaled: keys and values have scales of
// their own, kStep each; key_scales include `scale`, and value_scales must be finite beyond `last`, too.
template <class Kind, bool kScaled>
CAUSEWAY_INLINE void SoftmaxRow(const float* scores, float scale, const float* key_scales, const float* value_scales,
                                int64_t first, int64_t last, int64_t row, Softmax& state, int64_t width, Word* p) {
  constexpr int kVectors = kStep / W;
  constexpr bool kBf16 = sizeof(typename Kind::T) == 2;
  F s[kVectors];
  F largest = Set(kMinusInfinity);
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) s[v] = Load(scores + v * W) * (kScaled ? Load(key_scales + v * W) : Set(scale));
  if (first > 0 || last < kStep) {
    const F ramp = Ramp();
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const F lane = ramp + static_cast<float>(v * W);
      s[v] = (lane >= static_cast<float>(first)) & (lane < static_cast<float>(last)) ? s[v] : Set(kMinusInfinity);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) largest = Max(largest, s[v]);
  const float old_max = state.max[row], step_max = MaxOf(largest);
  const float new_max = old_max > step_max ? old_max : step_max;
  F sum{};
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    F e = Exp2<kBf16>(s[v] - new_max);
    sum += e;
    if constexpr (kScaled) e *= Load(value_scales + v * W);
    if constexpr (kBf16 && Kind::kWords == 1) {
      Store(reinterpret_cast<Bf16*>(p) + v * W, e);
    } else {
      Store(reinterpret_cast<float*>(p) + v * W, e);
    }
  }
  if (new_max > old_max) {
    const float rescale = Exp2<false>(Set(old_max - new_max))[0];
    state.sum[row] *= rescale;
    float* out = state.out + row * state.ld;
    for (int64_t i = 0; i < width; i += W) Store(out + i, Load(out + i) * rescale);
    state.max[row] = new_max;
  }
  state.sum[row] += Sum(sum);
}

// Merges `from` into `into`, for one row: two softmaxes over disjoint keys.
CAUSEWAY_INLINE void MergeRow(float* max, float* sum, float* out, float from_max, float from_sum, const float* from_out,
                              int64_t width) {
  const float m = *max > from_max ? *max : from_max;
  const float mine = *sum == 0 ? 0 : Exp2<false>(Set(*max - m))[0],
              theirs = from_sum == 0 ? 0 : Exp2<false>(Set(from_max - m))[0];
  *max = m;
  *sum = *sum * mine + from_sum * theirs;
  for (int64_t i = 0; i < width; ++i) out[i] = out[i] * mine + from_out[i] * theirs;
}

template <class T>
CAUSEWAY_INLINE void StoreOutput(const float* out, float sum, T* to, int64_t width) {
  const float inverse = 1.0f / sum;
  int64_t i = 0;
  for (; i + W <= width; i += W) Store(to + i, Load(out + i) * inverse);
  for (; i < width; ++i) StoreFirst(to + i, Set(out[i] * inverse), 1);
}

}  // namespace causeway::cpu::CAUSEWAY_ISA
