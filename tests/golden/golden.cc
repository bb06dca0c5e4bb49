#include "tests/golden/golden.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/checkpoint/file.h"
#include "engine/checkpoint/safetensors.h"

namespace causeway {
namespace {

const char kSets[] = CAUSEWAY_SOURCE_DIR "/tests/golden/";

template <typename To, typename From>
std::vector<To> Values(const std::string& file, const TensorInfo& tensor) {
  std::vector<From> raw(tensor.bytes / sizeof(From));
  std::memcpy(raw.data(), file.data() + tensor.offset, tensor.bytes);
  return std::vector<To>(raw.begin(), raw.end());
}

}  // namespace

std::vector<std::string> GoldenNames(const std::string& set) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kSets + set)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<Golden> LoadGolden(const std::string& name, const std::string& set) {
  Golden golden{.name = name, .folder = absl::StrCat(kSets, set, "/", name), .cases = {}};
  const std::string path = golden.folder + "/golden.safetensors";
  CAUSEWAY_ASSIGN_OR_RETURN(const std::string file, ReadSmallFile(path, 64 << 20));
  CAUSEWAY_ASSIGN_OR_RETURN(const uint64_t header,
                            SafetensorsHeaderBytes(file.substr(0, kSafetensorsLengthBytes), file.size(), path));
  CAUSEWAY_ASSIGN_OR_RETURN(const std::vector<TensorInfo> list,
                            ParseSafetensorsHeader(file.substr(0, kSafetensorsLengthBytes + header), file.size(), path));
  std::map<std::string, TensorInfo> tensors;
  for (const TensorInfo& tensor : list) tensors[tensor.name] = tensor;
  for (int i = 0; tensors.contains(absl::StrCat("prompt_", i)); ++i) {
    golden.cases.push_back({Values<int32_t, int64_t>(file, tensors[absl::StrCat("prompt_", i)]),
                            Values<int32_t, int64_t>(file, tensors[absl::StrCat("tokens_", i)]),
                            Values<float, float>(file, tensors[absl::StrCat("logits_", i)])});
  }
  if (golden.cases.empty()) return absl::NotFoundError(absl::StrCat(path, " holds no cases"));
  return golden;
}

}  // namespace causeway
