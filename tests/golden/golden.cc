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

using TensorMap = std::map<std::string, TensorInfo>;

absl::StatusOr<TensorMap> Tensors(const std::string& file, const std::string& path) {
  CAUSEWAY_ASSIGN_OR_RETURN(const uint64_t header,
                            SafetensorsHeaderBytes(file.substr(0, kSafetensorsLengthBytes), file.size(), path));
  CAUSEWAY_ASSIGN_OR_RETURN(
      const std::vector<TensorInfo> list,
      ParseSafetensorsHeader(file.substr(0, kSafetensorsLengthBytes + header), file.size(), path));
  TensorMap tensors;
  for (const TensorInfo& tensor : list) tensors[tensor.name] = tensor;
  return tensors;
}

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
  CAUSEWAY_ASSIGN_OR_RETURN(TensorMap tensors, Tensors(file, path));
  for (int i = 0; tensors.contains(absl::StrCat("prompt_", i)); ++i) {
    golden.cases.push_back({Values<int32_t, int64_t>(file, tensors[absl::StrCat("prompt_", i)]),
                            Values<int32_t, int64_t>(file, tensors[absl::StrCat("tokens_", i)]),
                            Values<float, float>(file, tensors[absl::StrCat("logits_", i)])});
  }
  if (golden.cases.empty()) return absl::NotFoundError(absl::StrCat(path, " holds no cases"));
  return golden;
}

absl::StatusOr<std::map<std::string, std::vector<float>>> ReadFloats(const std::string& path) {
  CAUSEWAY_ASSIGN_OR_RETURN(const std::string file, ReadSmallFile(path, 64 << 20));
  CAUSEWAY_ASSIGN_OR_RETURN(const TensorMap tensors, Tensors(file, path));
  std::map<std::string, std::vector<float>> values;
  for (const auto& [name, tensor] : tensors) {
    values[name] =
        tensor.dtype == DType::kI64 ? Values<float, int64_t>(file, tensor) : Values<float, float>(file, tensor);
  }
  return values;
}

absl::StatusOr<GoldenStates> LoadGoldenStates(const std::string& name) {
  CAUSEWAY_ASSIGN_OR_RETURN(auto tensors,
                            ReadFloats(absl::StrCat(kSets, "models/", name, "/hidden_states.safetensors")));
  GoldenStates states;
  for (int i = 0; tensors.contains(absl::StrCat("hidden_states_", i)); ++i)
    states.hidden_states.push_back(tensors[absl::StrCat("hidden_states_", i)]);
  states.last_layer = tensors["last_layer"];
  return states;
}

}  // namespace causeway
