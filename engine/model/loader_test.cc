#include "engine/weights/loader.h"

#include <atomic>
#include <cstring>
#include <filesystem>

#include <ATen/ops/arange.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "engine/architecture/registry.h"
#include "engine/model/testing.h"
#include "tests/support/tiny_checkpoint.h"

namespace causeway {
namespace {

using testing::AllUnits;
using testing::Context;
using ::testing::HasSubstr;
using testing::Loaded;

class LoaderTest : public ::testing::Test {
 protected:
  // A tensor's values, read past the loader; fp32.
  static at::Tensor Raw(const TinyCheckpoint& tiny, const std::string& name) {
    const TensorInfo& info = tiny.checkpoint().tensors().at(name);
    std::string bytes(info.bytes, '\0');
    EXPECT_TRUE(tiny.checkpoint().Read(info, 0, absl::MakeSpan(bytes)).ok());
    return at::from_blob(bytes.data(), info.shape, at::kFloat).clone();
  }
  // The weight as the operations see it, [out, in].
  at::Tensor Matrix(const LinearWeight& weight) {
    const at::Tensor zero = weight.Forward(at::zeros({1, weight.in_features()}));
    return (weight.Forward(at::eye(weight.in_features())) - zero).t();
  }

  c10::InferenceMode inference_;
  std::unique_ptr<Ops> ops_ = MakeReferenceOps();
};

TEST_F(LoaderTest, PartsAreConcatenatedWhateverTheStagingSizeAndTheReaders) {
  const TinyCheckpoint tiny(TinyLlama({{"intermediate_size", 200}, {"attention_bias", true}}));
  for (const int readers : {1, 3}) {
    // 1 byte: the least step of 64 rows, so that steps end within parts.
    for (const int64_t staging : {int64_t{1}, int64_t{16} << 20}) {
      LoadOptions options;
      options.readers = readers;
      options.staging_bytes = staging;
      const auto model = Loaded(tiny.spec(), tiny.checkpoint(), *ops_, {}, options);
      const LinearWeight& up = *model->layer(2).mlp()->up().weight();
      EXPECT_TRUE(Matrix(up).narrow(0, 0, 200).equal(Raw(tiny, "model.layers.2.mlp.gate_proj.weight")));
      EXPECT_TRUE(Matrix(up).narrow(0, 200, 200).equal(Raw(tiny, "model.layers.2.mlp.up_proj.weight")));
      const at::Tensor biases = model->layer(3).attention().qkv().weight()->Forward(at::zeros({1, 64}))[0];
      EXPECT_TRUE(biases.narrow(0, 64, 32).equal(Raw(tiny, "model.layers.3.self_attn.k_proj.bias")));
      EXPECT_TRUE(model->layer(0).attention_norm().weight().equal(Raw(tiny, "model.layers.0.input_layernorm.weight")));
    }
  }
}

TEST_F(LoaderTest, TransposedWeightsAreTurned) {
  const TinyCheckpoint tiny(TinyGpt2());
  for (const int64_t staging : {int64_t{1}, int64_t{16} << 20}) {
    LoadOptions options;
    options.staging_bytes = staging;
    const auto model = Loaded(tiny.spec(), tiny.checkpoint(), *ops_, {}, options);
    EXPECT_TRUE(Matrix(*model->layer(1).attention().qkv().weight())
                    .allclose(Raw(tiny, "transformer.h.1.attn.c_attn.weight").t(), 0, 1e-6));
    EXPECT_TRUE(Matrix(*model->layer(1).mlp()->down().weight())
                    .allclose(Raw(tiny, "transformer.h.1.mlp.c_proj.weight").t(), 0, 1e-6));
  }
}

TEST_F(LoaderTest, ExpertsAreFilledOneByOneBesideTheirRouter) {
  const TinyCheckpoint tiny(TinyQwen3Moe());
  const auto model = Loaded(tiny.spec(), tiny.checkpoint(), *ops_);
  ASSERT_EQ(model->layer(0).moe(), nullptr);
  const Moe& moe = *model->layer(2).moe();
  ASSERT_EQ(moe.experts().size(), 8u);
  EXPECT_TRUE(Matrix(*moe.router().weight()).equal(Raw(tiny, "model.layers.2.mlp.gate.weight")));
  for (const int e : {0, 7}) {
    const std::string expert = "model.layers.2.mlp.experts." + std::to_string(e);
    const at::Tensor up = Matrix(*moe.experts()[e].up().weight());
    EXPECT_TRUE(up.narrow(0, 0, 40).equal(Raw(tiny, expert + ".gate_proj.weight")));
    EXPECT_TRUE(up.narrow(0, 40, 40).equal(Raw(tiny, expert + ".up_proj.weight")));
    EXPECT_TRUE(Matrix(*moe.experts()[e].down().weight()).equal(Raw(tiny, expert + ".down_proj.weight")));
  }
}

TEST_F(LoaderTest, ProgressCountsEveryByteOnce) {
  for (const Json& config : {TinyLlama({{"tie_word_embeddings", true}}), TinyGpt2()}) {
    const TinyCheckpoint tiny(config);
    int64_t bytes = 0, last = 0, total = 0, calls = 0;
    for (const auto& [name, tensor] : tiny.checkpoint().tensors()) bytes += tensor.bytes;
    LoadOptions options;
    options.staging_bytes = 1;
    options.progress = [&](int64_t done, int64_t of) {
      EXPECT_GE(done, last);
      last = done;
      total = of;
      ++calls;
    };
    Loaded(tiny.spec(), tiny.checkpoint(), *ops_, {}, options);
    EXPECT_EQ(last, bytes);
    EXPECT_EQ(total, bytes);
    EXPECT_GT(calls, 10);
  }
}

TEST_F(LoaderTest, TensorsUsedNeverOrTwiceAreNamed) {
  const TinyCheckpoint tiny(TinyLlama());
  DeviceModel most(Context(tiny.spec(), *ops_), {0, 1, 2, 3, 5, 6});
  EXPECT_THAT(std::string(testing::LoadRank(tiny.spec(), tiny.checkpoint(), most.Targets(), {}).message()),
              HasSubstr("model.layers.3.mlp.down_proj.weight is used 0 times"));
  DeviceModel all(Context(tiny.spec(), *ops_), AllUnits(tiny.spec())), head(Context(tiny.spec(), *ops_), {6});
  LoadTargets both = all.Targets();
  both.linears.push_back(head.Targets().linears.front());
  const absl::Status status = testing::LoadRank(tiny.spec(), tiny.checkpoint(), both, {});
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("lm_head.weight is used 2 times"));
}

TEST_F(LoaderTest, ATiedHeadMayBeCopied) {
  const TinyCheckpoint tiny(TinyLlama({{"tie_word_embeddings", true}}));
  DeviceModel first(Context(tiny.spec(), *ops_), {0, 1, 2}), second(Context(tiny.spec(), *ops_), {3, 4, 5, 6});
  LoadTargets both = first.Targets(), more = second.Targets();
  both.linears.insert(both.linears.end(), more.linears.begin(), more.linears.end());
  both.vectors.insert(both.vectors.end(), more.vectors.begin(), more.vectors.end());
  EXPECT_TRUE(testing::LoadRank(tiny.spec(), tiny.checkpoint(), both, {}).ok());
}

TEST_F(LoaderTest, TiedTensorsThatAreBothStoredHaveToBeEqual) {
  const TinyCheckpoint untied(TinyLlama());
  const absl::StatusOr<ModelSpec> tied =
      MakeModelSpec(TinyLlama({{"tie_word_embeddings", true}}), Json::object(), DType::kF32);
  ASSERT_TRUE(tied.ok()) << tied.status();
  DeviceModel model(Context(*tied, *ops_), AllUnits(*tied));
  const absl::Status status = testing::LoadRank(*tied, untied.checkpoint(), model.Targets(), {});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("lm_head.weight differs from model.embed_tokens.weight"));
}

TEST_F(LoaderTest, AFileThatHasBecomeShorterIsDataLoss) {
  const TinyCheckpoint tiny(TinyLlama());
  const std::string file = tiny.folder() + "/model.safetensors";
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1000);
  DeviceModel model(Context(tiny.spec(), *ops_), AllUnits(tiny.spec()));
  const absl::Status status = testing::LoadRank(tiny.spec(), tiny.checkpoint(), model.Targets(), {});
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
}

TEST_F(LoaderTest, LoadingEndsWhenItIsNotToProceed) {
  const TinyCheckpoint tiny(TinyLlama());
  DeviceModel model(Context(tiny.spec(), *ops_), AllUnits(tiny.spec()));
  int asked = 0;
  int64_t loaded = 0;
  LoadOptions options;
  options.progress = [&loaded](int64_t done, int64_t) { loaded = done; };
  options.proceed = [&asked] {
    return ++asked < 5 ? absl::OkStatus() : absl::NotFoundError("something else is missing");
  };
  const absl::Status status = testing::LoadRank(tiny.spec(), tiny.checkpoint(), model.Targets(), options);
  EXPECT_EQ(status, absl::NotFoundError("something else is missing"));
  EXPECT_LT(asked, 5 + options.readers);
  EXPECT_GT(loaded, 0);
}

TEST_F(LoaderTest, FilesInMemoryAreNotSaidToComeFromTheDisk) {
  const TinyCheckpoint tiny(TinyLlama());
  int calls = 0;
  LoadOptions options;
  options.from_disk = [&calls] { ++calls; };
  Loaded(tiny.spec(), tiny.checkpoint(), *ops_, {}, options);
  EXPECT_EQ(calls, 0) << "they have just been written";
}

}  // namespace
}  // namespace causeway
