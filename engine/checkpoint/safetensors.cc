#include "engine/checkpoint/safetensors.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

std::string Quoted(absl::string_view name) { return absl::StrCat("\"", Printable(name), "\""); }

absl::Status CheckName(const std::string& name) {
  if (name.empty()) return absl::InvalidArgumentError("a tensor has an empty name");
  if (name.size() > kTensorNameBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("the name that begins with ", Quoted(name), " has ", name.size(),
                                                   " bytes; at most ", kTensorNameBytesMax, " are allowed"));
  }
  for (unsigned char c : name) {
    if (c < 0x20 || c == 0x7f)
      return absl::InvalidArgumentError(absl::StrCat("tensor ", Quoted(name), ": control character in its name"));
  }
  return absl::OkStatus();
}

// Reads one value of the header's object. The message leaves out file and tensor; the caller puts them in front.
absl::StatusOr<TensorInfo> ParseEntry(const std::string& name, const Json& entry, uint64_t data_bytes) {
  if (!entry.is_object())
    return absl::InvalidArgumentError(absl::StrCat("expected an object, found ", JsonKind(entry)));
  for (const auto& [key, value] : entry.items()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown key ", Quoted(key), "; expected dtype, shape, data_offsets"));
    }
  }
  const auto dtype = entry.find("dtype"), shape = entry.find("shape"), offsets = entry.find("data_offsets");
  if (dtype == entry.end() || !dtype->is_string()) return absl::InvalidArgumentError("dtype: expected a string");
  if (shape == entry.end() || !shape->is_array())
    return absl::InvalidArgumentError("shape: expected an array of integers");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2 || !(*offsets)[0].is_number_unsigned() ||
      !(*offsets)[1].is_number_unsigned()) {
    return absl::InvalidArgumentError("data_offsets: expected two non-negative integers");
  }

  TensorInfo tensor{.name = name, .dtype = DType::kF32, .shape = {}, .file = 0, .offset = 0, .bytes = 0};
  CAUSEWAY_ASSIGN_OR_RETURN(tensor.dtype, DTypeFromSafetensors(Printable(dtype->get_ref<const std::string&>(), 32)));
  if (shape->size() > kTensorRankMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("shape has ", shape->size(), " dimensions; at most ", kTensorRankMax));
  }
  int64_t bytes = DTypeBytes(tensor.dtype);
  bool empty = false, overflow = false;
  for (const Json& dimension : *shape) {
    if (!dimension.is_number_unsigned() || dimension.get<uint64_t>() > INT64_MAX) {
      return absl::InvalidArgumentError(
          absl::StrCat("shape: expected non-negative integers below 2^63, found ", JsonExcerpt(dimension)));
    }
    const int64_t size = dimension.get<int64_t>();
    tensor.shape.push_back(size);
    empty |= size == 0;
    // A later zero does not excuse an overflow: no real tensor is that large.
    overflow |= size != 0 && __builtin_mul_overflow(bytes, size, &bytes);
  }
  if (overflow) return absl::InvalidArgumentError("shape: its size in bytes overflows 63 bits");
  if (empty) bytes = 0;

  const uint64_t begin = (*offsets)[0].get<uint64_t>(), end = (*offsets)[1].get<uint64_t>();
  if (begin > end)
    return absl::InvalidArgumentError(absl::StrCat("data_offsets [", begin, ", ", end, "] end before they begin"));
  if (end > data_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("data_offsets end at byte ", end, ", but the file holds ", data_bytes, " bytes of data"));
  }
  if (end - begin != static_cast<uint64_t>(bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("data_offsets hold ", end - begin, " bytes, but shape and dtype make ", bytes));
  }
  tensor.offset = begin;
  tensor.bytes = end - begin;
  return tensor;
}

absl::Status CheckMetadata(const Json& metadata) {
  if (!metadata.is_object())
    return absl::InvalidArgumentError(absl::StrCat("__metadata__: expected an object, found ", JsonKind(metadata)));
  for (const auto& [key, value] : metadata.items()) {
    if (!value.is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat("__metadata__: ", Quoted(key), ": expected a string, found ", JsonKind(value)));
    }
  }
  return absl::OkStatus();
}

// `tensors` are in the order of their data.
absl::Status CheckCoverage(const std::vector<TensorInfo>& tensors, uint64_t data_bytes) {
  uint64_t covered = 0;
  const TensorInfo* previous = nullptr;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.offset < covered) {
      return absl::InvalidArgumentError(absl::StrCat("tensors ", Quoted(previous->name), " and ", Quoted(tensor.name),
                                                     " overlap at data bytes [", tensor.offset, ", ", covered, ")"));
    }
    if (tensor.offset > covered) {
      return absl::InvalidArgumentError(absl::StrCat("a hole before tensor ", Quoted(tensor.name),
                                                     ": no tensor holds data bytes [", covered, ", ", tensor.offset,
                                                     ")"));
    }
    covered = tensor.offset + tensor.bytes;
    previous = &tensor;
  }
  if (covered != data_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("no tensor holds the last ", data_bytes - covered, " of ", data_bytes, " bytes of data"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<uint64_t> SafetensorsHeaderBytes(absl::string_view first, uint64_t file_bytes, absl::string_view what) {
  if (file_bytes < kSafetensorsLengthBytes || first.size() < kSafetensorsLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": not a safetensors file: it has ", std::min<uint64_t>(file_bytes, first.size()),
                     " bytes, and its header's length alone takes ", kSafetensorsLengthBytes));
  }
  uint64_t bytes = 0;
  for (size_t i = 0; i < kSafetensorsLengthBytes; ++i)
    bytes |= uint64_t{static_cast<unsigned char>(first[i])} << (8 * i);
  if (bytes > kSafetensorsHeaderBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": not a safetensors file, or a broken one: its header claims ", bytes, " bytes; at most ",
                     kSafetensorsHeaderBytesMax, " are allowed"));
  }
  if (bytes > file_bytes - kSafetensorsLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": its header claims ", bytes, " bytes, but the file has ",
                                                   file_bytes, "; is the download complete?"));
  }
  return bytes;
}

absl::StatusOr<std::vector<TensorInfo>> ParseSafetensorsHeader(absl::string_view head, uint64_t file_bytes,
                                                               absl::string_view what) {
  CAUSEWAY_ASSIGN_OR_RETURN(const uint64_t header_bytes, SafetensorsHeaderBytes(head, file_bytes, what));
  const uint64_t data_begin = kSafetensorsLengthBytes + header_bytes;
  if (head.size() < data_begin) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": its header has ", header_bytes, " bytes, but only ",
                                                   head.size() - kSafetensorsLengthBytes, " are there"));
  }
  const absl::string_view text = head.substr(kSafetensorsLengthBytes, header_bytes);
  if (text.empty() || text[0] != '{')
    return absl::InvalidArgumentError(absl::StrCat(what, ": its header does not begin with '{'"));
  CAUSEWAY_ASSIGN_OR_RETURN(const Json header, ParseJson(text, what));

  const auto located = [what](const absl::Status& status) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": ", status.message()));
  };
  const uint64_t data_bytes = file_bytes - data_begin;
  std::vector<TensorInfo> tensors;
  tensors.reserve(header.size());
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      if (absl::Status status = CheckMetadata(entry); !status.ok()) return located(status);
      continue;
    }
    if (absl::Status status = CheckName(name); !status.ok()) return located(status);
    absl::StatusOr<TensorInfo> tensor = ParseEntry(name, entry, data_bytes);
    if (!tensor.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(what, ": tensor ", Quoted(name), ": ", tensor.status().message()));
    }
    tensors.push_back(*std::move(tensor));
  }
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  if (absl::Status status = CheckCoverage(tensors, data_bytes); !status.ok()) return located(status);
  for (TensorInfo& tensor : tensors) tensor.offset += data_begin;
  return tensors;
}

}  // namespace causeway
