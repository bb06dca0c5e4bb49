// Linears over quantized panels, several at once. A task is a pair of panels and a block of rows. The threads share the
// tasks of all parts, and write a task's result once they own it. Rows go over slabs of weights as in linear-inl.h.

namespace causeway::cpu::CAUSEWAY_ISA {

constexpr int64_t kSlabBlocks = 16;       // blocks of two panels: 32 KB of bytes, 16 KB of int4; whole chunks
constexpr int64_t kSerialInputs = 16384;  // inputs of x below which sharing out their packing costs more than it gives

template <class Kind, int kPanels>
CAUSEWAY_INLINE void QuantizedTileOfPanels(int64_t rows, const QuantizedTileArgs& a) {
  switch (rows) {
    case 1: return Kind::template Tile<1, kPanels>(a);
#if defined(__AVX2__)
    case 2: return Kind::template Tile<2, kPanels>(a);
    case 3: return Kind::template Tile<3, kPanels>(a);
#endif
#if defined(__AVX512F__)
    case 4: return Kind::template Tile<4, kPanels>(a);
    case 5: return Kind::template Tile<5, kPanels>(a);
    case 6: return Kind::template Tile<6, kPanels>(a);
#endif
  }
}
template <class Kind>
CAUSEWAY_INLINE void QuantizedTile(int64_t rows, int64_t panels, const QuantizedTileArgs& a) {
#if defined(__AVX512F__)
  if (panels == 2) return QuantizedTileOfPanels<Kind, 2>(rows, a);
#endif
  QuantizedTileOfPanels<Kind, 1>(rows, a);
}

CAUSEWAY_INLINE int64_t ChunksOf(const QuantizedLinearArgs& a) {
  return (a.layout.blocks + a.layout.chunk_blocks - 1) / a.layout.chunk_blocks;
}

// A part's scratch: [chunk][row] ChunkOfX, then x.
template <class Kind>
CAUSEWAY_INLINE int64_t ChunkBytes(const QuantizedLinearArgs& a) {
  if (!Kind::kChunks) return 0;
  return (ChunksOf(a) * a.rows * static_cast<int64_t>(sizeof(ChunkOfX)) + 63) / 64 * 64;
}
template <class Kind>
static int64_t QuantizedScratchBytesOf(const QuantizedLinearArgs& a) {
  return (ChunkBytes<Kind>(a) + a.layout.blocks * a.rows * Kind::kXBytes + 63) / 64 * 64;
}

// Stores rows of y for the panels whose products stand in c.
template <class Kind, class T>
CAUSEWAY_INLINE void StoreQuantizedRows(const QuantizedLinearArgs& a, float* c, int64_t ldc, int64_t row0, int64_t rows,
                                        int64_t panel, int64_t panels) {
  const int64_t column = panel * kPanel, n = a.out - column < panels * kPanel ? a.out - column : panels * kPanel;
  for (int64_t r = 0; r < rows; ++r, c += ldc) {
    if constexpr (Kind::Format::kScaleLast) {
      for (int64_t p = 0; p < panels; ++p) {
        const float* scales = reinterpret_cast<const float*>(a.panels + (panel + p) * a.layout.panel_bytes);
        for (int64_t i = 0; i < kPanel; i += W) Store(c + p * kPanel + i, Load(c + p * kPanel + i) * Load(scales + i));
      }
    }
    StoreRow(c, a.bias == nullptr ? nullptr : a.bias + column, static_cast<T*>(a.y) + (row0 + r) * a.out + column, n);
  }
}

// Computes the products of a task into c. `after` are the panels that this thread goes on with, or null.
template <class Kind>
static void QuantizedMultiply(const QuantizedLinearArgs& a, int64_t panel, int64_t count, int64_t row0, int64_t rows,
                              const uint8_t* after, float* c, uint8_t* decoded) {
  const QuantizedLayout& l = a.layout;
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  const ChunkOfX* chunks = static_cast<const ChunkOfX*>(a.scratch);
  const uint8_t* packed = static_cast<const uint8_t*>(a.scratch) + ChunkBytes<Kind>(a);
  memset(c, 0, rows * kWide * sizeof(float));
  QuantizedTileArgs tile{};
  tile.layout = &l;
  tile.panel = a.panels + panel * l.panel_bytes;
  tile.x_stride = a.rows * Kind::kXBytes;
  tile.chunk_stride = a.rows;
  tile.ldc = kWide;
  const int64_t step = tiles == 1 ? l.blocks : kSlabBlocks, slab_bytes = kSlabBlocks * l.group_bytes / l.group_blocks;
  for (tile.first = 0; tile.first < l.blocks; tile.first += step) {
    const int64_t left = l.blocks - tile.first;
    tile.blocks = left < step ? left : step;
    // Roughly the next slab of these panels, since groups need not begin with it; or the first slab of the panels after
    // them.
    const uint8_t* next = left > step ? tile.panel + (tile.first + step) * l.group_bytes / l.group_blocks : after;
    if constexpr (Kind::kDecodes) {
      if (tiles > 1) Kind::Decode(tile, count, decoded);
      tile.decoded = tiles > 1 ? decoded : nullptr;
    }
    const bool fetch = tiles > 1 && next != nullptr;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = rows * t / tiles, last = rows * (t + 1) / tiles;
      tile.ahead = fetch ? next + slab_bytes * t / tiles : nullptr;
      tile.lines = fetch ? (slab_bytes / tiles + tile.blocks * 64 - 1) / (tile.blocks * 64) : 0;
      tile.x = packed + tile.first * tile.x_stride + (row0 + first) * Kind::kXBytes;
      tile.chunks = chunks + tile.first / l.chunk_blocks * a.rows + row0 + first;
      tile.c = c + first * kWide;
      QuantizedTile<Kind>(last - first, count, tile);
    }
  }
}

template <class Kind, class T>
static void QuantizedTasksOf(const void* context, int64_t context_bytes, RegionTasks& tasks) {
  const QuantizedLinearArgs* parts = static_cast<const QuantizedLinearArgs*>(context);
  const int64_t part_count = context_bytes / static_cast<int64_t>(sizeof(QuantizedLinearArgs));
  // The memory holds a decoded slab in bf16, where there is one, and then c.
  constexpr int64_t kDecodedBytes = Kind::kDecodes ? kSlabBlocks * kQuantizedBlock * kWide * 2 : 0;
  uint8_t* decoded = static_cast<uint8_t*>(Scratch(kDecodedBytes + kRowBlock * kWide * sizeof(float)));
  float* c = reinterpret_cast<float*>(decoded + kDecodedBytes);
  PartCursor at;
  while (tasks.Next()) {
    MoveTo(at, tasks.task, [&](int64_t p) { return LinearTasks(parts[p].rows, parts[p].out); });
    const QuantizedLinearArgs& a = parts[at.part];
    const TaskPlace place = PlaceOf(a.rows, a.out, tasks, at);
    const uint8_t* after = nullptr;
    if (place.after_panel >= 0)
      after = a.panels + place.after_panel * a.layout.panel_bytes;
    else if (place.after_part && at.part + 1 < part_count)
      after = parts[at.part + 1].panels;
    QuantizedMultiply<Kind>(a, place.panel, place.panels, place.row0, place.rows, after, c, decoded);
    if (tasks.Own()) StoreQuantizedRows<Kind, T>(a, c, kWide, place.row0, place.rows, place.panel, place.panels);
  }
}

template <class Kind, class T>
static void QuantizedLinearOf(const QuantizedLinearArgs* parts, int64_t count) {
  int64_t work = 0, tasks = 0, inputs = 0;
  for (int64_t p = 0; p < count; ++p) {
    work += parts[p].layout.blocks * kQuantizedBlock * PanelsOf(parts[p].out) * kPanel * parts[p].rows;
    tasks += LinearTasks(parts[p].rows, parts[p].out);
    inputs += parts[p].rows * parts[p].in;
  }
  const auto packs_of = [&](int64_t p) { return ChunksOf(parts[p]) * parts[p].rows; };
  ForItems(inputs > kSerialInputs, count, packs_of, [&](int64_t p, int64_t begin, int64_t end) {
    const QuantizedLinearArgs& a = parts[p];
    uint8_t* packed = static_cast<uint8_t*>(a.scratch) + ChunkBytes<Kind>(a);
    for (int64_t i = begin; i < end; ++i)
      PackChunk<Kind, T>(a, i / a.rows, i % a.rows, static_cast<ChunkOfX*>(a.scratch), packed);
  });
  RunRegionIf(work > 4 * kSerialWords, QuantizedTasksOf<Kind, T>, parts,
              count * static_cast<int64_t>(sizeof(QuantizedLinearArgs)), tasks);
}

// Calls run(Kind) with the arithmetic in whole numbers for a part.
template <class Run>
CAUSEWAY_INLINE auto WithIntKind(const QuantizedLinearArgs& a, Run run) {
  if (a.layout.kind == WeightKind::kInt8) return run(IntKind<Int8, false>());
  return a.layout.zero_points ? run(IntKind<Int4, true>()) : run(IntKind<Int4, false>());
}

// Calls run(Kind, T) with the arithmetic for a part.
template <class Run>
CAUSEWAY_INLINE auto WithKind(const QuantizedLinearArgs& a, Run run) {
  const WeightKind kind = a.layout.kind;
  if (a.element == Element::kFp32) {
    if (kind == WeightKind::kInt8) return run(WideKind<Int8>(), float());
    if (kind == WeightKind::kInt4) return run(WideKind<Int4>(), float());
    return run(WideKind<Fp8>(), float());
  }
  if (a.element == Element::kFp16) {
    if (kind == WeightKind::kFp8) return run(WideKind<Fp8>(), float());
    return WithIntKind(a, [&](auto int_kind) { return run(int_kind, float()); });
  }
  if (kind != WeightKind::kFp8) return WithIntKind(a, [&](auto int_kind) { return run(int_kind, Bf16()); });
#if defined(__AVX512BF16__)
  return run(Fp8Kind(), Bf16());
#else
  return run(WideKind<Fp8>(), Bf16());
#endif
}

static void QuantizedLinear(const QuantizedLinearArgs* parts, int64_t count) {
  if (count > 0)
    WithKind(parts[0], [&](auto kind, auto t) { QuantizedLinearOf<decltype(kind), decltype(t)>(parts, count); });
}
static int64_t QuantizedLinearScratchBytes(const QuantizedLinearArgs& a) {
  return WithKind(a, [&](auto kind, auto) { return QuantizedScratchBytesOf<decltype(kind)>(a); });
}

}  // namespace causeway::cpu::CAUSEWAY_ISA
