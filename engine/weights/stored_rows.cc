#include "engine/weights/stored_rows.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/weights/scalar_type.h"

namespace causeway {
namespace {

constexpr int64_t kPack = 8;  // values of 4 bits in an int32

// Which of a word's eight outputs each nibble is, from the lowest.
constexpr int kInOrder[kPack] = {0, 1, 2, 3, 4, 5, 6, 7};
constexpr int kAwqOrder[kPack] = {0, 2, 4, 6, 1, 3, 5, 7};

// Nibble k becomes byte k.
inline uint64_t Spread(uint32_t word) {
  uint64_t x = word;
  x = (x | x << 16) & 0x0000ffff0000ffff;
  x = (x | x << 8) & 0x00ff00ff00ff00ff;
  return (x | x << 4) & 0x0f0f0f0f0f0f0f0f;
}

// The rectangle as a tensor of `dtype`, whose elements are as wide as the stored ones.
absl::StatusOr<at::Tensor> ReadMatrix(const Checkpoint& checkpoint, const TensorInfo& matrix,
                                      const Rectangle& rectangle, at::ScalarType dtype) {
  at::Tensor read = at::empty({rectangle.rows, rectangle.columns}, dtype);
  CAUSEWAY_RETURN_IF_ERROR(ReadRectangle(checkpoint, matrix, rectangle, static_cast<char*>(read.mutable_data_ptr())));
  return read;
}

// Whether any of the bytes, as e4m3fn, is a NaN.
bool HoldsNan(const at::Tensor& e4m3) {
  const uint8_t* bytes = static_cast<const uint8_t*>(e4m3.const_data_ptr());
  uint8_t found = 0;
  for (int64_t i = 0, n = e4m3.numel(); i < n; ++i) found |= static_cast<uint8_t>((bytes[i] & 0x7f) == 0x7f);
  return found != 0;
}

// Words [in / 8, outs] of eight inputs each -> bytes [outs, in].
at::Tensor UnpackInputs(const at::Tensor& packed) {
  const int64_t words = packed.size(0), outs = packed.size(1), in = words * kPack;
  at::Tensor values = at::empty({outs, in}, at::kByte);
  const uint32_t* from = static_cast<const uint32_t*>(packed.const_data_ptr());
  uint8_t* to = static_cast<uint8_t*>(values.mutable_data_ptr());
  constexpr int64_t kLine = 8;  // words whose values fill a cache line
  for (int64_t w0 = 0; w0 < words; w0 += kLine) {
    const int64_t end = std::min(w0 + kLine, words);
    for (int64_t o = 0; o < outs; ++o) {
      for (int64_t w = w0; w < end; ++w) {
        const uint64_t bytes = Spread(from[w * outs + o]);
        std::memcpy(to + o * in + w * kPack, &bytes, kPack);
      }
    }
  }
  return values;
}

// Words [rows, outs / 8] of eight outputs each -> bytes [outs, rows].
at::Tensor UnpackOutputs(const at::Tensor& packed, const int (&order)[kPack]) {
  const int64_t rows = packed.size(0), words = packed.size(1);
  at::Tensor values = at::empty({words * kPack, rows}, at::kByte);
  const uint32_t* from = static_cast<const uint32_t*>(packed.const_data_ptr());
  uint8_t* to = static_cast<uint8_t*>(values.mutable_data_ptr());
  constexpr int64_t kLine = 64;
  uint64_t bytes[kLine];
  for (int64_t r0 = 0; r0 < rows; r0 += kLine) {
    const int64_t n = std::min(kLine, rows - r0);
    for (int64_t w = 0; w < words; ++w) {
      for (int64_t r = 0; r < n; ++r) bytes[r] = Spread(from[(r0 + r) * words + w]);
      for (int k = 0; k < kPack; ++k) {
        uint8_t* row = to + (w * kPack + order[k]) * rows + r0;
        for (int64_t r = 0; r < n; ++r) row[r] = static_cast<uint8_t>(bytes[r] >> 8 * k);
      }
    }
  }
  return values;
}

struct PartReader {
  const Checkpoint& checkpoint;
  const Tensors& tensors;
  const LinearSpec& linear;
  const std::vector<std::string> names;  // StoredTensors
  const Rectangle& want;
  const int64_t group = linear.format.group > 0 ? linear.format.group : linear.in_features;
  const int64_t first_group = want.column / group, groups = linear.format.groups(want.columns);

  const TensorInfo& Stored(int i) const { return tensors.at(names[i]); }
  absl::Status Wrong(int i, absl::string_view why) const {
    return absl::InvalidArgumentError(absl::StrCat(names[i], ": ", why));
  }

  absl::StatusOr<at::Tensor> Scales(const Rectangle& rectangle) const {
    CAUSEWAY_ASSIGN_OR_RETURN(const at::ScalarType dtype, ScalarTypeOf(Stored(1).dtype));
    CAUSEWAY_ASSIGN_OR_RETURN(const at::Tensor scales, ReadMatrix(checkpoint, Stored(1), rectangle, dtype));
    if (!at::isfinite(scales).all().item<bool>()) return Wrong(1, "expected finite scales, found others");
    return scales.to(at::kFloat);
  }

  absl::StatusOr<QuantizedRows> Fp8() const {
    QuantizedRows rows;
    CAUSEWAY_ASSIGN_OR_RETURN(rows.values, ReadMatrix(checkpoint, Stored(0), want, at::kByte));
    if (HoldsNan(rows.values)) return Wrong(0, "expected finite weights, found others");
    // Blocks are as high as they are wide; their rows become one for each output.
    const int64_t first = want.row / group, count = (want.row + want.rows - 1) / group - first + 1;
    CAUSEWAY_ASSIGN_OR_RETURN(const at::Tensor blocks, Scales({first, count, first_group, groups}));
    const at::Tensor block_of_row =
        at::arange(want.row, want.row + want.rows, at::kLong).floor_divide(group).sub_(first);
    rows.scales = blocks.index_select(0, block_of_row);
    return rows;
  }

  absl::StatusOr<QuantizedRows> Int4(const at::Tensor& order) const {
    const bool gptq = linear.encoding.kind == WeightEncoding::Kind::kGptq;
    // Outputs in whole words; those asked for are cut out at the end.
    const int64_t first = want.row / kPack, words = (want.row + want.rows + kPack - 1) / kPack - first;
    const int64_t skip = want.row - first * kPack;
    const auto cut = [&](const at::Tensor& outputs) { return outputs.narrow(0, skip, want.rows); };
    const auto& interleaved = gptq ? kInOrder : kAwqOrder;
    QuantizedRows rows;
    if (gptq) {
      CAUSEWAY_ASSIGN_OR_RETURN(const at::Tensor packed,
                                ReadMatrix(checkpoint, Stored(0),
                                           {want.column / kPack, want.columns / kPack, want.row, want.rows}, at::kInt));
      rows.values = UnpackInputs(packed);
      if (order.defined()) rows.values = rows.values.index_select(1, order);
    } else {
      CAUSEWAY_ASSIGN_OR_RETURN(const at::Tensor packed,
                                ReadMatrix(checkpoint, Stored(0), {want.column, want.columns, first, words}, at::kInt));
      rows.values = cut(UnpackOutputs(packed, interleaved));
    }
    CAUSEWAY_ASSIGN_OR_RETURN(const at::Tensor scales, Scales({first_group, groups, want.row, want.rows}));
    rows.scales = scales.t().contiguous();
    if (!at::equal(rows.scales.to(at::kHalf).to(at::kFloat), rows.scales))
      return Wrong(1, "expected scales that fp16 holds, found others");
    CAUSEWAY_ASSIGN_OR_RETURN(const at::Tensor zeros,
                              ReadMatrix(checkpoint, Stored(2), {first_group, groups, first, words}, at::kInt));
    rows.zeros = cut(UnpackOutputs(zeros, interleaved)).add(linear.encoding.zero_offset).bitwise_and_(15);
    if (linear.format.zero_points) return rows;
    if (!rows.zeros.eq(8).all().item<bool>())
      return Wrong(2, "expected the middle for every group, as config.json says sym, found others");
    rows.zeros.reset();
    return rows;
  }
};

}  // namespace

absl::Status ReadRectangle(const Checkpoint& checkpoint, const TensorInfo& matrix, const Rectangle& rectangle,
                           char* to) {
  const int64_t element = DTypeBytes(matrix.dtype), columns = matrix.shape.back(), run = rectangle.columns * element;
  if (rectangle.columns == columns) {
    return checkpoint.Read(matrix, rectangle.row * columns * element, absl::MakeSpan(to, rectangle.rows * run));
  }
  for (int64_t r = 0; r < rectangle.rows; ++r) {
    const uint64_t offset = ((rectangle.row + r) * columns + rectangle.column) * element;
    CAUSEWAY_RETURN_IF_ERROR(checkpoint.Read(matrix, offset, absl::MakeSpan(to + r * run, run)));
  }
  return absl::OkStatus();
}

absl::StatusOr<QuantizedRows> ReadQuantizedRows(const Checkpoint& checkpoint, const Tensors& tensors,
                                                const LinearSpec& linear, const LinearSpec::Part& part,
                                                const Rectangle& rectangle, const at::Tensor& order) {
  const PartReader reader{checkpoint, tensors, linear, StoredTensors(linear, part), rectangle};
  return linear.encoding.kind == WeightEncoding::Kind::kFp8 ? reader.Fp8() : reader.Int4(order);
}

absl::StatusOr<at::Tensor> ReadInputOrder(const Checkpoint& checkpoint, const Tensors& tensors,
                                          const LinearSpec& linear) {
  if (!linear.format.reordered) return at::Tensor();
  const int64_t in = linear.in_features, group = linear.format.group;
  std::vector<int32_t> groups(in), first;
  std::string first_name;
  for (const LinearSpec::Part& part : linear.parts) {
    const std::string name = StoredTensors(linear, part).back();
    CAUSEWAY_RETURN_IF_ERROR(checkpoint.Read(
        tensors.at(name), 0, absl::MakeSpan(reinterpret_cast<char*>(groups.data()), in * sizeof(int32_t))));
    if (first.empty()) {
      first = groups;
      first_name = name;
    } else if (groups != first) {
      return absl::UnimplementedError(absl::StrCat(
          name, " differs from ", first_name, "; inputs of linears that are computed as one have to be ordered alike"));
    }
  }
  std::vector<int32_t> order(in);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return first[a] < first[b]; });
  bool plain = true;
  for (int64_t i = 0; i < in; ++i) {
    if (first[order[i]] != i / group) {
      return absl::InvalidArgumentError(
          absl::StrCat(first_name, ": expected ", group, " inputs in each of the groups 0 to ", in / group - 1,
                       ", found group ", first[order[i]], " for an input of group ", i / group));
    }
    plain = plain && order[i] == i;
  }
  return plain ? at::Tensor() : at::tensor(order, at::kInt);
}

}  // namespace causeway
