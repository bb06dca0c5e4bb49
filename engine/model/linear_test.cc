#include "engine/model/linear.h"

#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/randn.h>
#include <nlohmann/json.hpp>

#include "engine/model/testing.h"
#include "tests/support/tiny_checkpoint.h"

namespace causeway {
namespace {

using testing::Context;
using testing::Loaded;

TEST(ShardTest, NormsOfWholeProjectionsAreCutAsTheHeadsAre) {
  const TinyCheckpoint tiny(TinyLlama({{"model_type", "qwen3"}}));
  const std::unique_ptr<Ops> ops = MakeReferenceOps();
  AttentionSpec spec = tiny.spec().layers[0].attention;
  spec.norms->per_head = false;
  EXPECT_EQ(Attention(Context(tiny.spec(), *ops), spec).norms()[1].weight().numel(),
            tiny.spec().kv_heads * tiny.spec().head_dim);
  const Attention second(Context(tiny.spec(), *ops, {.rank = 1, .size = 2}), spec);
  EXPECT_EQ(second.norms()[0].weight().numel(), tiny.spec().heads * tiny.spec().head_dim / 2);
  EXPECT_EQ(second.norms()[0].first(), tiny.spec().heads * tiny.spec().head_dim / 2);
}

TEST(ShardTest, HeadsAreNotCutThoughTheirColumnsCouldBe) {
  const TinyCheckpoint tiny(TinyLlama({{"num_attention_heads", 1}, {"num_key_value_heads", 1}}));
  const std::unique_ptr<Ops> ops = MakeReferenceOps();
  const ModelContext context = Context(tiny.spec(), *ops, {.rank = 0, .size = 2});
  EXPECT_THROW(Attention(context, tiny.spec().layers[0].attention), c10::Error);
  EXPECT_THROW(KvCache(context, {0}, 4), c10::Error);
}

// Loads both ranks of a group of two and a whole model; shards must add up to the whole, linear by linear and layer by
// layer.
class ShardedModelTest : public ::testing::TestWithParam<Json> {
 protected:
  ShardedModelTest() : tiny_(GetParam(), /*seed=*/3), ops_(MakeReferenceOps()) {
    whole_ = Loaded(tiny_.spec(), tiny_.checkpoint(), *ops_);
    for (int rank : {0, 1})
      ranks_.push_back(Loaded(tiny_.spec(), tiny_.checkpoint(), *ops_, {.rank = rank, .size = 2}));
  }

  c10::InferenceMode inference_;
  TinyCheckpoint tiny_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<DeviceModel> whole_;
  std::vector<std::unique_ptr<DeviceModel>> ranks_;
};

// What plans and searches count is what is loaded.
TEST_P(ShardedModelTest, ARankHasTheSizesOfItsShareOfTheModel) {
  for (const int rank : {0, 1}) {
    const ModelSpec share = *Shard(tiny_.spec(), {.rank = rank, .size = 2});
    const auto expect = [](const Linear& linear, const LinearSpec& spec) {
      EXPECT_EQ(linear.weight()->out_features(), spec.out_features());
      EXPECT_EQ(linear.weight()->in_features(), spec.in_features);
    };
    for (size_t i = 0; i < share.layers.size(); ++i) {
      const Layer& layer = ranks_[rank]->layer(static_cast<int>(i));
      expect(layer.attention().qkv(), share.layers[i].attention.qkv);
      expect(layer.attention().output(), share.layers[i].attention.output);
      expect(layer.mlp()->up(), share.layers[i].mlp.up);
      expect(layer.mlp()->down(), share.layers[i].mlp.down);
    }
    KvCache cache(Context(tiny_.spec(), *ops_, {.rank = rank, .size = 2}), {0}, 4);
    EXPECT_EQ(cache.layer(0).keys.size(1), share.kv_heads);
  }
}

TEST_P(ShardedModelTest, LinearsAddUpToTheWhole) {
  const int64_t hidden = tiny_.spec().hidden_size;
  const at::Tensor x = at::randn({5, hidden});
  const at::Tensor whole = whole_->layer(1).mlp()->Forward(testing::OpsAlone(*ops_), x);
  const at::Tensor sum = ranks_[0]
                             ->layer(1)
                             .mlp()
                             ->Forward(testing::OpsAlone(*ops_), x)
                             .add(ranks_[1]->layer(1).mlp()->Forward(testing::OpsAlone(*ops_), x));
  EXPECT_GT(whole.abs().max().item<float>(), 0.1);
  EXPECT_TRUE(at::allclose(sum, whole, 1e-4, 1e-5));
  // A rank alone is not the whole.
  EXPECT_FALSE(at::allclose(ranks_[0]->layer(1).mlp()->Forward(testing::OpsAlone(*ops_), x), whole, 1e-2, 1e-2));
}

TEST_P(ShardedModelTest, AttentionHeadsAddUpToTheWhole) {
  const ModelSpec& spec = tiny_.spec();
  const at::Tensor x = at::randn({20, spec.hidden_size});
  const AttentionBatch batch = testing::OneSequence(0, 20);
  const RotaryTables rotary = MakeRotaryTables(spec.rope, 64);
  KvCache cache(Context(spec, *ops_), {0}, 4);
  const at::Tensor whole = whole_->layer(0).attention().Forward({*ops_, batch, rotary}, x.clone(), cache.layer(0));
  at::Tensor sum;
  testing::PartsAlone parts;
  for (int rank : {0, 1}) {
    KvCache shard(Context(spec, *ops_, {.rank = rank, .size = 2}), {0}, 4);
    at::Tensor part =
        ranks_[rank]->layer(0).attention().Forward({*ops_, batch, rotary, &parts}, x.clone(), shard.layer(0));
    sum = rank == 0 ? part : sum.add(part);
    // A rank's cache holds its half of the heads.
    const int64_t heads = spec.kv_heads / 2;
    EXPECT_TRUE(at::allclose(shard.layer(0).keys, cache.layer(0).keys.narrow(1, rank * heads, heads), 1e-5, 1e-5));
    EXPECT_TRUE(at::allclose(shard.layer(0).values, cache.layer(0).values.narrow(1, rank * heads, heads), 1e-5, 1e-5));
  }
  EXPECT_GT(whole.abs().max().item<float>(), 0.1);
  EXPECT_TRUE(at::allclose(sum, whole, 1e-4, 1e-5));
}

INSTANTIATE_TEST_SUITE_P(Models, ShardedModelTest,
                         ::testing::Values(TinyLlama(), TinyLlama({{"attention_bias", true}, {"mlp_bias", true}}),
                                           TinyLlama({{"model_type", "qwen3"}}), TinyGpt2({{"n_head", 4}}),
                                           TinyGpt2({{"n_head", 2}, {"tie_word_embeddings", false}})));

}  // namespace
}  // namespace causeway
