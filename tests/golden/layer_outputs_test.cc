// Compares the outputs of layers with transformers' hidden states: whole, chunked, split, beside other requests,
// preempted.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/golden/golden_test.h"

namespace causeway {
namespace {

class LayerOutputsTest : public GoldenTest {
 protected:
  void SetUp() override {
    Load("models");
    absl::StatusOr<GoldenStates> states = LoadGoldenStates(GetParam());
    ASSERT_TRUE(states.ok()) << states.status();
    states_ = *std::move(states);
    ASSERT_EQ(states_.hidden_states.size(), 5u);
  }

  // Asks for all units: the embeddings, four layers, and the final norm.
  GenerationRequest Extraction(const std::string& id) const {
    GenerationRequest request = GreedyRequest(id, golden_.cases[3].prompt, 1);
    request.layer_units = {0, 1, 2, 3, 4, 5};
    return request;
  }

  void ExpectStates(const GenerationEnd& end) const {
    ASSERT_TRUE(end.status.ok()) << end.status;
    ASSERT_NE(end.layer_outputs, nullptr);
    for (const int unit : end.layer_outputs->units) {
      const std::vector<float>& expected = unit == 4 ? states_.last_layer : states_.hidden_states[unit == 5 ? 4 : unit];
      ASSERT_EQ(expected.size(), static_cast<size_t>(end.layer_outputs->rows * end.layer_outputs->width));
      const float* values = end.layer_outputs->of_unit(unit);
      double worst = 0;
      for (size_t i = 0; i < expected.size(); ++i)
        worst = std::max(worst, static_cast<double>(std::abs(values[i] - expected[i])));
      EXPECT_LE(worst, 1e-4) << "unit " << unit;
    }
  }

  GoldenStates states_;
};

TEST_P(LayerOutputsTest, AreTheHiddenStates) {
  for (const bool reference : {false, true}) {
    options_.executor.reference_ops = reference;
    auto engine = MakeTestEngine(options_);
    ExpectStates(GenerateAll(*engine, {Extraction("all")})[0]->end);
  }
}

TEST_P(LayerOutputsTest, ChunkedAndSplit) {
  for (const char* devices : {"cpu", "simulated:2x64MiB", "simulated:4x64MiB"}) {
    for (const int64_t step : {512, 11}) {
      SCOPED_TRACE(absl::StrCat(devices, ", steps of ", step));
      options_.devices = devices;
      options_.plan.max_num_batched_tokens = step;
      auto engine = MakeTestEngine(options_);
      ExpectStates(GenerateAll(*engine, {Extraction("all")})[0]->end);
    }
  }
}

TEST_P(LayerOutputsTest, DevicesThatShareLayersHaveThemOnce) {
  options_.devices = "simulated:4x64MiB";
  options_.plan.parallel.tp = 2;
  options_.plan.max_num_batched_tokens = 11;
  auto engine = MakeTestEngine(options_);
  ExpectStates(GenerateAll(*engine, {Extraction("all")})[0]->end);
}

TEST_P(LayerOutputsTest, TheFinalNormMayBeOnAnotherDevice) {
  const std::string prefix = golden_.name == "gpt2-base" ? "transformer." : "model.";
  const std::string layers = prefix + (golden_.name == "gpt2-base" ? "h" : "layers");
  options_.plan.device_map = "custom";
  options_.plan.custom_map = {{"", "0"}};
  for (int i = 1; i < 4; ++i) options_.plan.custom_map[absl::StrCat(layers, ".", i)] = "1";
  options_.devices = "simulated:2x64MiB";
  options_.plan.max_num_batched_tokens = 11;
  auto engine = MakeTestEngine(options_);
  ASSERT_EQ(engine->model().plan.segments.size(), 3u);
  ASSERT_EQ(engine->model().plan.segments[2].units.first, 5);
  ExpectStates(GenerateAll(*engine, {Extraction("all")})[0]->end);
}

TEST_P(LayerOutputsTest, OthersAndTheCacheChangeNothing) {
  for (const char* devices : {"cpu", "simulated:4x64MiB"}) {
    SCOPED_TRACE(devices);
    options_.devices = devices;
    options_.plan.max_num_batched_tokens = 24;
    auto engine = MakeTestEngine(options_);
    ExpectGolden(GenerateAll(*engine, Requests("cached")));
    std::vector<GenerationRequest> requests = Requests("beside");
    const size_t generations = requests.size();
    for (int i = 0; i < 3; ++i) requests.push_back(Extraction(absl::StrCat("layers", i)));
    requests.back().layer_units = {2, 5};
    const auto sinks = GenerateAll(*engine, requests);
    for (size_t i = 0; i < sinks.size(); ++i) {
      if (i < generations) {
        EXPECT_EQ(sinks[i]->choices[0].tokens, golden_.cases[i].tokens) << "prompt " << i;
        EXPECT_EQ(sinks[i]->end.layer_outputs, nullptr);
      } else {
        ExpectStates(sinks[i]->end);
        EXPECT_EQ(sinks[i]->end.cached_tokens, 0);  // what the cache has of it was computed again
      }
    }
  }
}

TEST_P(LayerOutputsTest, Preempted) {
  // They have the lower priority: they are preempted for the others, which grow, and are computed again.
  for (const char* devices : {"cpu", "simulated:4x64MiB"}) {
    SCOPED_TRACE(devices);
    options_.devices = devices;
    options_.plan.kv_cache_tokens = 208;
    options_.plan.max_num_batched_tokens = 8;
    auto engine = MakeTestEngine(options_);
    std::vector<GenerationRequest> requests = Requests("generated");
    const size_t generations = requests.size();
    for (int i = 0; i < 8; ++i) {
      requests.push_back(Extraction(absl::StrCat("layers", i)));
      requests.back().priority = -1;
    }
    const auto sinks = GenerateAll(*engine, requests);
    for (size_t i = generations; i < sinks.size(); ++i) ExpectStates(sinks[i]->end);
    EXPECT_GT(engine->Stats().scheduler.preemptions, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, LayerOutputsTest,
                         testing::Values("gpt2-base", "llama-base", "minimax-m2-old", "qwen3-old"),
                         [](const auto& info) { return absl::StrReplaceAll(info.param, {{"-", "_"}}); });

// The memory for layers' outputs is bounded.
class LayerOutputsBoundTest : public testing::Test {
 protected:
  static constexpr int64_t kRowBytes = 48 * sizeof(float);

  std::unique_ptr<Engine> Start(int64_t bytes_max) {
    EngineOptions options;
    options.model = LoadGolden("llama-base")->folder;
    options.devices = "cpu";
    options.dtype = "fp32";
    options.plan.max_num_seqs = 8;
    options.plan.kv_cache_tokens = 2048;
    options.executor.cpu_threads = 1;
    options.layer_outputs_bytes_max = bytes_max;
    return MakeTestEngine(options);
  }
  static GenerationRequest Extraction(const std::string& id, int64_t rows, std::vector<int> units) {
    std::vector<int32_t> prompt(rows);
    std::iota(prompt.begin(), prompt.end(), 3);
    GenerationRequest request = GreedyRequest(id, prompt, 1);
    request.layer_units = std::move(units);
    return request;
  }
};

TEST_F(LayerOutputsBoundTest, OneThatIsTooLargeAndOneThatHasToWait) {
  auto engine = Start(100 * kRowBytes);
  const absl::Status large =
      engine->Submit(Extraction("large", 51, {1, 2}), std::make_shared<CollectingSink>()).status();
  EXPECT_EQ(large.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(large.message()),
              testing::HasSubstr("the outputs of 2 layers for 51 tokens take 19.1 KiB, and at most 18.8 KiB are held"));

  auto held = GenerateAll(*engine, {Extraction("held", 50, {1, 2})})[0];
  ASSERT_NE(held->end.layer_outputs, nullptr);
  const absl::Status more = engine->Submit(Extraction("more", 1, {0}), std::make_shared<CollectingSink>()).status();
  EXPECT_EQ(more.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(more.message()),
              testing::HasSubstr("18.8 KiB of 18.8 KiB (layer_outputs_bytes_max) are held for other requests"));
  held->end.layer_outputs.reset();
  EXPECT_NE(GenerateAll(*engine, {Extraction("again", 50, {1, 2})})[0]->end.layer_outputs, nullptr);
}

TEST_F(LayerOutputsBoundTest, AnotherBoundHoldsForWhatComes) {
  auto engine = Start(100 * kRowBytes);
  auto held = GenerateAll(*engine, {Extraction("held", 50, {1, 2})})[0];
  engine->SetLimits(/*queue_max=*/8, /*layer_outputs_bytes_max=*/101 * kRowBytes);
  EXPECT_NE(GenerateAll(*engine, {Extraction("more", 1, {0})})[0]->end.layer_outputs, nullptr);
  engine->SetLimits(/*queue_max=*/8, /*layer_outputs_bytes_max=*/0);
  EXPECT_EQ(engine->Submit(Extraction("none", 1, {0}), std::make_shared<CollectingSink>()).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_NE(held->end.layer_outputs, nullptr);
}

TEST_F(LayerOutputsBoundTest, OneThatIsCancelledGivesEverythingBack) {
  auto engine = Start(100 * kRowBytes);
  for (int i = 0; i < 20; ++i) {
    auto sink = std::make_shared<CollectingSink>();
    const auto handle = engine->Submit(Extraction("cancelled", 100, {1}), sink);
    ASSERT_TRUE(handle.ok()) << handle.status();
    engine->Cancel(*handle);
    sink->Wait();
    // A request that was quick enough ended before it was cancelled.
    EXPECT_EQ(sink->end.layer_outputs == nullptr, sink->end.choices[0].reason == FinishReason::kCancelled);
    sink->end.layer_outputs.reset();
    // A step in flight may hold them a moment longer. It is done once another request is.
    GenerateAll(*engine, {GreedyRequest("after", {5, 6, 7}, 3)});
  }
  EXPECT_EQ(engine->Stats().scheduler.blocks_used, 0);
}

}  // namespace
}  // namespace causeway
