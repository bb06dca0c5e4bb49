#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint/testing.h"
#include "engine/engine.h"
#include "engine/threads/processors.h"
#include "tests/support/tiny_checkpoint.h"

namespace causeway {
namespace {

class PlaceModelTest : public ::testing::Test {
 protected:
  absl::StatusOr<PlacedModel> Place(const std::string& model, const std::string& dtype = "auto") {
    EngineOptions options;
    options.model = model;
    options.dtype = dtype;
    options.devices = "simulated:1x64MiB";
    options.plan.max_num_batched_tokens = 64;
    return PlaceModel(options);
  }
  const ::causeway::testing::TestFolder folder_;
};

TEST_F(PlaceModelTest, AutoAsksTheWeightsWhereTheConfigNamesNoDType) {
  Json config = TinyLlama({{"dtype", "bfloat16"}});
  WriteTinyCheckpoint(folder_ / "m", config);
  config.erase("dtype");
  folder_.Write("m/config.json", config.dump());
  const auto placed = Place(folder_ / "m");
  ASSERT_TRUE(placed.ok()) << placed.status();
  EXPECT_EQ(placed->plan.options.dtype, DType::kBF16);
  EXPECT_EQ(Place(folder_ / "m", "fp32")->plan.options.dtype, DType::kF32);
}

TEST_F(PlaceModelTest, PlansKnowTheThreadsThatWillCompute) {
  WriteTinyCheckpoint(folder_ / "m", TinyLlama());
  EngineOptions options;
  options.model = folder_ / "m";
  options.devices = "simulated:1x64MiB";
  options.plan.max_num_batched_tokens = 64;
  const auto automatic = PlaceModel(options);
  ASSERT_TRUE(automatic.ok()) << automatic.status();
  EXPECT_EQ(automatic->plan.options.cpu_threads, ProcessorsAtHand());
  EXPECT_TRUE(automatic->spec.warnings.empty());
  options.executor.cpu_threads = ProcessorsAtHand() + 1;
  const auto more = PlaceModel(options);
  ASSERT_TRUE(more.ok()) << more.status();
  EXPECT_EQ(more->plan.options.cpu_threads, ProcessorsAtHand() + 1);
  EXPECT_THAT(more->spec.warnings, ::testing::Contains(::testing::HasSubstr("more than the processors at hand")));
}

TEST_F(PlaceModelTest, TheNameIsTheFoldersAsGiven) {
  WriteTinyCheckpoint(folder_ / "store/3f2a", TinyLlama());
  std::filesystem::create_directory_symlink(folder_ / "store/3f2a", folder_ / "tiny");
  for (const char* path : {"tiny", "tiny/", "tiny/.", "store/../tiny"}) {
    const auto placed = Place(folder_ / path);
    ASSERT_TRUE(placed.ok()) << placed.status();
    EXPECT_EQ(placed->name, "tiny") << path;
  }
  EXPECT_EQ(Place(folder_ / "store/3f2a")->name, "3f2a");
}

// A plan of a checkpoint that is still being copied, or lies on slow disks, reads the headers only.
TEST_F(PlaceModelTest, ReadsHeadersAlone) {
  WriteTinyCheckpoint(folder_ / "m", TinyLlama());
  folder_.Write("m/config.json", TinyLlama({{"tie_word_embeddings", true}}).dump());
  EXPECT_TRUE(Place(folder_ / "m").ok())
      << "both of the tied tensors are stored, and whether they are equal is for the loader";
}

TEST_F(PlaceModelTest, PlansNeedTheConfigAlone) {
  EngineOptions options;
  options.devices = "2xL4";
  options.plan.max_num_batched_tokens = 64;
  int i = 0;
  for (const Json& config : {TinyLlama({{"tie_word_embeddings", true}}), TinyGpt2(), TinyQwen3Moe()}) {
    options.model = folder_ / absl::StrCat(i++);
    WriteTinyCheckpoint(options.model, config);
    const auto whole = PlaceModel(options, Purpose::kPlanning);
    ASSERT_TRUE(whole.ok()) << whole.status();
    std::filesystem::remove(options.model + "/model.safetensors");
    const auto bare = PlaceModel(options, Purpose::kPlanning);
    ASSERT_TRUE(bare.ok()) << bare.status();
    EXPECT_EQ(PlanJson(bare->plan), PlanJson(whole->plan));
    EXPECT_THAT(bare->spec.warnings, ::testing::Contains(::testing::HasSubstr("does not have the weights")));
  }
  EXPECT_EQ(PlaceModel(options).status().code(), absl::StatusCode::kNotFound) << "to run, they have to be there";
}

TEST_F(PlaceModelTest, NothingRunsOnTheCatalogue) {
  WriteTinyCheckpoint(folder_ / "m", TinyLlama());
  EngineOptions options;
  options.model = folder_ / "m";
  options.devices = "8xH100-80GB";
  EXPECT_THAT(std::string(PlaceModel(options).status().message()), ::testing::HasSubstr("name some that are at hand"));
}

// Weights are counted as the kernels hold them, also where another dtype or format is only tried.
TEST_F(PlaceModelTest, ProposesNarrowerWeightsThatFit) {
  WriteTinyCheckpoint(folder_ / "m",
                      TinyLlama({{"hidden_size", 256}, {"intermediate_size", 1024}, {"vocab_size", 2048}}));
  EngineOptions options;
  options.model = folder_ / "m";
  options.plan.max_num_batched_tokens = 16;
  options.plan.max_num_seqs = 1;
  struct Case {
    const char* devices;
    bool bf16, int8;
  };
  for (const Case& c :
       {Case{"simulated:1x15MiB", true, true}, {"simulated:1x9MiB", false, true}, {"simulated:1x4MiB", false, false}}) {
    options.devices = c.devices;
    const absl::Status status = PlaceModel(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EngineOptions bf16 = options, int8 = options;
    bf16.dtype = "bf16";
    int8.quantize = "int8";
    EXPECT_EQ(PlaceModel(bf16).ok(), c.bf16) << c.devices;
    EXPECT_EQ(PlaceModel(int8).ok(), c.int8) << c.devices;
    EXPECT_EQ(absl::StrContains(status.message(), "dtype bf16 instead of fp32"), c.bf16) << status;
    EXPECT_EQ(absl::StrContains(status.message(), "quantize int8"), c.int8) << status;
  }
}

// Counts are exact to the byte: a device that is planned full must not turn out too small. No kernel's panels fit these
// sizes.
TEST_F(PlaceModelTest, CountsWeightsAsTheKernelsHoldThem) {
  const Json odd = {{"hidden_size", 36}, {"intermediate_size", 49}, {"head_dim", 12}, {"vocab_size", 131}};
  const auto with = [&odd](Json more) {
    more.update(odd);
    return more;
  };
  int i = 0;
  for (const Json& config :
       {TinyLlama(with({{"tie_word_embeddings", true}})),
        TinyLlama(with({{"attention_bias", true}, {"mlp_bias", true}})), TinyGpt2(), TinyQwen3Moe()}) {
    const std::string model = folder_ / absl::StrCat(i++);
    WriteTinyCheckpoint(model, config);
    for (const char* dtype : {"fp32", "bf16"}) {
      for (const char* quantize : {"none", "int8", "int4"}) {
        EngineOptions options;
        options.model = model;
        options.dtype = dtype;
        options.quantize = quantize;
        options.devices = "simulated:1x64MiB";
        options.plan.max_num_batched_tokens = 64;
        auto placed = PlaceModel(options);
        ASSERT_TRUE(placed.ok()) << placed.status();
        int64_t planned = placed->plan.devices[0].weights;
        VisitParameters(placed->spec.modules, [&planned](const std::string&, const Parameter& parameter) {
          if (!parameter.stored())
            planned -= parameter.bytes();  // rotary frequencies: transformers counts them, here tables replace them
        });
        const auto engine = Engine::Create(std::move(*placed), options, nullptr, nullptr);
        ASSERT_TRUE(engine.ok()) << engine.status();
        EXPECT_EQ((*engine)->Stats().executor.devices[0].memory.weights, planned)
            << config["model_type"] << " " << dtype << " " << quantize;
      }
    }
  }
}

}  // namespace
}  // namespace causeway
