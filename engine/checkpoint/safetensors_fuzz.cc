// libFuzzer target for the safetensors header and the JSON beneath it; scripts/fuzz.sh builds and runs it.
//
// The input is one byte of mode, eight of the data's length, then the header's JSON. With mode's lowest bit set the
// length prefix is right, so that the fuzzer's work goes into the JSON. Otherwise the JSON stands for the whole file,
// prefix included.
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>

#include "engine/checkpoint/safetensors.h"

namespace causeway {
namespace {

void Require(bool holds) {
  if (!holds) std::abort();
}

uint64_t LittleEndian(const uint8_t* bytes) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value |= uint64_t{bytes[i]} << (8 * i);
  return value;
}

// What was accepted must be safe to read from: in order, without gaps, inside the file, of the size it claims.
void CheckAccepted(const std::vector<TensorInfo>& tensors, uint64_t data_begin, uint64_t file_bytes) {
  uint64_t at = data_begin;
  std::set<std::string> names;
  for (const TensorInfo& tensor : tensors) {
    Require(!tensor.name.empty() && tensor.name.size() <= kTensorNameBytesMax);
    Require(names.insert(tensor.name).second);
    Require(tensor.shape.size() <= kTensorRankMax);
    Require(tensor.offset == at);
    unsigned __int128 bytes = static_cast<unsigned __int128>(DTypeBytes(tensor.dtype));
    for (int64_t d : tensor.shape) {
      Require(d >= 0);
      bytes *= static_cast<uint64_t>(d);
      Require(bytes <= INT64_MAX);
    }
    Require(bytes == tensor.bytes);
    Require(tensor.bytes <= file_bytes - at);
    at += tensor.bytes;
  }
  Require(at == file_bytes);
}

void Run(const uint8_t* data, size_t size) {
  if (size < 9) return;
  const uint64_t data_bytes = LittleEndian(data + 1) & ((uint64_t{1} << 62) - 1);
  const std::string text(reinterpret_cast<const char*>(data + 9), size - 9);
  std::string head = text;
  if (data[0] & 1) {
    head.assign(8, '\0');
    for (int i = 0; i < 8; ++i) head[i] = static_cast<char>(uint64_t{text.size()} >> (8 * i));
    head += text;
  }
  const uint64_t file_bytes = head.size() + data_bytes;
  const auto parsed = ParseSafetensorsHeader(head, file_bytes, "fuzz");
  if (!parsed.ok()) {
    Require(parsed.status().code() == absl::StatusCode::kInvalidArgument);
    Require(parsed.status().message().size() < 2000);  // never the file's own length
    return;
  }
  const auto header_bytes = SafetensorsHeaderBytes(head, file_bytes, "fuzz");
  Require(header_bytes.ok());
  CheckAccepted(*parsed, 8 + *header_bytes, file_bytes);
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  causeway::Run(data, size);
  return 0;
}
