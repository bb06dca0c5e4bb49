#include "engine/architecture/parts.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace causeway {
namespace {

struct ActivationRow {
  const char* name;
  Activation activation;
  const char* kind;
};
constexpr ActivationRow kActivations[] = {
    {"silu", Activation::kSilu, "SiLUActivation"},
    {"swish", Activation::kSilu, "SiLU"},
    {"gelu", Activation::kGelu, "GELUActivation"},
    {"gelu_python", Activation::kGelu, "GELUActivation"},
    {"gelu_new", Activation::kGeluTanh, "NewGELUActivation"},
    {"gelu_fast", Activation::kGeluTanh, "FastGELUActivation"},
    {"gelu_accurate", Activation::kGeluTanh, "AccurateGELUActivation"},
    {"gelu_pytorch_tanh", Activation::kGeluTanh, "GELUTanh"},
    {"gelu_python_tanh", Activation::kGeluTanh, "GELUTanh"},
    {"relu", Activation::kRelu, "ReLU"},
};

}  // namespace

ActivationInfo ReadActivation(ConfigReader& config, absl::string_view key, const std::string& otherwise) {
  const std::string name = config.String(key, otherwise);
  std::vector<std::string> known;
  for (const ActivationRow& row : kActivations) {
    if (name == row.name) return {row.activation, row.kind};
    known.push_back(row.name);
  }
  config.Unsupported(
      absl::StrCat(key, " \"", Printable(name), "\" is not supported; expected one of ", absl::StrJoin(known, ", ")));
  return {};
}

Module Leaf(std::string name, std::string kind, std::vector<Parameter> parameters) {
  Module module;
  module.name = std::move(name);
  module.kind = std::move(kind);
  module.parameters = std::move(parameters);
  return module;
}

Module LinearModule(std::string name, int64_t in, int64_t out, bool bias, DType dtype, bool transposed) {
  Module module = Leaf(std::move(name), transposed ? "Conv1D" : "Linear");
  std::vector<int64_t> shape = {out, in};
  if (transposed) std::reverse(shape.begin(), shape.end());
  module.parameters.push_back({.name = "weight", .dtype = dtype, .shape = std::move(shape)});
  if (bias) module.parameters.push_back({.name = "bias", .dtype = dtype, .shape = {out}});
  return module;
}

Module EmbeddingModule(std::string name, int64_t rows, int64_t width, DType dtype) {
  return Leaf(std::move(name), "Embedding", {{.name = "weight", .dtype = dtype, .shape = {rows, width}}});
}

LinearSpec::Part LinearPart(const std::string& path, int64_t out, bool bias) {
  return {.weight = path + ".weight", .bias = bias ? path + ".bias" : "", .out_features = out};
}

NormSpec Norm(NormKind kind, const std::string& path, double eps) {
  return {.kind = kind, .eps = eps, .weight = path + ".weight", .bias = kind == NormKind::kLayer ? path + ".bias" : ""};
}

void AddHead(ModelSpec& spec, const std::string& path, bool tied, DType dtype) {
  spec.tied_head = tied;
  spec.head_path = path;
  spec.head = {.parts = {{.weight = tied ? spec.embedding_weight : path + ".weight",
                          .bias = "",
                          .out_features = spec.vocab_size}},
               .in_features = spec.hidden_size};
  Module head = LinearModule(path, spec.hidden_size, spec.vocab_size, /*bias=*/false, dtype);
  if (tied) head.parameters[0].tied_to = spec.embedding_weight;
  spec.modules.children.push_back(std::move(head));
}

}  // namespace causeway
