// The module trees against the ones that transformers builds, and the specs against their trees.
#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/architecture/registry.h"
#include "engine/checkpoint/json.h"

namespace causeway {
namespace {

Json Row(const Module& module, const std::string& path) {
  Json held = Json::array();
  for (const Parameter& p : module.parameters) {
    held.push_back({p.name, p.shape, p.buffer ? "buffer" : p.tied_to.empty() ? "parameter" : p.tied_to});
  }
  return {path, module.kind, module.block, held};
}

void Flatten(const Module& module, const std::string& path, Json* rows) {
  rows->push_back(Row(module, path));
  for (const Module& child : module.children) Flatten(child, JoinPath(path, child.name), rows);
}

class ModulesTest : public ::testing::Test {
 protected:
  static Json Cases() {
    return *ReadJsonFile(CAUSEWAY_SOURCE_DIR "/engine/architecture/testdata/modules.json", 1 << 20);
  }
};

TEST_F(ModulesTest, EqualTheFieldsToTheChild) {
  const Json cases = Cases();
  ASSERT_GE(cases.size(), 6u);
  for (const Json& c : cases) {
    const auto spec = MakeModelSpec(c["config"], Json::object(), DType::kF32);
    ASSERT_TRUE(spec.ok()) << spec.status();
    Json rows = Json::array();
    Flatten(spec->modules, "", &rows);
    ASSERT_EQ(rows.size(), c["modules"].size()) << c["config"];
    for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(rows[i], c["modules"][i]) << c["config"];
  }
}

// In the tree's order, backwards and in none.
TEST_F(ModulesTest, AreFoundByTheirPaths) {
  std::mt19937 random(1);
  for (const Json& c : Cases()) {
    ModelSpec spec = *MakeModelSpec(c["config"], Json::object(), DType::kF32);
    std::vector<std::pair<std::string, const Module*>> all;
    const std::function<void(const Module&, const std::string&)> collect = [&](const Module& module,
                                                                               const std::string& path) {
      all.emplace_back(path, &module);
      for (const Module& child : module.children) collect(child, JoinPath(path, child.name));
    };
    collect(spec.modules, "");
    ModuleFinder finder(spec.modules);
    for (const auto& [path, module] : all) ASSERT_EQ(&finder.At(path), module) << path;
    std::reverse(all.begin(), all.end());
    for (const auto& [path, module] : all) ASSERT_EQ(&finder.At(path), module) << path;
    std::shuffle(all.begin(), all.end(), random);
    for (const auto& [path, module] : all) ASSERT_EQ(&finder.At(path), module) << path;
  }
}

// Each tensor that the spec names is in the tree, with the shape that the spec gives it, and the tree holds no other.
class SpecChecker {
 public:
  explicit SpecChecker(const ModelSpec& spec) {
    VisitParameters(spec.modules, [this](const std::string& path, const Parameter& p) {
      if (p.stored() && p.tied_to.empty()) shapes_[path] = p.shape;
    });
    Use(spec.embedding_weight, {spec.vocab_size, spec.hidden_size});
    if (!spec.position_weight.empty()) Use(spec.position_weight, {spec.context_max, spec.hidden_size});
    for (const LayerSpec& layer : spec.layers) {
      UseNorm(layer.attention_norm, spec.hidden_size);
      UseNorm(layer.mlp_norm, spec.hidden_size);
      UseLinear(layer.attention.qkv);
      EXPECT_EQ(layer.attention.qkv.out_features(), (spec.heads + 2 * spec.kv_heads) * spec.head_dim);
      EXPECT_EQ(layer.attention.output.in_features, spec.heads * spec.head_dim);
      UseLinear(layer.attention.output);
      if (const auto& norms = layer.attention.norms) {
        UseNorm(norms->query, spec.head_dim * (norms->per_head ? 1 : spec.heads));
        UseNorm(norms->key, spec.head_dim * (norms->per_head ? 1 : spec.kv_heads));
      }
      if (layer.moe) {
        UseMoe(*layer.moe);
      } else {
        UseMlp(layer.mlp, spec.intermediate_size);
      }
    }
    UseNorm(spec.final_norm, spec.hidden_size);
    if (spec.tied_head) {
      EXPECT_EQ(spec.head.parts.at(0).weight, spec.embedding_weight);
    } else {
      UseLinear(spec.head);
    }
    EXPECT_EQ(spec.head.out_features(), spec.vocab_size);
    EXPECT_THAT(shapes_, ::testing::IsEmpty());
  }

 private:
  void Use(const std::string& name, const std::vector<int64_t>& shape) {
    ASSERT_EQ(shapes_.count(name), 1u) << name << " is not in the tree, or used twice";
    EXPECT_EQ(shapes_[name], shape) << name;
    shapes_.erase(name);
  }
  void UseNorm(const NormSpec& norm, int64_t width) {
    Use(norm.weight, {width});
    if (!norm.bias.empty()) Use(norm.bias, {width});
  }
  void UseMlp(const MlpSpec& mlp, int64_t width) {
    UseLinear(mlp.up);
    EXPECT_EQ(mlp.up.out_features(), width * (mlp.gated ? 2 : 1));
    EXPECT_EQ(mlp.down.in_features, width);
    UseLinear(mlp.down);
  }
  void UseMoe(const MoeSpec& moe) {
    UseLinear(moe.router);
    EXPECT_EQ(moe.router.out_features(), static_cast<int64_t>(moe.experts.size()));
    if (!moe.correction_bias.empty()) Use(moe.correction_bias, {moe.router.out_features()});
    for (const MlpSpec& expert : moe.experts) UseMlp(expert, expert.down.in_features);
  }
  void UseLinear(const LinearSpec& linear) {
    for (const LinearSpec::Part& part : linear.parts) {
      Use(part.weight, linear.transposed ? std::vector<int64_t>{linear.in_features, part.out_features}
                                         : std::vector<int64_t>{part.out_features, linear.in_features});
      if (!part.bias.empty()) Use(part.bias, {part.out_features});
    }
  }
  std::map<std::string, std::vector<int64_t>> shapes_;
};

TEST_F(ModulesTest, SpecsUseEveryTensorOfTheirTreeOnce) {
  for (const Json& c : Cases()) {
    const auto spec = MakeModelSpec(c["config"], Json::object(), DType::kBF16);
    ASSERT_TRUE(spec.ok()) << spec.status();
    SpecChecker checker(*spec);
  }
}

TEST(ParameterCountTest, EqualsTheModelsThatArePublished) {
  const auto count = [](const char* config) {
    const auto spec = MakeModelSpec(Json::parse(config), Json::object(), DType::kBF16);
    EXPECT_TRUE(spec.ok()) << spec.status();
    return spec.ok() ? spec->parameter_count() : 0;
  };
  EXPECT_EQ(
      count(
          R"({"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024})"),
      124'439'808);
  EXPECT_EQ(
      count(
          R"({"model_type": "gpt2", "vocab_size": 50257, "n_embd": 1600, "n_layer": 48, "n_head": 25, "n_positions": 1024})"),
      1'557'611'200);
  EXPECT_EQ(
      count(
          R"({"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
                      "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072})"),
      8'030'261'248);
  EXPECT_EQ(
      count(
          R"({"model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
                      "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "tie_word_embeddings": true})"),
      1'235'814'400);
}

TEST(AttentionScaleTest, FollowsGpt2sOptions) {
  Json config = Json::parse(R"({"model_type": "gpt2", "vocab_size": 96, "n_embd": 32, "n_layer": 3, "n_head": 8})");
  const auto scales = [&config] {
    const auto spec = MakeModelSpec(config, Json::object(), DType::kF32);
    EXPECT_TRUE(spec.ok()) << spec.status();
    std::vector<double> all;
    for (const LayerSpec& layer : spec->layers) all.push_back(layer.attention.scale);
    return all;
  };
  EXPECT_THAT(scales(), ::testing::ElementsAre(0.5, 0.5, 0.5));
  config["scale_attn_by_inverse_layer_idx"] = true;
  EXPECT_THAT(scales(), ::testing::ElementsAre(0.5, 0.25, 0.5 / 3));
  config["scale_attn_weights"] = false;
  EXPECT_THAT(scales(), ::testing::ElementsAre(1, 0.5, 1.0 / 3));
}

}  // namespace
}  // namespace causeway
