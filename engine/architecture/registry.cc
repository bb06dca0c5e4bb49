#include "engine/architecture/registry.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/architecture/architectures.h"
#include "engine/architecture/config_reader.h"
#include "engine/architecture/quantization.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

struct Architecture {
  const char* model_type;
  ModelSpec (*make)(ConfigReader& config, DType dtype);
  // End of sequence where neither file names one; the field's class has it as its default. -1: none.
  int32_t eos_token_id;
};

// The factory table: a new architecture is one row here and one function in a file of its own. Sorted.
constexpr Architecture kArchitectures[] = {
    {"gpt2", MakeGpt2, 50256},   {"llama", MakeLlama, 2},         {"minimax_m2", MakeMiniMaxM2, 200020},
    {"mistral", MakeMistral, 2}, {"mixtral", MakeMixtral, 2},     {"qwen2", MakeQwen2, -1},
    {"qwen3", MakeQwen3, -1},    {"qwen3_moe", MakeQwen3Moe, -1},
};

constexpr size_t kEndsMax = 64;  // end-of-sequence ids: far above any model's

// The dtype that config.json says its weights have; `dtype` is the newer spelling and goes first. Null when it says
// nothing.
absl::StatusOr<const std::string*> StoredDTypeName(const Json& config) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    const auto value = config.find(key);
    if (value == config.end() || value->is_null()) continue;
    if (!value->is_string())
      return absl::InvalidArgumentError(
          absl::StrCat("config.json: ", key, ": expected a string, found ", JsonExcerpt(*value)));
    // "torch.bfloat16" is how some scripts write it.
    return &value->get_ref<const std::string&>();
  }
  return nullptr;
}

absl::StatusOr<DType> StoredDType(const Json& config, DType otherwise) {
  CAUSEWAY_ASSIGN_OR_RETURN(const std::string* name, StoredDTypeName(config));
  if (name == nullptr) return otherwise;
  absl::string_view plain = *name;
  if (plain.substr(0, 6) == "torch.") plain.remove_prefix(6);
  if (plain == "auto") return otherwise;  // what the weights are stored in, as for transformers
  absl::StatusOr<DType> dtype = DTypeFromName(plain);
  if (!dtype.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("config.json: ", dtype.status().message(), "; dtype (--dtype) goes before it"));
  }
  return dtype;
}

// The dtype of most of the weights' bytes among those that are computed in.
DType PrevailingDType(const Checkpoint& checkpoint) {
  std::map<DType, uint64_t> bytes;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (tensor.dtype == DType::kF32 || tensor.dtype == DType::kF16 || tensor.dtype == DType::kBF16)
      bytes[tensor.dtype] += tensor.bytes;
  }
  DType most = DType::kF32;
  for (const auto& [dtype, count] : bytes) {
    if (count > bytes[most]) most = dtype;
  }
  return most;
}

std::vector<int64_t> ReadEnds(ConfigReader& config) {
  std::vector<int64_t> ids = config.Ids("eos_token_id");
  if (ids.size() <= kEndsMax) return ids;
  config.Invalid(absl::StrCat("eos_token_id: expected at most ", kEndsMax, " token ids, found ", ids.size()));
  return {};
}

void ReadEndOfSequence(ConfigReader& config, ConfigReader& generation_config, int32_t otherwise, ModelSpec& spec) {
  std::vector<int64_t> ids = ReadEnds(generation_config);
  const std::vector<int64_t> in_config = ReadEnds(config);
  if (ids.empty()) ids = in_config;
  const bool has_default = otherwise >= 0 && otherwise < spec.vocab_size;
  if (ids.empty() && !config.json().contains("eos_token_id") && has_default) ids = {otherwise};
  for (int64_t id : ids) {
    if (id < 0 || id >= spec.vocab_size) {
      spec.warnings.push_back(
          absl::StrCat("eos_token_id ", id, " is outside the vocabulary of ", spec.vocab_size, " and is ignored"));
    } else if (std::find(spec.eos_token_ids.begin(), spec.eos_token_ids.end(), id) == spec.eos_token_ids.end()) {
      spec.eos_token_ids.push_back(static_cast<int32_t>(id));
    }
  }
}

}  // namespace

std::vector<std::string> SupportedArchitectures() {
  std::vector<std::string> names;
  for (const Architecture& row : kArchitectures) names.push_back(row.model_type);
  return names;
}

absl::StatusOr<ModelSpec> MakeModelSpec(const Json& config, const Json& generation_config, DType dtype) {
  if (!config.is_object())
    return absl::InvalidArgumentError(absl::StrCat("config.json: expected an object, found ", JsonKind(config)));
  ConfigReader reader(config, "config.json");
  const std::string model_type = reader.String("model_type", "");
  CAUSEWAY_RETURN_IF_ERROR(reader.status());
  const std::string supported = absl::StrJoin(SupportedArchitectures(), ", ");
  if (model_type.empty())
    return absl::InvalidArgumentError(absl::StrCat("config.json: model_type is missing; expected one of ", supported));
  const Architecture* row = std::find_if(std::begin(kArchitectures), std::end(kArchitectures),
                                         [&model_type](const Architecture& a) { return model_type == a.model_type; });
  if (row == std::end(kArchitectures)) {
    return absl::UnimplementedError(absl::StrCat("config.json: model_type \"", Printable(model_type),
                                                 "\" is not supported; expected one of ", supported));
  }

  ModelSpec spec = row->make(reader, dtype);
  spec.architecture = row->model_type;
  static const Json* const kEmpty = new Json(Json::object());
  ConfigReader generation(generation_config.is_object() ? generation_config : *kEmpty, "generation_config.json");
  ReadEndOfSequence(reader, generation, row->eos_token_id, spec);
  const std::optional<Quantization> quantization = ReadQuantization(reader);
  reader.JudgeUnreadKeys();
  CAUSEWAY_RETURN_IF_ERROR(reader.status());
  spec.warnings.insert(spec.warnings.end(), reader.warnings().begin(), reader.warnings().end());
  // The model can do without it.
  if (!generation.ok()) spec.warnings.push_back(absl::StrCat(generation.status().message(), "; it is ignored"));
  if (quantization.has_value()) CAUSEWAY_RETURN_IF_ERROR(ApplyQuantization(*quantization, spec));
  return spec;
}

absl::StatusOr<DType> ComputeDType(absl::string_view flag, const Checkpoint& checkpoint) {
  if (flag != "auto") return DTypeFromName(flag);
  return StoredDType(checkpoint.config(), PrevailingDType(checkpoint));
}

}  // namespace causeway
