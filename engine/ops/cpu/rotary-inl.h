// Rotates queries and keys, and writes keys and values to the cache.

namespace causeway::cpu::CAUSEWAY_ISA {

// Rotates the pairs (i, i + half), i < half; `to` may be `from`.
template <class T, class To>
CAUSEWAY_INLINE void Rotate(const T* from, To* to, const float* cos, const float* sin, int64_t half) {
  ForEachVector(half, [&](int64_t i, int64_t n) {
    const F a = LoadSome(from + i, n), b = LoadSome(from + half + i, n);
    const F c = LoadSome(cos + i, n), s = LoadSome(sin + i, n);
    StoreSome(to + i, a * c - b * s, n);
    StoreSome(to + half + i, b * c + a * s, n);
  });
}

template <class T, class To>
CAUSEWAY_INLINE void Copy(const T* from, int64_t count, To* to) {
  ForEachVector(count, [&](int64_t i, int64_t n) { StoreSome(to + i, LoadSome(from + i, n), n); });
}

// Quantizes a row: its integers are the nearest to row / scale. The scale is not finite where the row is not.
template <class T>
CAUSEWAY_INLINE void QuantizeRow(const T* row, int64_t n, int8_t* to, float* scale) {
  const float largest = LargestMagnitude(row, n);
  *scale = largest / kKvInt8Max;
  const float inverse = largest < kKvVanishing ? 0 : kKvInt8Max / largest;
  ForEachVector(n, [&](int64_t i, int64_t count) { StoreSome(to + i, LoadSome(row + i, count) * inverse, count); });
}

template <class T, class Stored>
static void RotaryAndCacheOf(const RotaryArgs& a) {
  const int64_t half = a.cos == nullptr ? 0 : a.rotary_dim / 2;
  const int64_t stride = (a.heads + 2 * a.kv_heads) * a.head_dim;
  ForEachOf(a.rows > 1 && a.rows * stride > kParallelElements, a.rows, [&](int64_t row) {
    T* q = static_cast<T*>(a.qkv) + row * stride;
    T* k = q + a.heads * a.head_dim;
    const T* v = k + a.kv_heads * a.head_dim;
    const float* cos = half == 0 ? nullptr : a.cos + a.positions[row] * half;
    const float* sin = half == 0 ? nullptr : a.sin + a.positions[row] * half;
    if (half > 0) {
      for (int64_t h = 0; h < a.heads; ++h) Rotate(q + h * a.head_dim, q + h * a.head_dim, cos, sin, half);
    }
    const int64_t block = a.slots[row] / kBlockTokens, offset = a.slots[row] % kBlockTokens;
    for (int64_t h = 0; h < a.kv_heads; ++h) {
      const int64_t cell = (block * a.kv_heads + h) * kBlockTokens + offset, at = cell * a.head_dim;
      if (a.key_scales != nullptr) {
        if (half > 0) Rotate(k + h * a.head_dim, k + h * a.head_dim, cos, sin, half);
        QuantizeRow(k + h * a.head_dim, a.head_dim, static_cast<int8_t*>(a.keys) + at, a.key_scales + cell);
        QuantizeRow(v + h * a.head_dim, a.head_dim, static_cast<int8_t*>(a.values) + at, a.value_scales + cell);
        continue;
      }
      Stored* key = static_cast<Stored*>(a.keys) + at;
      if (half > 0) Rotate(k + h * a.head_dim, key, cos, sin, half);
      Copy(k + h * a.head_dim + 2 * half, a.head_dim - 2 * half, key + 2 * half);
      Copy(v + h * a.head_dim, a.head_dim, static_cast<Stored*>(a.values) + at);
    }
  });
}

static void RotaryAndCache(const RotaryArgs& a) {
  WithTypes(a.element, [&](auto t, auto stored) { RotaryAndCacheOf<decltype(t), decltype(stored)>(a); });
}

}  // namespace causeway::cpu::CAUSEWAY_ISA
