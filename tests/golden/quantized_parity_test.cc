// Compares quantized checkpoints with transformers on their dequantized weights, in fp32: the same greedy tokens, whole
// and split.
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/golden/golden_test.h"

namespace causeway {
namespace {

class QuantizedParityTest : public GoldenTest {
 protected:
  void SetUp() override { Load("quantized"); }

  void ExpectTokensAndBytes() {
    auto engine = MakeTestEngine(options_);
    EXPECT_FALSE(engine->model().plan.quantization.empty());
    ExpectGolden(GenerateAll(*engine, Requests()));
    const std::vector<DeviceStats> devices = engine->Stats().executor.devices;
    for (size_t d = 0; d < devices.size(); ++d) {
      const DevicePlan& plan = engine->model().plan.devices[d];
      // A GPU's allocator rounds each tensor up to 512 bytes, and these models are tiny.
      const double margin = plan.device.kind == DeviceKind::kCuda ? 0.1 : 0.03;
      EXPECT_NEAR(devices[d].memory.weights, plan.weights, margin * plan.weights);
    }
  }
};

TEST_P(QuantizedParityTest, ReferenceOperations) {
  options_.executor.reference_ops = true;
  ExpectTokensAndBytes();
}

TEST_P(QuantizedParityTest, FusedKernels) { ExpectTokensAndBytes(); }

TEST_P(QuantizedParityTest, SplitOverDevicesAndChunked) {
  options_.plan.max_num_batched_tokens = 11;
  for (const int devices : {2, 4}) {
    SCOPED_TRACE(devices);
    options_.devices = absl::StrCat("simulated:", devices, "x64MiB");
    ExpectTokensAndBytes();
  }
}

TEST_P(QuantizedParityTest, Offloaded) {
  OffloadMost(options_, /*on_disk=*/true);
  ExpectTokensAndBytes();
  ExpectTokensAndBytes();  // from the file that the first run packed
  for (const int64_t cpu_rows : {0, 5}) {
    OffloadMost(options_, /*on_disk=*/false, cpu_rows);
    ExpectTokensAndBytes();
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, QuantizedParityTest, testing::ValuesIn(GoldenNames("quantized")),
                         [](const auto& info) { return absl::StrReplaceAll(info.param, {{"-", "_"}}); });

}  // namespace
}  // namespace causeway
