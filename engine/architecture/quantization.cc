#include "engine/architecture/quantization.h"

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/architecture/spelling.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

// The linears of the layers that hold most of the weights: attention, MLPs and experts.
std::vector<LinearSpec*> LayerLinears(ModelSpec& spec) {
  std::vector<LinearSpec*> linears;
  for (LayerSpec& layer : spec.layers) {
    linears.insert(linears.end(), {&layer.attention.qkv, &layer.attention.output});
    if (!layer.moe.has_value()) {
      linears.insert(linears.end(), {&layer.mlp.up, &layer.mlp.down});
      continue;
    }
    for (MlpSpec& expert : layer.moe->experts) linears.insert(linears.end(), {&expert.up, &expert.down});
  }
  return linears;
}

bool IsQuantized(const Quantization& quantization, const std::string& path) {
  if (quantization.kept.Contains(path)) return false;
  return quantization.only.empty() ||
         std::any_of(quantization.only.begin(), quantization.only.end(),
                     [&path](const std::string& name) { return absl::EndsWith(path, absl::StrCat(".", name)); });
}

absl::Status CheckSizes(const Quantization& q, const std::string& path, int64_t out, int64_t in) {
  if (q.encoding.kind == WeightEncoding::Kind::kFp8) return absl::OkStatus();
  const int64_t group = q.format.group > 0 ? q.format.group : in;
  if (out % 8 == 0 && in % 8 == 0 && in % group == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("config.json: quantization_config: ", path, " is ", out, " x ", in,
                                                 "; expected outputs and inputs in multiples of 8 and whole groups of ",
                                                 group, " inputs"));
}

// The parameters of a quantized part, in the place of its weight.
std::vector<Parameter> StoredParameters(const LinearSpec& linear, const LinearSpec::Part& part, DType dtype) {
  const int64_t out = part.out_features, in = linear.in_features, groups = linear.format.groups(in), weights = out * in;
  if (linear.encoding.kind == WeightEncoding::Kind::kFp8) {
    const int64_t block = linear.format.group;
    return {{.name = "weight", .dtype = DType::kF8E4M3, .shape = {out, in}},
            {.name = "weight_scale_inv",
             .dtype = dtype,
             .shape = {(out + block - 1) / block, groups},
             .held_bytes = out * groups * 4,
             .stands_for = 0}};
  }
  const bool by_inputs = linear.encoding.kind == WeightEncoding::Kind::kGptq;  // packed along the inputs
  std::vector<Parameter> parameters = {
      {.name = "qweight",
       .dtype = DType::kI32,
       .shape = by_inputs ? std::vector{in / 8, out} : std::vector{in, out / 8},
       .held_bytes = weights / 2,
       .stands_for = weights},
      {.name = "scales", .dtype = dtype, .shape = {groups, out}, .held_bytes = out * groups * 2, .stands_for = 0},
      {.name = "qzeros",
       .dtype = DType::kI32,
       .shape = {groups, out / 8},
       .held_bytes = linear.format.zero_points ? out * groups : 0,
       .stands_for = 0}};
  if (!by_inputs) return parameters;
  // Stored whether or not they say something: each input's group, and a bias, which is zeros where the model has none.
  Parameter& order = parameters.emplace_back(
      Parameter{.name = "g_idx", .dtype = DType::kI32, .shape = {in}, .held_bytes = 0, .stands_for = 0});
  if (linear.format.reordered)
    order.held_bytes = in * 4;
  else if (linear.format.group == 0)
    order.known = {.run = in, .because = "all inputs are one group"};
  else
    order.known = {.run = linear.format.group, .because = "config.json says desc_act false"};
  if (part.bias.empty()) {
    parameters.push_back({.name = "bias",
                          .dtype = dtype,
                          .shape = {out},
                          .held_bytes = 0,
                          .stands_for = 0,
                          .known = {{.run = out, .because = "the model has no bias there"}}});
  }
  return parameters;
}

Parameter* Weight(Module& module) {
  for (Parameter& parameter : module.parameters) {
    if (parameter.name == "weight") return &parameter;
  }
  return nullptr;
}

// What has parameters and is not among `quantized`, numbers replaced where all of a kind stay.
void ListUnquantized(const std::set<std::string>& quantized, ModelSpec& spec) {
  std::set<std::string> kinds, listed;
  for (const std::string& path : quantized) kinds.insert(WithoutNumbers(path));
  VisitParameters(spec.modules, [&](const std::string& path, const Parameter& parameter) {
    std::string name = ModulePath(path);
    if (parameter.buffer || !parameter.tied_to.empty() || parameter.stands_for == 0) return;
    if (quantized.count(name) > 0) {
      if (parameter.name != "bias") return;
      name = path;
    }
    if (const std::string kind = WithoutNumbers(name); kinds.count(kind) == 0) name = kind;
    if (listed.insert(name).second) spec.unquantized.push_back(name);
  });
}

std::string FormatText(const WeightFormat& format) {
  if (format.kind == WeightKind::kInt8) return "int8 by channel";
  return format.group == 0 ? "int4 by channel" : absl::StrCat("int4 in groups of ", format.group);
}

// How a group size is written: -1 is all inputs.
int64_t ReadGroup(ConfigReader& config) {
  const int64_t group = config.Int("group_size|q_group_size", -1, INT64_MAX, 128);
  if (group == -1 || group == 32 || group == 64 || group == 128) return group == -1 ? 0 : group;
  config.Unsupported(absl::StrCat("group_size ", group, " is not supported; expected 32, 64, 128 or -1 (all inputs)"));
  return 0;
}

std::vector<std::string> Names(ConfigReader& config, const std::string& key) {
  std::vector<std::string> names;
  config.Skip(key);
  if (!config.Has(key)) return names;
  const std::function<void(const Json&)> add = [&](const Json& value) {
    if (value.is_array()) {
      for (const Json& item : value) add(item);
    } else if (value.is_string()) {
      names.push_back(value.get<std::string>());
    } else {
      config.Invalid(absl::StrCat(key, ": expected names of modules, found ", JsonExcerpt(value)));
    }
  };
  add(config.json()[key]);
  return names;
}

void Expect(ConfigReader& config, const std::string& key, const std::string& found,
            const std::vector<std::string>& supported) {
  if (std::find(supported.begin(), supported.end(), found) != supported.end()) return;
  config.Unsupported(
      absl::StrCat(key, " \"", Printable(found), "\" is not supported; expected ", absl::StrJoin(supported, " or ")));
}

void ReadFp8(ConfigReader& config, Quantization& q) {
  q.encoding.kind = WeightEncoding::Kind::kFp8;
  q.format = {.kind = WeightKind::kFp8, .group = 128};
  Expect(config, "fmt", config.String("fmt", "e4m3"), {"e4m3", "float8_e4m3fn"});
  Expect(config, "activation_scheme", config.String("activation_scheme", "dynamic"), {"dynamic"});
  if (!config.Has("weight_block_size") || config.json()["weight_block_size"] != Json::array({128, 128})) {
    const Json found = config.Has("weight_block_size") ? config.json()["weight_block_size"] : Json();
    config.Unsupported(absl::StrCat("weight_block_size ", JsonExcerpt(found), " is not supported; expected [128,128]"));
  }
  for (const char* key : {"weight_block_size", "scale_fmt"})
    config.Skip(key);  // scale_fmt is of activations, which stay as they are
}

void ReadBits(ConfigReader& config, bool zero_points, Quantization& q) {
  const bool fine = config.ok();
  const int64_t bits = config.Int("bits|w_bit", 1, 64);
  // What is no number has been complained of.
  if (bits != 4 && config.ok() == fine)
    config.Unsupported(absl::StrCat("bits ", bits, " is not supported with ", q.method, "; expected 4"));
  q.format = {.kind = WeightKind::kInt4, .group = ReadGroup(config), .zero_points = zero_points};
}

void ReadGptq(ConfigReader& config, Quantization& q) {
  q.encoding.kind = WeightEncoding::Kind::kGptq;
  ReadBits(config, !config.Bool("sym", true), q);
  // A single group has no order worth keeping.
  q.format.reordered = config.Bool("desc_act", false) && q.format.group > 0;
  const std::string checkpoint_format = config.String("checkpoint_format", "gptq");
  Expect(config, "checkpoint_format", checkpoint_format, {"gptq", "gptq_v2"});
  q.encoding.zero_offset = checkpoint_format == "gptq" ? 1 : 0;  // the older one stores zeros less one
  if (config.Bool("lm_head", false)) config.Unsupported("lm_head: a quantized head is not supported with gptq");
  q.only = Names(config, "modules_in_block_to_quantize");
  if (config.Has("dynamic") && !config.json()["dynamic"].empty())
    config.Unsupported("dynamic: other options for some modules are not supported");
  // How it was made, and what is as in every such checkpoint.
  for (const char* key : {"dynamic",
                          "damp_percent",
                          "damp_auto_increment",
                          "static_groups",
                          "true_sequential",
                          "model_name_or_path",
                          "model_file_base_name",
                          "quant_method",
                          "is_marlin_format",
                          "tokenizer",
                          "dataset",
                          "batch_size",
                          "meta",
                          "pack_dtype",
                          "use_cuda_fp16",
                          "use_exllama",
                          "exllama_config",
                          "max_input_length",
                          "model_seqlen",
                          "module_name_preceding_first_block",
                          "block_name_to_quantize",
                          "pad_token_id",
                          "disable_exllama",
                          "cache_block_outputs",
                          "backend"})
    config.Skip(key);
}

void ReadAwq(ConfigReader& config, Quantization& q) {
  q.encoding.kind = WeightEncoding::Kind::kAwq;
  ReadBits(config, /*zero_points=*/true, q);
  Expect(config, "version", absl::AsciiStrToLower(config.String("version", "gemm")), {"gemm"});
  if (!config.Bool("zero_point", true)) config.Unsupported("zero_point false is not supported with awq; expected true");
  for (const char* key : {"backend", "do_fuse", "fuse_max_seq_len", "modules_to_fuse", "exllama_config"})
    config.Skip(key);
}

}  // namespace

std::optional<Quantization> ReadQuantization(ConfigReader& config) {
  if (!config.Has("quantization_config")) {
    config.Skip("quantization_config");
    return std::nullopt;
  }
  ConfigReader inner = config.Object("quantization_config");
  Quantization q;
  q.method = inner.String("quant_method", "");
  std::vector<std::string> kept = Names(inner, "modules_to_not_convert");
  for (std::string& name : Names(inner, "ignored_layers")) kept.push_back(std::move(name));
  if (absl::StatusOr<ModuleNames> names = ModuleNames::Make(kept); names.ok()) {
    q.kept = *std::move(names);
  } else {
    inner.Invalid(absl::StrCat("modules_to_not_convert: ", names.status().message()));
  }
  if (q.method == "fp8") {
    ReadFp8(inner, q);
  } else if (q.method == "gptq") {
    ReadGptq(inner, q);
  } else if (q.method == "awq") {
    ReadAwq(inner, q);
  } else {
    // Nothing else in it is looked at.
    const std::string found =
        q.method.empty() ? "is missing" : absl::StrCat("\"", Printable(q.method), "\" is not supported");
    config.Unsupported(absl::StrCat("quantization_config: quant_method ", found,
                                    "; expected fp8 (blocks of 128 x 128), gptq or awq (4 bits), or plain weights, "
                                    "which --quantize makes int8 or int4"));
    return std::nullopt;
  }
  inner.JudgeUnreadKeys();
  config.Merge(inner);
  if (!inner.ok()) return std::nullopt;
  return q;
}

absl::Status ApplyQuantization(const Quantization& quantization, ModelSpec& spec) {
  ModuleFinder modules(spec.modules);
  std::set<std::string> quantized;
  for (LinearSpec* linear : LayerLinears(spec)) {
    const auto is_quantized = [&](const LinearSpec::Part& part) {
      return IsQuantized(quantization, ModulePath(part.weight));
    };
    const auto count = std::count_if(linear->parts.begin(), linear->parts.end(), is_quantized);
    if (count == 0) continue;
    if (count < static_cast<int64_t>(linear->parts.size())) {
      return absl::UnimplementedError(absl::StrCat(
          "config.json: quantization_config quantizes some and not all of ",
          absl::StrJoin(linear->parts, ", ",
                        [](std::string* out, const LinearSpec::Part& part) { out->append(ModulePath(part.weight)); }),
          ", which are computed as one"));
    }
    if (linear->transposed && quantization.encoding.kind == WeightEncoding::Kind::kFp8) {
      return absl::UnimplementedError(absl::StrCat("config.json: quantization_config fp8 is not supported for ",
                                                   spec.architecture, ", whose weights are stored transposed"));
    }
    linear->encoding = quantization.encoding;
    linear->format = quantization.format;
    linear->transposed = false;  // packed weights have a layout of their own
    for (const LinearSpec::Part& part : linear->parts) {
      const std::string path = ModulePath(part.weight);
      CAUSEWAY_RETURN_IF_ERROR(CheckSizes(quantization, path, part.out_features, linear->in_features));
      Module& module = modules.At(path);
      Parameter* weight = Weight(module);
      const std::vector<Parameter> stored = StoredParameters(*linear, part, weight->dtype);
      module.parameters.insert(module.parameters.erase(module.parameters.begin() + (weight - module.parameters.data())),
                               stored.begin(), stored.end());
      quantized.insert(path);
    }
  }
  spec.quantization = quantization.encoding.kind == WeightEncoding::Kind::kFp8
                          ? "fp8 in blocks of 128 x 128"
                          : absl::StrCat(FormatText(quantization.format), " (", quantization.method, ")");
  ListUnquantized(quantized, spec);
  return absl::OkStatus();
}

absl::StatusOr<WeightFormat> ParseQuantize(absl::string_view text) {
  if (text.empty() || text == "none") return WeightFormat{};
  if (text == "int8") return WeightFormat{.kind = WeightKind::kInt8};
  if (text == "int4" || text == "int4:32") return WeightFormat{.kind = WeightKind::kInt4, .group = 32};
  if (text == "int4:64") return WeightFormat{.kind = WeightKind::kInt4, .group = 64};
  return absl::InvalidArgumentError(
      absl::StrCat("quantize \"", text, "\" is not supported; expected none, int8, int4, int4:32 or int4:64"));
}

absl::Status QuantizeOnLoad(const WeightFormat& format, ModelSpec& spec) {
  if (format.kind == WeightKind::kFloat) return absl::OkStatus();
  if (!spec.quantization.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("quantize: the checkpoint's weights are quantized already (",
                                                      spec.quantization, "); expected none"));
  }
  ModuleFinder modules(spec.modules);
  std::set<std::string> quantized;
  const auto quantize = [&](LinearSpec& linear, const WeightFormat& to) {
    linear.format = to;
    for (const LinearSpec::Part& part : linear.parts) {
      const std::string path = ModulePath(part.weight);
      Parameter& weight = *Weight(modules.At(path));
      weight.held_bytes = WeightBytes(to, DTypeBytes(weight.dtype), part.out_features, linear.in_features);
      quantized.insert(path);
    }
  };
  for (LinearSpec* linear : LayerLinears(spec)) quantize(*linear, format);
  quantize(spec.head, {.kind = WeightKind::kInt8});  // of a tied one, the part names the embedding
  spec.quantization = FormatText(format);
  if (format.kind != WeightKind::kInt8) absl::StrAppend(&spec.quantization, ", the head in int8");
  ListUnquantized(quantized, spec);
  return absl::OkStatus();
}

}  // namespace causeway
