// How a linear's weight is held in memory.
#ifndef CAUSEWAY_ENGINE_BASE_WEIGHT_FORMAT_H_
#define CAUSEWAY_ENGINE_BASE_WEIGHT_FORMAT_H_

#include <cstdint>

namespace causeway {

// A quantized weight is (value - zero) * scale:
//   kFloat  the computation's dtype, no scales
//   kInt8   whole numbers -127..127, a scale (fp32) per output, no zero
//   kInt4   0..15, a scale (fp16) for each output and `group` inputs; zero is 8, or with zero_points one (0..15) beside
//   each scale kFp8    e4m3fn, a scale (fp32) for each output and `group` inputs; no zero
enum class WeightKind : uint8_t { kFloat, kInt8, kInt4, kFp8 };

struct WeightFormat {
  WeightKind kind = WeightKind::kFloat;
  int64_t group = 0;         // inputs that share a scale: a multiple of 32 or all inputs (kInt4), 128 (kFp8)
  bool zero_points = false;  // only for kInt4
  bool reordered = false;    // inputs have an order of their own, kept beside them (int32 each); not for kFloat

  bool operator==(const WeightFormat& other) const {
    return kind == other.kind && group == other.group && zero_points == other.zero_points &&
           reordered == other.reordered;
  }
  // Scales of one output; the last group may be short.
  int64_t groups(int64_t in) const {
    if (kind == WeightKind::kFloat) return 0;
    return kind == WeightKind::kInt8 || group == 0 ? 1 : (in + group - 1) / group;
  }
};

// The memory of a weight of out x in: values (int4 two a byte), scales, zeros and order. An element of the
// computation's dtype takes element_bytes.
inline int64_t WeightBytes(const WeightFormat& format, int64_t element_bytes, int64_t out, int64_t in) {
  const int64_t scales = out * format.groups(in), order = format.reordered ? in * 4 : 0;
  switch (format.kind) {
    case WeightKind::kFloat: return out * in * element_bytes;
    case WeightKind::kInt4: return out * ((in + 1) / 2) + scales * (format.zero_points ? 3 : 2) + order;
    case WeightKind::kInt8:
    case WeightKind::kFp8: break;
  }
  return out * in + scales * 4 + order;
}

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_WEIGHT_FORMAT_H_
