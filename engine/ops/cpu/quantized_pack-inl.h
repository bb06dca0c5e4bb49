// Packs rows of x as the tiles of quantized linears read them: [block][row][Kind::kXBytes]. Inputs beyond the row are
// zero.

namespace causeway::cpu::CAUSEWAY_ISA {

constexpr int64_t kChunkMax = 4 * kQuantizedBlock;

// Takes `n` inputs of a row from input `first` on, in the weight's order, as floats. Zeros follow up to `padded`.
template <class T>
CAUSEWAY_INLINE void GatherX(const T* x, const int32_t* order, int64_t first, int64_t n, int64_t padded, float* to) {
  int64_t i = 0;
  if (order == nullptr) {
    for (; i + W <= n; i += W) Store(to + i, Load(x + first + i));
    for (; i < n; ++i) to[i] = ToFloat(x[first + i]);
  } else {
    for (; i < n; ++i) to[i] = ToFloat(x[order[first + i]]);
  }
  for (; i < padded; ++i) to[i] = 0;
}

// Stores signed bytes, rounded to the nearest, ties to even; returns their sum.
CAUSEWAY_INLINE int32_t StoreBlocks(const float* x, float inverse, int64_t n, uint8_t* to, int64_t stride) {
  F sums = {};  // a sum of whole numbers, which is exact
  for (int64_t b = 0; b < n; b += kQuantizedBlock, to += stride) {
    for (int64_t i = 0; i < kQuantizedBlock; i += W) {
      const F q = Round(Load(x + b + i) * inverse);
      sums += q;
      StoreBytes(to + i, q, W);
    }
  }
  return static_cast<int32_t>(Sum(sums));
}

// Packs a chunk of `blocks` blocks of a row, which stands in x as floats. A chunk that holds a NaN or an infinity gets
// a scale of NaN.
CAUSEWAY_INLINE ChunkOfX PackBytes(const float* x, int64_t blocks, int zero, uint8_t* to, int64_t stride) {
  const int64_t n = blocks * kQuantizedBlock;
  F largest = {}, poison = {};
  for (int64_t i = 0; i < n; i += W) {
    const F v = Load(x + i);
    largest = Max(largest, Abs(v));
    poison += v * 0.0f;
  }
  const float most = MaxOf(largest);
  // A chunk becomes 0 when its values are too small for the inverse to be finite.
  const float inverse = most > 1e-36f ? 127.0f / most : 0.0f;
  return {most / 127.0f + Sum(poison), -zero * StoreBlocks(x, inverse, n, to, stride)};
}

CAUSEWAY_INLINE void PackPairs(const float* x, int64_t blocks, uint8_t* to, int64_t stride) {
  for (int64_t b = 0; b < blocks; ++b, to += stride, x += kQuantizedBlock) {
    uint16_t* out = reinterpret_cast<uint16_t*>(to);
    for (int i = 0; i < kQuantizedBlock; i += 4) {
      constexpr int kFrom[4] = {0, 2, 1, 3};
      for (int j = 0; j < 4; ++j) {
        uint32_t bits;
        memcpy(&bits, x + i + kFrom[j], 4);
        out[i + j] = static_cast<uint16_t>(bits >> 16);  // exact, since x came as bf16
      }
    }
  }
}

// Packs chunk `chunk` of row `row` of a part.
template <class Kind, class T>
CAUSEWAY_INLINE void PackChunk(const QuantizedLinearArgs& a, int64_t chunk, int64_t row, ChunkOfX* chunks,
                               uint8_t* packed) {
  const QuantizedLayout& l = a.layout;
  alignas(64) float x[kChunkMax];
  const int64_t first = chunk * l.chunk_blocks, left = l.blocks - first,
                blocks = left < l.chunk_blocks ? left : l.chunk_blocks;
  const int64_t begin = first * kQuantizedBlock, padded = blocks * kQuantizedBlock;
  GatherX(static_cast<const T*>(a.x) + row * a.in, a.order, begin, a.in - begin < padded ? a.in - begin : padded,
          padded, x);
  const int64_t stride = a.rows * Kind::kXBytes;
  uint8_t* to = packed + first * stride + row * Kind::kXBytes;
  if constexpr (Kind::kChunks) {
    const int zero = l.kind == WeightKind::kInt8 ? kInt8Zero : l.zero_points ? 1 : kInt4Zero;
    chunks[chunk * a.rows + row] = PackBytes(x, blocks, zero, to, stride);
  } else if constexpr (Kind::kXBytes == kQuantizedBlock * 2) {
    PackPairs(x, blocks, to, stride);
  } else {
    for (int64_t b = 0; b < blocks; ++b) memcpy(to + b * stride, x + b * kQuantizedBlock, Kind::kXBytes);
  }
}

}  // namespace causeway::cpu::CAUSEWAY_ISA
