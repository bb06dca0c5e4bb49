#include "engine/ops/cpu/quantized_weight.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Exception.h>
#include <c10/util/Half.h>

#include "engine/ops/cpu/huge_pages.h"
#include "engine/ops/quantize.h"

namespace causeway {
namespace {

using cpu::kPanel;
using cpu::kQuantizedBlock;
using cpu::QuantizedLayout;

constexpr int64_t kRunBlocks = 8;  // blocks taken from a row before the next row: 8 KB as words, which stay in L1
constexpr int64_t kRunWords = kRunBlocks * kQuantizedBlock / 4;

// The loops below run over whole blocks without branches, so that the compiler can use vectors.

// Turns `n` inputs (a multiple of 32) of a row into words. Returns whether all are values of the kind.
bool ToWords(WeightKind kind, const uint8_t* from, int64_t n, uint32_t* to) {
  switch (kind) {
    case WeightKind::kInt8: {
      for (int64_t i = 0; i < n / 4; ++i) {
        uint32_t word;
        std::memcpy(&word, from + 4 * i, 4);
        to[i] = word ^ 0x80808080u;
      }
      break;
    }
    case WeightKind::kInt4: {
      uint8_t bad = 0;
      for (int64_t i = 0; i < n; ++i) bad |= from[i] & 0xf0;
      for (int64_t i = 0; i < n / 8; ++i) {
        uint32_t low, high;
        std::memcpy(&low, from + 8 * i, 4);
        std::memcpy(&high, from + 8 * i + 4, 4);
        to[i] = low | high << 4;
      }
      return bad == 0;
    }
    default: std::memcpy(to, from, n);
  }
  return true;
}

typedef uint32_t Four __attribute__((vector_size(16), may_alias, aligned(4)));

// to[u * kPanel + r] = from[r * kRunWords + u] for 4 rows; units is a multiple of 4.
void Transpose(const uint32_t* from, int64_t units, uint32_t* to) {
  for (int64_t u = 0; u < units; u += 4, to += 4 * kPanel) {
    const auto row = [&](int64_t r) { return *reinterpret_cast<const Four*>(from + r * kRunWords + u); };
    const Four a = row(0), b = row(1), c = row(2), d = row(3);
    const Four ab_low = __builtin_shuffle(a, b, Four{0, 4, 1, 5}), ab_high = __builtin_shuffle(a, b, Four{2, 6, 3, 7});
    const Four cd_low = __builtin_shuffle(c, d, Four{0, 4, 1, 5}), cd_high = __builtin_shuffle(c, d, Four{2, 6, 3, 7});
    *reinterpret_cast<Four*>(to) = __builtin_shuffle(ab_low, cd_low, Four{0, 1, 4, 5});
    *reinterpret_cast<Four*>(to + kPanel) = __builtin_shuffle(ab_low, cd_low, Four{2, 3, 6, 7});
    *reinterpret_cast<Four*>(to + 2 * kPanel) = __builtin_shuffle(ab_high, cd_high, Four{0, 1, 4, 5});
    *reinterpret_cast<Four*>(to + 3 * kPanel) = __builtin_shuffle(ab_high, cd_high, Four{2, 3, 6, 7});
  }
}

float Fp8ToFloat(uint8_t byte) {
  const int exponent = byte >> 3 & 15, mantissa = byte & 7;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                        : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return byte & 0x80 ? -magnitude : magnitude;
}

const WeightFormat& Checked(const WeightFormat& format) {
  TORCH_CHECK(format.kind != WeightKind::kFloat, "a quantized weight was asked for in floats");
  TORCH_CHECK(format.kind == WeightKind::kInt8 || (format.group >= 0 && format.group % kQuantizedBlock == 0),
              "groups of a quantized weight are a multiple of ", kQuantizedBlock, " inputs, not ", format.group);
  TORCH_CHECK(!format.zero_points || format.kind == WeightKind::kInt4, "only int4 weights have zero points");
  return format;
}

}  // namespace

QuantizedWeight::QuantizedWeight(const cpu::Kernels& kernels, int64_t out, int64_t in, bool bias, at::ScalarType dtype,
                                 const WeightFormat& format)
    : PanelWeight(kernels, out, in, bias, dtype), format_(Checked(format)), layout_(cpu::LayoutOf(format, in)) {
  panels_ = at::empty({cpu::PanelsOf(out), layout_.panel_bytes}, at::kByte);
  AskForHugePages(panels_.mutable_data_ptr(), panels_.nbytes());
  // Zeroes only what no row fills, as PackedWeight does.
  if (out % kPanel != 0) panels_.select(0, panels_.size(0) - 1).zero_();
  if (format.reordered) order_ = at::empty({in}, at::kInt);
}

std::vector<at::Tensor> QuantizedWeight::Tensors() const {
  std::vector<at::Tensor> held = {panels_};
  if (order_.defined()) held.push_back(order_);
  if (bias_.defined()) held.push_back(bias_);
  return held;
}

void QuantizedWeight::SetRows(int64_t first, const at::Tensor& rows) {
  SetQuantizedRows(first, Quantize(rows, format_));
}

void QuantizedWeight::SetQuantizedRows(int64_t first, const QuantizedRows& rows) {
  TORCH_CHECK(rows.values.dim() == 2 && rows.values.size(1) == in_ && first >= 0 && first + rows.values.size(0) <= out_,
              "rows ", rows.values.sizes(), " at ", first, " don't fit a quantized weight of ", out_, " x ", in_);
  const at::ScalarType dtype = format_.kind == WeightKind::kInt8 ? at::kChar : at::kByte;
  TORCH_CHECK(rows.values.scalar_type() == dtype, "quantized values are ", rows.values.scalar_type(), ", expected ",
              dtype);
  c10::InferenceMode guard;
  SetHeads(first, rows);
  const at::Tensor values = rows.values.contiguous();
  const uint8_t* from = static_cast<const uint8_t*>(values.const_data_ptr());
  const QuantizedLayout& l = layout_;
  const int64_t block_words = l.block_bytes / (4 * kPanel), end = first + values.size(0);
  bool good = true;
  alignas(64) uint32_t words[kPanel * kRunWords];
  for (int64_t row = first; row < end;) {
    const int64_t panel_end = std::min((row / kPanel + 1) * kPanel, end);
    for (int64_t b0 = 0; b0 < l.blocks; b0 += kRunBlocks) {
      const int64_t blocks = std::min(kRunBlocks, l.blocks - b0), inputs = blocks * kQuantizedBlock;
      const int64_t begin = b0 * kQuantizedBlock, n = std::min(inputs, in_ - begin);
      for (int64_t r = row; r < panel_end; ++r) {
        const uint8_t* source = from + (r - first) * in_ + begin;
        uint8_t padded[kRunBlocks * kQuantizedBlock];
        if (n < inputs) {
          std::memcpy(padded, source, n);
          std::memset(padded + n, 0, inputs - n);
          source = padded;
        }
        good &= ToWords(l.kind, source, inputs, words + (r - row) * kRunWords);
      }
      for (int64_t b = 0; b < blocks; ++b) {
        const int64_t block = b0 + b;
        uint32_t* to = reinterpret_cast<uint32_t*>(Head(row, block / l.group_blocks) + l.head_bytes +
                                                   block % l.group_blocks * l.block_bytes);
        for (int64_t r = row; r < panel_end;) {
          const uint32_t* source = words + (r - row) * kRunWords + b * block_words;
          uint32_t* column = to + r % kPanel;
          if (panel_end - r >= 4) {
            Transpose(source, block_words, column);
            r += 4;
          } else {
            for (int64_t u = 0; u < block_words; ++u) column[u * kPanel] = source[u];
            ++r;
          }
        }
      }
    }
    row = panel_end;
  }
  TORCH_CHECK(good, "quantized rows at ", first, ": values of int4 are 0 to 15");
}

void QuantizedWeight::SetHeads(int64_t first, const QuantizedRows& rows) {
  const int64_t n = rows.values.size(0), groups = format_.groups(in_);
  const std::vector<int64_t> expected = {n, groups};
  TORCH_CHECK(rows.scales.sizes() == expected && rows.scales.scalar_type() == at::kFloat, "scales are ",
              rows.scales.toString(), " of shape ", rows.scales.sizes(), ", expected fp32 of shape ",
              at::IntArrayRef(expected));
  TORCH_CHECK(rows.zeros.defined() == format_.zero_points, "zero points were ", rows.zeros.defined() ? "" : "not ",
              "given to a weight that has ", format_.zero_points ? "them" : "none");
  const bool half = format_.kind == WeightKind::kInt4;
  const at::Tensor scales = rows.scales.to(half ? at::kHalf : at::kFloat).contiguous();
  const int64_t width = scales.element_size();
  const char* from = static_cast<const char*>(scales.const_data_ptr());
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t g = 0; g < groups; ++g)
      std::memcpy(Head(first + r, g) + (first + r) % kPanel * width, from + (r * groups + g) * width, width);
  }
  if (!format_.zero_points) return;
  TORCH_CHECK(rows.zeros.sizes() == expected && rows.zeros.scalar_type() == at::kByte, "zero points are ",
              rows.zeros.toString(), " of shape ", rows.zeros.sizes(), ", expected uint8 of shape ",
              at::IntArrayRef(expected));
  const at::Tensor zeros = rows.zeros.contiguous();
  const uint8_t* zero = static_cast<const uint8_t*>(zeros.const_data_ptr());
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t g = 0; g < groups; ++g)
      Head(first + r, g)[layout_.scale_bytes + (first + r) % kPanel] = zero[r * groups + g];
  }
}

void QuantizedWeight::SetInputOrder(const at::Tensor& order) {
  TORCH_CHECK(order_.defined(), "an order of inputs for a weight made without one");
  TORCH_CHECK(order.dim() == 1 && order.size(0) == in_ && order.scalar_type() == at::kInt, "the order of inputs is ",
              order.toString(), " of shape ", order.sizes(), ", expected int32 of shape [", in_, "]");
  c10::InferenceMode guard;
  const at::Tensor given = order.to(at::kCPU).contiguous();
  const int32_t* columns = static_cast<const int32_t*>(given.const_data_ptr());
  std::vector<bool> seen(in_);
  for (int64_t i = 0; i < in_; ++i) {
    TORCH_CHECK(columns[i] >= 0 && columns[i] < in_ && !seen[columns[i]], "the order of inputs is no permutation of ",
                in_, ": it has ", columns[i], " at ", i);
    seen[columns[i]] = true;
  }
  order_.copy_(given);
  ordered_ = true;
}

void QuantizedWeight::CopyRow(int64_t row, void* to) const {
  const QuantizedLayout& l = layout_;
  const uint8_t* panel = panels() + row / kPanel * l.panel_bytes;
  const int64_t lane = row % kPanel, word_inputs = kQuantizedBlock * kPanel * 4 / l.block_bytes;
  for (int64_t i = 0; i < in_; ++i) {
    const int64_t block = i / kQuantizedBlock, inside = i % kQuantizedBlock;
    const uint8_t* head = panel + block / l.group_blocks * l.group_bytes;
    const uint8_t* word =
        head + l.head_bytes + block % l.group_blocks * l.block_bytes + (inside / word_inputs * kPanel + lane) * 4;
    const uint8_t byte = word[inside % 4];
    float scale, value = 0;
    if (l.kind == WeightKind::kInt4) {
      c10::Half half;
      std::memcpy(&half, head + lane * 2, 2);
      scale = half;
      const int zero = l.zero_points ? head[l.scale_bytes + lane] : cpu::kInt4Zero;
      value = static_cast<float>((inside % 8 < 4 ? byte & 15 : byte >> 4) - zero);
    } else {
      std::memcpy(&scale, head + lane * 4, 4);
      value = l.kind == WeightKind::kInt8 ? static_cast<float>(byte - cpu::kInt8Zero) : Fp8ToFloat(byte);
    }
    const int64_t column = ordered_ ? order()[i] : i;
    if (activations() == at::kFloat) {
      static_cast<float*>(to)[column] = value * scale;
    } else {
      static_cast<c10::BFloat16*>(to)[column] = value * scale;
    }
  }
}

}  // namespace causeway
