// The header of a safetensors file: 8 bytes of length (little-endian), then that many bytes of JSON, then the
// tensors' data.
#ifndef CAUSEWAY_ENGINE_CHECKPOINT_SAFETENSORS_H_
#define CAUSEWAY_ENGINE_CHECKPOINT_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/checkpoint/checkpoint.h"

namespace causeway {

inline constexpr size_t kSafetensorsLengthBytes = 8;
inline constexpr uint64_t kSafetensorsHeaderBytesMax = 100'000'000;  // the format's own limit
inline constexpr size_t kTensorNameBytesMax = 512;
inline constexpr size_t kTensorRankMax = 16;

// Reads from the file's first 8 bytes how many bytes the JSON has. InvalidArgument: none, above the limit or beyond the
// file.
absl::StatusOr<uint64_t> SafetensorsHeaderBytes(absl::string_view first, uint64_t file_bytes, absl::string_view what);

// `head` is the file's beginning up to the end of its JSON, `file_bytes` the whole file's size, `what` its name for
// messages. The function is pure and touches no file. Tensors come in the order of their data; `file` is left 0, and
// `offset` counts from the file's first byte.
//
// InvalidArgument names the tensor, unless all of this holds. Every dtype is known. Every shape is a list of
// non-negative integers, whose product with the dtype's size does not overflow and is exactly data_offsets' length. The
// tensors cover the file's data exactly: no byte twice, none left out, none beyond the end.
absl::StatusOr<std::vector<TensorInfo>> ParseSafetensorsHeader(absl::string_view head, uint64_t file_bytes,
                                                               absl::string_view what);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CHECKPOINT_SAFETENSORS_H_
