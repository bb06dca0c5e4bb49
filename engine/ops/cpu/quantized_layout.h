// Where the bytes of a quantized weight lie. No torch here: kernel files include this header, so it has only static
// functions and no templates.
//
// Outputs stand in panels of kPanel, inputs in blocks of kQuantizedBlock. A panel is one run of bytes with its groups
// one after the other: a group has its scales, its zeros, its blocks. A block is [unit][output] words of 32 bits:
//   kInt8  4 inputs, each byte a value + 128
//   kInt4  8 inputs, byte j holds input j in its low and input 4 + j in its high half
//   kFp8   4 inputs
// Outputs beyond the matrix are zero bytes. Inputs beyond it are zero bytes, too, but for kInt8, where they are the
// value 0; x is zero there.
#ifndef CAUSEWAY_ENGINE_OPS_CPU_QUANTIZED_LAYOUT_H_
#define CAUSEWAY_ENGINE_OPS_CPU_QUANTIZED_LAYOUT_H_

#include <cstdint>

#include "engine/base/weight_format.h"

namespace causeway::cpu {

inline constexpr int64_t kQuantizedBlock = 32;  // inputs
inline constexpr int64_t kQuantizedPanel = 32;  // outputs; equals kPanel
inline constexpr int kInt8Zero = 128;           // what is added to an int8 to store it
inline constexpr int kInt4Zero = 8;             // the zero of an int4 without zero points

struct QuantizedLayout {
  WeightKind kind;
  bool zero_points;
  int64_t blocks;        // blocks of a panel
  int64_t group_blocks;  // blocks that share a scale; the last group may be shorter
  // Blocks that share a scale of x, where x is quantized. It divides group_blocks unless there is one group.
  int64_t chunk_blocks;
  int64_t scale_bytes;  // scales of a group, 32 outputs: fp16 for kInt4, else fp32
  int64_t head_bytes;   // scales and zeros of a group
  int64_t block_bytes;
  int64_t group_bytes;  // bytes from a group to the next
  int64_t panel_bytes;
};

// The format must be one that QuantizedWeight accepts.
static inline QuantizedLayout LayoutOf(const WeightFormat& format, int64_t in) {
  QuantizedLayout l{};
  l.kind = format.kind;
  l.zero_points = format.zero_points;
  l.blocks = (in + kQuantizedBlock - 1) / kQuantizedBlock;
  const bool one = format.kind == WeightKind::kInt8 || format.group == 0 || format.group >= in;
  l.group_blocks = one ? l.blocks : format.group / kQuantizedBlock;
  l.chunk_blocks = one || l.group_blocks % 4 == 0 ? 4 : l.group_blocks % 2 == 0 ? 2 : 1;
  l.scale_bytes = kQuantizedPanel * (format.kind == WeightKind::kInt4 ? 2 : 4);
  l.head_bytes = l.scale_bytes + (format.zero_points ? kQuantizedPanel : 0);
  l.block_bytes = kQuantizedPanel * kQuantizedBlock / (format.kind == WeightKind::kInt4 ? 2 : 1);
  l.group_bytes = l.head_bytes + l.group_blocks * l.block_bytes;
  l.panel_bytes = (l.blocks + l.group_blocks - 1) / l.group_blocks * l.head_bytes + l.blocks * l.block_bytes;
  return l;
}

}  // namespace causeway::cpu

#endif  // CAUSEWAY_ENGINE_OPS_CPU_QUANTIZED_LAYOUT_H_
