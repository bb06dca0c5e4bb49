#include "engine/model/model.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <nlohmann/json.hpp>

#include "engine/architecture/quantization.h"
#include "engine/model/testing.h"
#include "tests/support/tiny_checkpoint.h"

namespace causeway {
namespace {

using testing::Context;
using testing::Loaded;
using testing::OneSequence;

class DeviceModelTest : public ::testing::TestWithParam<Json> {
 protected:
  DeviceModelTest()
      : tiny_(GetParam()),
        model_(Loaded(tiny_.spec(), tiny_.checkpoint(), *ops_)),
        rotary_(MakeRotaryTables(tiny_.spec().rope, 128)),
        ids_(at::arange(0, 40, at::kLong).mul(7).add(3).remainder(90)),
        head_(tiny_.spec().layers.size() + 2) {}

  KvCache NewCache() const { return KvCache(Context(tiny_.spec(), *ops_), model_->layers(), 8); }

  c10::InferenceMode inference_;
  std::unique_ptr<Ops> ops_ = MakeReferenceOps();
  TinyCheckpoint tiny_;
  std::unique_ptr<DeviceModel> model_;
  RotaryTables rotary_;
  at::Tensor ids_;
  const int head_;
};

TEST_P(DeviceModelTest, SegmentsOneAfterTheOtherEqualTheWhole) {
  const AttentionBatch batch = OneSequence(0, 40);
  KvCache cache = NewCache();
  const at::Tensor whole = model_->Forward({0, head_}, {.ids = ids_, .batch = &batch}, rotary_, cache);
  ASSERT_EQ(whole.sizes(), (at::IntArrayRef{40, tiny_.spec().vocab_size}));
  EXPECT_GT(whole.std().item<float>(), 0.1);
  KvCache other = NewCache();
  at::Tensor hidden;
  for (int unit = 0; unit <= head_; ++unit) {
    hidden = model_->Forward({unit, unit}, {.ids = ids_, .hidden = hidden, .batch = &batch}, rotary_, other);
  }
  EXPECT_TRUE(hidden.equal(whole));
}

TEST_P(DeviceModelTest, OnlySelectedRowsReachTheHead) {
  const AttentionBatch batch = OneSequence(0, 40);
  KvCache cache = NewCache();
  const at::Tensor whole = model_->Forward({0, head_}, {.ids = ids_, .batch = &batch}, rotary_, cache);
  const at::Tensor rows = at::tensor(std::vector<int64_t>{4, 39}, at::kLong);
  // Selected as the last layer ends, wherever the segment ends.
  for (const int end : {head_ - 2, head_ - 1, head_}) {
    KvCache other = NewCache();
    at::Tensor some = model_->Forward({0, end}, {.ids = ids_, .rows = rows, .batch = &batch}, rotary_, other);
    EXPECT_EQ(some.size(0), 2);
    if (end < head_)
      some = model_->Forward({end + 1, head_}, {.hidden = some, .rows = rows, .batch = &batch}, rotary_, other);
    EXPECT_TRUE(at::allclose(some, whole.index_select(0, rows), 1e-5, 1e-5));
  }
}

TEST_P(DeviceModelTest, NoSelectedRowsAreNoWork) {
  const AttentionBatch batch = OneSequence(0, 40);
  KvCache cache = NewCache();
  const at::Tensor none = at::tensor(std::vector<int64_t>{}, at::kLong);
  EXPECT_EQ(model_->Forward({0, head_}, {.ids = ids_, .rows = none, .batch = &batch}, rotary_, cache).size(0), 0);
}

TEST_P(DeviceModelTest, ChunksEqualTheWhole) {
  KvCache cache = NewCache();
  const AttentionBatch all = OneSequence(0, 40);
  const at::Tensor whole = model_->Forward({0, head_}, {.ids = ids_, .batch = &all}, rotary_, cache);
  KvCache other = NewCache();
  for (int64_t first : {0, 13, 14, 32}) {
    const int64_t end = first == 0 ? 13 : first == 13 ? 14 : first == 14 ? 32 : 40;
    const AttentionBatch batch = OneSequence(first, end - first);
    const at::Tensor chunk =
        model_->Forward({0, head_}, {.ids = ids_.narrow(0, first, end - first), .batch = &batch}, rotary_, other);
    EXPECT_TRUE(at::allclose(chunk, whole.narrow(0, first, end - first), 1e-4, 1e-4)) << first;
  }
}

TEST_P(DeviceModelTest, AWarmUpRunsOneLayerOfEachShape) {
  const AttentionBatch batch = OneSequence(0, 40);
  KvCache cache = NewCache();
  model_->Forward({0, head_}, {.ids = ids_, .batch = &batch, .one_of_each = true}, rotary_, cache);
  EXPECT_GT(cache.layer(0).keys.abs().max().item<float>(), 0);
  EXPECT_EQ(cache.layer(1).keys.abs().max().item<float>(), 0);
}

TEST_P(DeviceModelTest, ATiedHeadSharesTheEmbeddingsMemory) {
  const LoadTargets targets = model_->Targets();
  int uses = 0;
  for (const LinearTarget& linear : targets.linears)
    uses += linear.spec.parts.front().weight == tiny_.spec().embedding_weight;
  EXPECT_EQ(uses, 1);
  const size_t tables = tiny_.spec().position_weight.empty() ? 1 : 2, head = tiny_.spec().tied_head ? 0 : 1;
  EXPECT_EQ(targets.linears.size(), tables + 4 * tiny_.spec().layers.size() + head);
}

INSTANTIATE_TEST_SUITE_P(Models, DeviceModelTest,
                         ::testing::Values(TinyLlama(), TinyLlama({{"tie_word_embeddings", true}}),
                                           TinyLlama({{"attention_bias", true}, {"mlp_bias", true}, {"head_dim", 24}}),
                                           // Norms of queries and keys, and a window on all layers but the first.
                                           TinyLlama({{"model_type", "qwen3"},
                                                      {"head_dim", 24},
                                                      {"use_sliding_window", true},
                                                      {"sliding_window", 9},
                                                      {"max_window_layers", 1}}),
                                           TinyGpt2()));

TEST(MixedLayersTest, AWarmUpRunsAnMlpAndAMixture) {
  c10::InferenceMode inference;
  const std::unique_ptr<Ops> ops = MakeReferenceOps();
  const TinyCheckpoint tiny(TinyQwen3Moe());
  const auto model = Loaded(tiny.spec(), tiny.checkpoint(), *ops);
  KvCache cache(Context(tiny.spec(), *ops), model->layers(), 8);
  const AttentionBatch batch = OneSequence(0, 40);
  const RotaryTables rotary = MakeRotaryTables(tiny.spec().rope, 128);
  model->Forward({0, 6}, {.ids = at::arange(40, at::kLong), .batch = &batch, .one_of_each = true}, rotary, cache);
  for (int layer = 0; layer < 4; ++layer)
    EXPECT_EQ(cache.layer(layer).keys.abs().max().item<float>() > 0, layer < 2) << layer;
  EXPECT_EQ(model->ExpertLoads().at(1).steps, 1);
  EXPECT_EQ(model->ExpertLoads().at(2).steps, 0);
  model->ClearExpertLoads();
  EXPECT_EQ(model->ExpertLoads().at(1).steps, 0);
}

TEST(MixedLayersTest, AWarmUpRunsALayerOfEachSetOfFormats) {
  c10::InferenceMode inference;
  const std::unique_ptr<Ops> ops = MakeReferenceOps();
  const TinyCheckpoint tiny(TinyLlama());
  ModelSpec spec = tiny.spec();
  ASSERT_TRUE(QuantizeOnLoad({WeightKind::kInt8}, spec).ok());
  spec.layers[2] = tiny.spec().layers[2];
  spec.layers[3].mlp.down.format = {};
  const auto model = Loaded(spec, tiny.checkpoint(), *ops);
  KvCache cache(Context(spec, *ops), model->layers(), 8);
  const AttentionBatch batch = OneSequence(0, 40);
  const RotaryTables rotary = MakeRotaryTables(spec.rope, 128);
  model->Forward({0, 6}, {.ids = at::arange(40, at::kLong), .batch = &batch, .one_of_each = true}, rotary, cache);
  for (int layer = 0; layer < 4; ++layer)
    EXPECT_EQ(cache.layer(layer).keys.abs().max().item<float>() > 0, layer != 1) << layer;
}

}  // namespace
}  // namespace causeway
