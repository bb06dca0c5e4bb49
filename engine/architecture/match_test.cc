#include "absl/strings/match.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/architecture/registry.h"
#include "engine/checkpoint/testing.h"

namespace causeway {
namespace {

using ::causeway::testing::Message;
using ::causeway::testing::SafetensorsFile;
using ::causeway::testing::TestFolder;
using ::causeway::testing::TestTensor;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

constexpr char kGpt2[] =
    R"({"model_type": "gpt2", "vocab_size": 6, "n_embd": 4, "n_layer": 2, "n_head": 2, "n_positions": 5})";
constexpr char kLlama[] =
    R"({"model_type": "llama", "vocab_size": 6, "hidden_size": 4, "intermediate_size": 3, "num_hidden_layers": 12,
                              "num_attention_heads": 2})";

constexpr char kMixtral[] =
    R"({"model_type": "mixtral", "vocab_size": 6, "hidden_size": 4, "intermediate_size": 3, "num_hidden_layers": 2,
                              "num_attention_heads": 2, "num_local_experts": 3})";
constexpr char kQwen3Moe[] =
    R"({"model_type": "qwen3_moe", "vocab_size": 6, "hidden_size": 4, "intermediate_size": 5, "num_hidden_layers": 2,
                              "num_attention_heads": 2, "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 3})";

TestTensor Tensor(const std::string& name, const std::vector<int64_t>& shape, const std::string& dtype = "BF16",
                  int64_t size = 2) {
  int64_t bytes = size;
  for (int64_t d : shape) bytes *= d;
  return {name, dtype, shape, std::string(bytes, 'x')};
}

class MatchTest : public ::testing::Test {
 protected:
  void Use(const char* config) {
    folder_.Write("config.json", config);
    spec_ = *MakeModelSpec(Json::parse(config), Json::object(), DType::kF32);
    tensors_.clear();
    VisitParameters(spec_.modules, [this](const std::string& path, const Parameter& p) {
      if (p.stored() && p.tied_to.empty()) tensors_.push_back(Tensor(path, p.shape));
    });
  }
  // Layer 1's three experts, [3, 4] each, as transformers 5 holds them.
  void Stack() {
    spec_tensors_ = tensors_.size();
    std::vector<TestTensor> kept;
    for (const TestTensor& tensor : tensors_) {
      const bool moe = absl::StrContains(tensor.name, ".experts.") || absl::EndsWith(tensor.name, ".gate.weight");
      if (!moe || absl::StrContains(tensor.name, "layers.0.")) kept.push_back(tensor);
    }
    kept.push_back(Tensor("model.layers.1.mlp.experts.gate_up_proj", {3, 6, 4}));
    kept.push_back(Tensor("model.layers.1.mlp.experts.down_proj", {3, 4, 3}));
    kept.push_back(Tensor("model.layers.1.mlp.gate.weight", {3, 4}));
    tensors_ = kept;
  }
  void Rename(const std::function<std::string(const std::string&)>& rename) {
    for (TestTensor& tensor : tensors_) tensor.name = rename(tensor.name);
  }
  // MatchTensors on a checkpoint of tensors_.
  absl::StatusOr<std::map<std::string, TensorInfo>> Match() {
    folder_.Write("model.safetensors", SafetensorsFile(tensors_));
    auto opened = Checkpoint::Open(folder_.path());
    if (!opened.ok()) return opened.status();
    checkpoint_ = *std::move(opened);
    return MatchTensors(spec_, *checkpoint_, &unused_);
  }
  std::string Error() { return Message(Match().status()); }

  TestFolder folder_;
  ModelSpec spec_;
  size_t spec_tensors_ = 0;
  std::vector<TestTensor> tensors_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::vector<std::string> unused_;
};

std::string WithoutPrefix(const std::string& name, const std::string& prefix) {
  return absl::StartsWith(name, prefix) ? name.substr(prefix.size()) : name;
}

TEST_F(MatchTest, CanonicalNamesAndAllThreeDTypes) {
  Use(kGpt2);
  tensors_[0] = Tensor(tensors_[0].name, tensors_[0].shape, "F32", 4);
  tensors_[1] = Tensor(tensors_[1].name, tensors_[1].shape, "F16", 2);
  const auto matched = Match();
  ASSERT_TRUE(matched.ok()) << matched.status();
  EXPECT_EQ(matched->size(), tensors_.size());
  EXPECT_EQ(matched->at("transformer.h.1.attn.c_attn.weight").shape, (std::vector<int64_t>{4, 12}));
}

TEST_F(MatchTest, PublishedGpt2Names) {
  Use(kGpt2);
  Rename([](const std::string& name) { return WithoutPrefix(name, "transformer."); });
  tensors_.push_back(Tensor("h.0.attn.bias", {1, 1, 5, 5}, "F32", 4));
  tensors_.push_back(Tensor("h.1.attn.bias", {1, 1, 5, 5}, "BOOL", 1));
  tensors_.push_back(Tensor("h.1.attn.masked_bias", {}, "F32", 4));
  tensors_.push_back(Tensor("lm_head.weight", {6, 4}));
  const auto matched = Match();
  ASSERT_TRUE(matched.ok()) << matched.status();
  EXPECT_EQ(matched->at("transformer.h.0.attn.c_attn.bias").name, "h.0.attn.c_attn.bias");
  EXPECT_EQ(matched->count("lm_head.weight"), 0u);
  EXPECT_EQ(matched->count("transformer.h.0.attn.bias"), 0u);
}

TEST_F(MatchTest, LlamaWithoutItsPrefixAndWithOldBuffers) {
  Use(kLlama);
  Rename([](const std::string& name) { return WithoutPrefix(name, "model."); });
  tensors_.push_back(Tensor("layers.11.self_attn.rotary_emb.inv_freq", {1}, "F32", 4));
  const auto matched = Match();
  ASSERT_TRUE(matched.ok()) << matched.status();
  EXPECT_EQ(matched->at("model.layers.11.mlp.up_proj.weight").name, "layers.11.mlp.up_proj.weight");
  EXPECT_EQ(matched->at("lm_head.weight").name, "lm_head.weight");
}

TEST_F(MatchTest, OfTiedTensorsEitherOneWillDo) {
  Use(kGpt2);
  ASSERT_EQ(tensors_[0].name, "transformer.wte.weight");
  tensors_[0].name = "lm_head.weight";
  const auto matched = Match();
  ASSERT_TRUE(matched.ok()) << matched.status();
  EXPECT_EQ(matched->at("transformer.wte.weight").name, "lm_head.weight");
  EXPECT_EQ(matched->size(), tensors_.size());
  tensors_[0].name = "other.weight";
  EXPECT_THAT(Error(), AllOf(HasSubstr("missing: transformer.wte.weight"), Not(HasSubstr("missing: lm_head.weight"))));
}

TEST_F(MatchTest, TiedTensorsThatDifferAreRefused) {
  Use(kGpt2);
  tensors_.push_back(Tensor("lm_head.weight", {6, 4}));
  ASSERT_TRUE(Match().ok());
  EXPECT_TRUE(CheckContents(spec_, *checkpoint_).ok());
  tensors_.back().data.back() = 'y';
  EXPECT_TRUE(Match().ok()) << "headers don't show it";
  EXPECT_THAT(Message(CheckContents(spec_, *checkpoint_)),
              AllOf(HasSubstr(folder_.path()), HasSubstr("lm_head.weight differs from transformer.wte.weight"),
                    HasSubstr("tie_word_embeddings: false")));
  tensors_.back() = Tensor("lm_head.weight", {6, 4}, "F32", 4);
  EXPECT_THAT(Error(), HasSubstr("lm_head.weight differs from transformer.wte.weight"));
}

TEST_F(MatchTest, AnUntiedHeadMustBeThere) {
  Use(kLlama);
  tensors_.pop_back();
  EXPECT_THAT(Error(), HasSubstr("missing: lm_head.weight [6, 4]"));
}

TEST_F(MatchTest, StackedExpertsAreSlices) {
  for (const bool published : {true, false}) {
    Use(published ? kMixtral : kQwen3Moe);
    const std::string block = published ? "model.layers.1.block_sparse_moe." : "model.layers.1.mlp.";
    const std::string gate = published ? "w1" : "gate_proj", up = published ? "w3" : "up_proj",
                      down = published ? "w2" : "down_proj";
    Stack();
    const auto matched = Match();
    ASSERT_TRUE(matched.ok()) << matched.status();
    EXPECT_EQ(matched->at(block + "gate.weight").name, "model.layers.1.mlp.gate.weight");
    const TensorInfo& whole = checkpoint_->tensors().at("model.layers.1.mlp.experts.gate_up_proj");
    const TensorInfo& of_gate = matched->at(block + "experts.2." + gate + ".weight");
    const TensorInfo& of_up = matched->at(block + "experts.2." + up + ".weight");
    EXPECT_EQ(of_gate.name, "model.layers.1.mlp.experts.gate_up_proj[2]");
    EXPECT_EQ(of_gate.shape, (std::vector<int64_t>{3, 4}));
    EXPECT_EQ(of_gate.bytes, 24u);
    EXPECT_EQ(of_gate.offset, whole.offset + 4 * 24);
    EXPECT_EQ(of_up.offset, whole.offset + 5 * 24);
    EXPECT_EQ(matched->at(block + "experts.1." + down + ".weight").shape, (std::vector<int64_t>{4, 3}));
    // Layer 0's stay where they were.
    EXPECT_EQ(matched->at("model.layers.0" + block.substr(14) + "experts.2." + up + ".weight").bytes, 24u);
    EXPECT_EQ(matched->size(), spec_tensors_);
  }
}

TEST_F(MatchTest, StacksOfAModelSavedWithoutItsHead) {
  Use(kMixtral);
  Stack();
  Rename([](const std::string& name) { return WithoutPrefix(name, "model."); });
  const auto matched = Match();
  ASSERT_TRUE(matched.ok()) << matched.status();
  EXPECT_EQ(matched->at("model.layers.1.block_sparse_moe.experts.2.w2.weight").name,
            "layers.1.mlp.experts.down_proj[2]");
  EXPECT_EQ(matched->size(), spec_tensors_);
}

TEST_F(MatchTest, StacksThatDoNotFitAreNamed) {
  Use(kMixtral);
  Stack();
  TestTensor& both = tensors_[tensors_.size() - 3];
  ASSERT_EQ(both.name, "model.layers.1.mlp.experts.gate_up_proj");
  const TestTensor right = both;
  both = Tensor(right.name, {3, 5, 4});
  EXPECT_THAT(Error(),
              AllOf(HasSubstr(right.name + " has the shape [3, 5, 4], expected a stack [experts, 2 * rows, ...]"),
                    HasSubstr("missing: model.layers.1.block_sparse_moe.experts.0.w1.weight [3, 4]")));
  both = Tensor(right.name, {4, 6, 4});
  EXPECT_THAT(Error(), HasSubstr("0 missing, 0 unexpected, 2 wrong"));
  EXPECT_THAT(Error(), HasSubstr("wrong: model.layers.1.mlp.experts.gate_up_proj[3] would be "));
  both = Tensor(right.name, {3, 8, 4});
  EXPECT_THAT(Error(), HasSubstr("experts.2.w3.weight has the shape [4, 4], expected [3, 4]"));
  // No bytes at all, and as many experts as there is no memory for.
  for (const std::vector<int64_t>& shape :
       std::vector<std::vector<int64_t>>{{int64_t{1} << 40, 0, 4}, {3, 6, 0}, {0, 6, 4}, {4097, 2, 1}, {3}}) {
    both = Tensor(right.name, shape);
    EXPECT_THAT(Error(), HasSubstr(absl::StrCat(right.name, " has the shape [", absl::StrJoin(shape, ", "),
                                                "], expected a stack [experts, 2 * rows, ...] of up to 4096 experts")));
  }
  both = right;
  tensors_.push_back(Tensor("model.layers.1.block_sparse_moe.experts.0.w2.weight", {4, 3}));
  EXPECT_THAT(Error(), HasSubstr("model.layers.1.block_sparse_moe.experts.0.w2.weight is stored twice, as "));
}

TEST_F(MatchTest, EverythingWrongIsListedAtOnce) {
  Use(kGpt2);
  const std::string gone = tensors_[0].name;
  tensors_[0].name = "transformer.h.0.attn.q_norm.weight";
  tensors_[1] = Tensor(tensors_[1].name, {7, 4});
  tensors_[2] = Tensor(tensors_[2].name, tensors_[2].shape, "F64", 8);
  tensors_.push_back(Tensor("h.2.attn.c_attn.bias", {12}));
  tensors_.push_back(Tensor("wpe.weight", {5, 4}));
  EXPECT_THAT(Error(), AllOf(HasSubstr(folder_.path()), HasSubstr("(gpt2): 1 missing, 2 unexpected, 3 wrong"),
                             HasSubstr("missing: " + gone + " [6, 4]"),
                             HasSubstr("unexpected: transformer.h.0.attn.q_norm.weight"),
                             HasSubstr("unexpected: h.2.attn.c_attn.bias"),
                             HasSubstr("transformer.wpe.weight has the shape [7, 4], expected [5, 4]"),
                             HasSubstr("has the dtype fp64, expected bf16, fp16 or fp32")));
  EXPECT_THAT(Error(),
              HasSubstr("transformer.wpe.weight is stored twice, as transformer.wpe.weight and as wpe.weight"));
}

TEST_F(MatchTest, LongListsAreCut) {
  Use(kLlama);
  const size_t all = tensors_.size();
  ASSERT_GT(all, 100u);
  Rename([](const std::string& name) { return "net." + name; });
  const std::string error = Error();
  EXPECT_THAT(error, AllOf(HasSubstr(absl::StrCat(all, " missing, ", all, " unexpected")),
                           HasSubstr(absl::StrCat("missing: ", all - 20, " more"))));
  EXPECT_LT(error.size(), 5000u);
}

// As transformers has it: weights that the model doesn't use are told of.
TEST_F(MatchTest, TensorsWithoutAUseAreNoError) {
  Use(kGpt2);
  const size_t used = tensors_.size();
  for (const char* name : {"v_head.summary.weight", "h.0.attn.c_attn.masked_bias", "h.99.ln_1.weight"})
    tensors_.push_back(Tensor(name, {1}));
  const auto matched = Match();
  ASSERT_TRUE(matched.ok()) << matched.status();
  EXPECT_EQ(matched->size(), used);
  EXPECT_THAT(unused_,
              UnorderedElementsAre("h.0.attn.c_attn.masked_bias", "h.99.ln_1.weight", "v_head.summary.weight"));
}

}  // namespace
}  // namespace causeway
