#include "engine/weights/stored_extents.h"

#include <string>

#include "engine/weights/scalar_type.h"

namespace causeway {
namespace {

// Appends the tensor; false where it has another dtype.
bool Append(const TensorInfo& tensor, at::ScalarType dtype, std::vector<FileExtent>& extents) {
  const absl::StatusOr<at::ScalarType> stored = ScalarTypeOf(tensor.dtype);
  if (!stored.ok() || *stored != dtype) return false;
  const int64_t offset = static_cast<int64_t>(tensor.offset), bytes = static_cast<int64_t>(tensor.bytes);
  if (!extents.empty() && extents.back().file == tensor.file &&
      extents.back().offset + extents.back().bytes == offset) {
    extents.back().bytes += bytes;
  } else {
    extents.push_back({tensor.file, offset, bytes});
  }
  return true;
}

int64_t Bytes(const std::vector<FileExtent>& extents) {
  int64_t bytes = 0;
  for (const FileExtent& extent : extents) bytes += extent.bytes;
  return bytes;
}

}  // namespace

std::vector<std::vector<FileExtent>> StoredAsHeld(const Tensors& tensors, const LinearTarget& target) {
  const LinearSpec& spec = target.spec;
  if (!target.weight->as_stored() || spec.transposed || spec.encoding.kind != WeightEncoding::Kind::kFloat) return {};
  const std::vector<at::Tensor> held = target.weight->Tensors();
  std::vector<std::vector<FileExtent>> extents(held.size());
  for (const LinearSpec::Part& part : spec.parts) {
    if (!Append(tensors.at(part.weight), held[0].scalar_type(), extents[0])) return {};
    if (held.size() == 1) continue;
    // A part without a bias beside one that has: its share is zeros, which are nowhere.
    if (part.bias.empty() || !Append(tensors.at(part.bias), held[1].scalar_type(), extents[1])) return {};
  }
  for (size_t i = 0; i < held.size(); ++i) {
    if (Bytes(extents[i]) != static_cast<int64_t>(held[i].nbytes())) return {};  // a share
  }
  return extents;
}

}  // namespace causeway
