#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
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

constexpr char kGpt2[] =
    R"({"model_type": "gpt2", "vocab_size": 6, "n_embd": 4, "n_layer": 2, "n_head": 2, "n_positions": 5})";
constexpr char kLlama[] =
    R"({"model_type": "llama", "vocab_size": 6, "hidden_size": 4, "intermediate_size": 3, "num_hidden_layers": 12,
                              "num_attention_heads": 2})";

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
      if (!p.buffer && p.tied_to.empty()) tensors_.push_back(Tensor(path, p.shape));
    });
  }
  void Rename(const std::function<std::string(const std::string&)>& rename) {
    for (TestTensor& tensor : tensors_) tensor.name = rename(tensor.name);
  }
  // MatchTensors on a checkpoint of tensors_.
  absl::StatusOr<std::map<std::string, const TensorInfo*>> Match() {
    folder_.Write("model.safetensors", SafetensorsFile(tensors_));
    auto opened = Checkpoint::Open(folder_.path());
    if (!opened.ok()) return opened.status();
    checkpoint_ = *std::move(opened);
    return MatchTensors(spec_, *checkpoint_);
  }
  std::string Error() { return Message(Match().status()); }

  TestFolder folder_;
  ModelSpec spec_;
  std::vector<TestTensor> tensors_;
  std::unique_ptr<Checkpoint> checkpoint_;
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
  EXPECT_EQ(matched->at("transformer.h.1.attn.c_attn.weight")->shape, (std::vector<int64_t>{4, 12}));
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
  EXPECT_EQ(matched->at("transformer.h.0.attn.c_attn.bias")->name, "h.0.attn.c_attn.bias");
  EXPECT_EQ(matched->count("lm_head.weight"), 0u);
  EXPECT_EQ(matched->count("transformer.h.0.attn.bias"), 0u);
}

TEST_F(MatchTest, LlamaWithoutItsPrefixAndWithOldBuffers) {
  Use(kLlama);
  Rename([](const std::string& name) { return WithoutPrefix(name, "model."); });
  tensors_.push_back(Tensor("layers.11.self_attn.rotary_emb.inv_freq", {1}, "F32", 4));
  const auto matched = Match();
  ASSERT_TRUE(matched.ok()) << matched.status();
  EXPECT_EQ(matched->at("model.layers.11.mlp.up_proj.weight")->name, "layers.11.mlp.up_proj.weight");
  EXPECT_EQ(matched->at("lm_head.weight")->name, "lm_head.weight");
}

TEST_F(MatchTest, OfTiedTensorsEitherOneWillDo) {
  Use(kGpt2);
  ASSERT_EQ(tensors_[0].name, "transformer.wte.weight");
  tensors_[0].name = "lm_head.weight";
  const auto matched = Match();
  ASSERT_TRUE(matched.ok()) << matched.status();
  EXPECT_EQ(matched->at("transformer.wte.weight")->name, "lm_head.weight");
  EXPECT_EQ(matched->size(), tensors_.size());
  tensors_[0].name = "other.weight";
  EXPECT_THAT(Error(),
              AllOf(HasSubstr("missing: transformer.wte.weight"), Not(HasSubstr("missing: lm_head.weight"))));
}

TEST_F(MatchTest, TiedTensorsThatDifferAreRefused) {
  Use(kGpt2);
  tensors_.push_back(Tensor("lm_head.weight", {6, 4}));
  ASSERT_TRUE(Match().ok());
  EXPECT_TRUE(CheckTiedTensors(spec_, *checkpoint_).ok());
  tensors_.back().data.back() = 'y';
  EXPECT_TRUE(Match().ok()) << "headers don't show it";
  EXPECT_THAT(Message(CheckTiedTensors(spec_, *checkpoint_)),
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

TEST_F(MatchTest, ABiasOfAProjectionIsNoInertBuffer) {
  Use(kGpt2);
  tensors_.push_back(Tensor("h.0.attn.c_attn.masked_bias", {1}));
  EXPECT_THAT(Error(), AllOf(HasSubstr("unexpected: h.0.attn.c_attn.masked_bias"), Not(HasSubstr("missing:"))));
}

}  // namespace
}  // namespace causeway
