#include "tests/support/tiny_checkpoint.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "engine/architecture/registry.h"

namespace causeway {
namespace {

template <typename T>
T OrAbort(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "tiny checkpoint: %s\n", value.status().ToString().c_str());
  std::abort();
}

struct Tensor {
  std::string name;
  const Parameter* parameter;
};

void Collect(const Module& module, const std::string& prefix, std::vector<Tensor>& tensors) {
  for (const Parameter& parameter : module.parameters) {
    if (parameter.stored() && parameter.tied_to.empty()) tensors.push_back({prefix + parameter.name, &parameter});
  }
  for (const Module& child : module.children) Collect(child, prefix + child.name + ".", tensors);
}

// Norms' weights are near 1, and other vectors small. Matrices keep the size of what they multiply, or make it a little
// larger.
std::vector<float> RandomValues(const Tensor& tensor, std::mt19937_64& random) {
  size_t count = 1;
  for (int64_t d : tensor.parameter->shape) count *= d;
  const bool matrix = tensor.parameter->shape.size() > 1;
  const bool scale = !matrix && absl::EndsWith(tensor.name, "weight");
  std::normal_distribution<float> normal(
      scale ? 1.0f : 0.0f, matrix ? 1.6f / std::sqrt(static_cast<float>(tensor.parameter->shape[1])) : 0.1f);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

std::string Bytes(const std::vector<float>& values, DType dtype) {
  std::string bytes(values.size() * DTypeBytes(dtype), '\0');
  if (dtype == DType::kF32) {
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kF16) {
      const _Float16 half = static_cast<_Float16>(values[i]);
      std::memcpy(bytes.data() + 2 * i, &half, 2);
      continue;
    }
    uint32_t word;
    std::memcpy(&word, &values[i], 4);
    const uint16_t upper = (word + 0x7fff + (word >> 16 & 1)) >> 16;  // to nearest, ties to even
    std::memcpy(bytes.data() + 2 * i, &upper, 2);
  }
  return bytes;
}

Json Merged(Json config, const Json& more) {
  config.update(more);
  return config;
}

}  // namespace

Json TinyLlama(const Json& more) {
  return Merged({{"model_type", "llama"},
                 {"architectures", {"LlamaForCausalLM"}},
                 {"vocab_size", 96},
                 {"hidden_size", 64},
                 {"intermediate_size", 112},
                 {"num_hidden_layers", 4},
                 {"num_attention_heads", 4},
                 {"num_key_value_heads", 2},
                 {"max_position_embeddings", 256},
                 {"rms_norm_eps", 1e-5},
                 {"tie_word_embeddings", false},
                 {"eos_token_id", 2},
                 {"dtype", "float32"}},
                more);
}

Json TinyQwen3Moe(const Json& more) {
  return Merged(TinyLlama({{"model_type", "qwen3_moe"},
                           {"architectures", {"Qwen3MoeForCausalLM"}},
                           {"head_dim", 16},
                           {"num_experts", 8},
                           {"num_experts_per_tok", 3},
                           {"moe_intermediate_size", 40},
                           {"norm_topk_prob", true},
                           {"mlp_only_layers", {0}}}),
                more);
}

Json TinyGpt2(const Json& more) {
  return Merged({{"model_type", "gpt2"},
                 {"architectures", {"GPT2LMHeadModel"}},
                 {"vocab_size", 90},
                 {"n_embd", 48},
                 {"n_layer", 3},
                 {"n_head", 3},
                 {"n_positions", 128},
                 {"eos_token_id", 2},
                 {"dtype", "float32"}},
                more);
}

void WriteTinyCheckpoint(const std::string& folder, const Json& config, uint64_t seed) {
  const DType dtype = OrAbort(DTypeFromName(config.value("dtype", "float32")));
  const ModelSpec spec = OrAbort(MakeModelSpec(config, Json::object(), DType::kF32));
  std::vector<Tensor> tensors;
  Collect(spec.modules, "", tensors);
  std::mt19937_64 random(seed);
  Json header = Json::object();
  std::string data;
  for (const Tensor& tensor : tensors) {
    const std::string bytes = Bytes(RandomValues(tensor, random), dtype);
    header[tensor.name] = {{"dtype", dtype == DType::kF32   ? "F32"
                                     : dtype == DType::kF16 ? "F16"
                                                            : "BF16"},
                           {"shape", tensor.parameter->shape},
                           {"data_offsets", {data.size(), data.size() + bytes.size()}}};
    data += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length(8, '\0');
  for (int i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> 8 * i);
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/config.json") << config.dump(2);
  std::ofstream(folder + "/model.safetensors", std::ios::binary) << length << text << data;
}

TinyCheckpoint::TinyCheckpoint(const Json& config, uint64_t seed, DType compute) {
  folder_ = (std::filesystem::temp_directory_path() / "causeway-tiny-XXXXXX").string();
  if (::mkdtemp(folder_.data()) == nullptr) std::abort();
  WriteTinyCheckpoint(folder_, config, seed);
  checkpoint_ = OrAbort(Checkpoint::Open(folder_));
  spec_ = OrAbort(MakeModelSpec(checkpoint_->config(), checkpoint_->generation_config(), compute));
}

TinyCheckpoint::~TinyCheckpoint() { std::filesystem::remove_all(folder_); }

}  // namespace causeway
