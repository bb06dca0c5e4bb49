// Quantized checkpoints against transformers on their dequantized weights, in fp32: the same greedy tokens, whole and split.
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/golden/golden.h"
#include "tests/support/test_engine.h"

namespace causeway {
namespace {

class QuantizedParityTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    absl::StatusOr<Golden> golden = LoadGolden(GetParam(), "quantized");
    ASSERT_TRUE(golden.ok()) << golden.status();
    golden_ = *std::move(golden);
    options_.model = golden_.folder;
    const char* devices = std::getenv("CAUSEWAY_TEST_DEVICES");
    options_.devices = devices != nullptr ? devices : "cpu";
    options_.dtype = "fp32";
    options_.plan.max_num_seqs = 8;
    options_.plan.max_num_batched_tokens = 512;
    options_.plan.kv_cache_tokens = 2048;
    options_.plan.max_model_len = 144;
    options_.executor.cpu_threads = 2;
  }

  void ExpectGolden() {
    auto engine = MakeTestEngine(options_);
    EXPECT_FALSE(engine->model().plan.quantization.empty());
    std::vector<GenerationRequest> requests;
    for (size_t i = 0; i < golden_.cases.size(); ++i) {
      requests.push_back(GreedyRequest(absl::StrCat(i), golden_.cases[i].prompt, golden_.cases[i].tokens.size()));
    }
    const auto sinks = GenerateAll(*engine, requests);
    for (size_t i = 0; i < sinks.size(); ++i) {
      EXPECT_TRUE(sinks[i]->end.status.ok()) << sinks[i]->end.status;
      EXPECT_EQ(sinks[i]->choices[0].tokens, golden_.cases[i].tokens) << "prompt " << i;
    }
    const std::vector<DeviceStats> devices = engine->Stats().executor.devices;
    for (size_t d = 0; d < devices.size(); ++d) {
      const int64_t planned = engine->model().plan.devices[d].weights;
      EXPECT_NEAR(devices[d].memory.weights, planned, 0.03 * planned);
    }
  }

  Golden golden_;
  EngineOptions options_;
};

TEST_P(QuantizedParityTest, ReferenceOperations) {
  options_.executor.reference_ops = true;
  ExpectGolden();
}

TEST_P(QuantizedParityTest, FusedKernels) { ExpectGolden(); }

TEST_P(QuantizedParityTest, SplitOverDevicesAndChunked) {
  options_.plan.max_num_batched_tokens = 11;
  for (const int devices : {2, 4}) {
    SCOPED_TRACE(devices);
    options_.devices = absl::StrCat("simulated:", devices, "x64MiB");
    ExpectGolden();
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, QuantizedParityTest, testing::ValuesIn(GoldenNames("quantized")),
                         [](const auto& info) { return absl::StrReplaceAll(info.param, {{"-", "_"}}); });

}  // namespace
}  // namespace causeway
