#include "engine/plan/remedies.h"

#include <ctime>
#include <regex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/architecture/quantization.h"
#include "engine/base/limits.h"
#include "engine/base/status.h"
#include "engine/plan/test_models.h"

namespace causeway {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kMiB = 1 << 20;

// The changes that an error proposes, tried: each works, and less would not.
TEST(RemediesTest, RemediesWork) {
  const LlamaShape shape{.layers = 8, .hidden = 64, .intermediate = 256, .vocab = 512, .context = 4096};
  const auto narrower = [&shape](DType dtype, const std::string& quantize) -> absl::StatusOr<ModelSpec> {
    if (!quantize.empty()) return absl::FailedPreconditionError("quantized already");
    return TestLlama(shape, dtype);
  };
  const ModelSpec spec = TestLlama(shape, DType::kF32);
  const std::vector<Device> devices = TestDevices({5 * kMiB, 5 * kMiB});
  PlanOptions options = TestOptions("auto", DType::kF32);
  options.max_num_batched_tokens = 64;
  const std::string error =
      PlanRefusal(MakePlan(spec, devices, options, narrower), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(error, AllOf(HasSubstr("short"), HasSubstr("weights"), HasSubstr("KV cache of 4096 tokens"),
                           HasSubstr("layers")));
  std::smatch match;

  ASSERT_TRUE(std::regex_search(error, match, std::regex("max_model_len (\\d+) instead of 4096"))) << error;
  PlanOptions changed = options;
  changed.max_model_len = std::stoll(match[1]);
  EXPECT_TRUE(MakePlan(spec, devices, changed).ok());
  changed.max_model_len += kBlockTokens;
  EXPECT_FALSE(MakePlan(spec, devices, changed).ok());

  ASSERT_THAT(error, AllOf(HasSubstr("dtype bf16 instead of fp32"), HasSubstr("kv_cache_dtype int8"),
                           Not(HasSubstr("quantize"))));
  changed = options;
  changed.dtype = DType::kBF16;
  EXPECT_TRUE(MakePlan(TestLlama(shape), devices, changed).ok());
  changed = options;
  changed.kv_dtype = DType::kI8;
  EXPECT_TRUE(MakePlan(spec, devices, changed).ok());

  ASSERT_TRUE(std::regex_search(error, match, std::regex("a budget of ([0-9.]+ MiB) a device"))) << error;
  const int64_t enough = *ParseBytes(std::string(match[1]));
  EXPECT_TRUE(MakePlan(spec, TestDevices({enough, enough}), options).ok()) << "as it is printed";
  EXPECT_FALSE(MakePlan(spec, TestDevices({enough - kMiB / 10, enough - kMiB / 10}), options).ok());

  ASSERT_TRUE(std::regex_search(error, match, std::regex("(\\d+) more devices? like simulated:1"))) << error;
  const int more = std::stoi(match[1]);
  EXPECT_TRUE(MakePlan(spec, TestDevices(std::vector<int64_t>(2 + more, 5 * kMiB)), options).ok());
  EXPECT_FALSE(MakePlan(spec, TestDevices(std::vector<int64_t>(1 + more, 5 * kMiB)), options).ok());
}

// Of the quantizations that fit, the one that changes the weights least.
TEST(RemediesTest, QuantizedNoFurtherThanItTakes) {
  const LlamaShape shape{.layers = 8, .hidden = 256, .intermediate = 1024, .context = 64};
  const auto narrower = [&shape](DType dtype, const std::string& quantize) -> absl::StatusOr<ModelSpec> {
    ModelSpec spec = TestLlama(shape, dtype);
    CAUSEWAY_ASSIGN_OR_RETURN(const WeightFormat format, ParseQuantize(quantize));
    CAUSEWAY_RETURN_IF_ERROR(QuantizeOnLoad(format, spec));
    return spec;
  };
  const ModelSpec spec = TestLlama(shape);
  int64_t weights = TestBytes(spec);
  std::map<std::string, int> proposed;
  for (int64_t bytes = weights + 4 * kMiB; bytes > 2 * kMiB; bytes -= kMiB / 2) {
    const absl::StatusOr<Plan> plan = MakePlan(spec, TestDevices({bytes}), TestOptions("auto"), narrower);
    if (plan.ok()) continue;
    for (const std::string quantize : {"int8", "int4"}) {
      const bool fits = MakePlan(*narrower(DType::kBF16, quantize), TestDevices({bytes}), TestOptions("auto")).ok();
      const bool named = absl::StrContains(plan.status().message(), absl::StrCat("quantize ", quantize));
      EXPECT_EQ(named, fits && (quantize == "int8" || proposed["int8 here"] == 0))
          << quantize << " on " << bytes << ": " << plan.status();
      proposed[quantize] += named;
      proposed["int8 here"] = quantize == "int8" && named;
    }
  }
  EXPECT_GT(proposed["int8"], 0);
  EXPECT_GT(proposed["int4"], 0);
}

// A KV cache that was asked for and has no room: the most that has. A large vocabulary: fewer sequences.
TEST(RemediesTest, SmallerCachesAndFewerSequences) {
  PlanOptions options = TestOptions("auto");
  options.kv_cache_tokens = 1'000'000;
  std::smatch match;
  const ModelSpec spec = TestLlama({.context = 512});
  const std::vector<Device> devices = TestDevices({16 * kMiB});
  std::string error = PlanRefusal(MakePlan(spec, devices, options), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(std::regex_search(error, match, std::regex("kv_cache (\\d+) instead of 1000000"))) << error;
  const std::string tokens = match[1];  // the match points into the error
  PlanOptions changed = options;
  changed.kv_cache_tokens = std::stoll(tokens);
  EXPECT_TRUE(MakePlan(spec, devices, changed).ok());
  changed.kv_cache_tokens += kBlockTokens;
  EXPECT_FALSE(MakePlan(spec, devices, changed).ok());
  options.kv_cache_tokens = -1;
  options.kv_cache_bytes = 64 * kMiB;
  error = PlanRefusal(MakePlan(spec, devices, options), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(error, HasSubstr(absl::StrCat("kv_cache ", tokens, " instead of ")));

  options = TestOptions("auto");
  options.max_num_seqs = options.max_num_batched_tokens = 256;
  const ModelSpec wide = TestLlama({.vocab = 100'000, .context = 64});
  error = PlanRefusal(MakePlan(wide, TestDevices({40 * kMiB}), options), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(std::regex_search(error, match, std::regex("max_num_seqs (\\d+) instead of 256"))) << error;
  options.max_num_seqs = std::stoll(match[1]);
  EXPECT_TRUE(MakePlan(wide, TestDevices({40 * kMiB}), options).ok());
}

TEST(RemediesTest, SmallerStepsAreARemedy) {
  const ModelSpec spec = TestLlama({.layers = 8, .hidden = 64, .intermediate = 256, .vocab = 512}, DType::kF32);
  const std::vector<Device> devices = TestDevices({4 * kMiB, 4 * kMiB});
  PlanOptions options = TestOptions("auto", DType::kF32);
  options.max_num_batched_tokens = 512;
  const std::string error = PlanRefusal(MakePlan(spec, devices, options), absl::StatusCode::kFailedPrecondition);
  std::smatch match;
  PlanOptions changed;
  ASSERT_TRUE(std::regex_search(error, match, std::regex("max_num_batched_tokens (\\d+) instead of 512"))) << error;
  changed = options;
  changed.max_num_batched_tokens = std::stoll(match[1]);
  EXPECT_TRUE(MakePlan(spec, devices, changed).ok());
  changed.max_num_batched_tokens += kBlockTokens;
  EXPECT_FALSE(MakePlan(spec, devices, changed).ok());
  // No smaller than the sequences that run take.
  options.max_num_seqs = changed.max_num_batched_tokens;
  EXPECT_THAT(PlanRefusal(MakePlan(spec, devices, options), absl::StatusCode::kFailedPrecondition),
              Not(HasSubstr("max_num_batched_tokens")));
}

TEST(RemediesTest, WhatFitsNowhereIsNamed) {
  const ModelSpec spec = TestLlama({.layers = 8, .hidden = 64, .intermediate = 256});
  PlanOptions options = TestOptions("sequential");
  options.kv_cache_tokens = 0;
  const int64_t third = TestBytes(spec) / 3;
  const std::string error =
      PlanRefusal(MakePlan(spec, TestDevices({third, third}), options), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(error, AllOf(HasSubstr("find no room"), HasSubstr("lm_head"), HasSubstr("model.layers."),
                           HasSubstr("budgets come to")));
  options.max_memory = {{"0", third}, {"1", third}, {"cpu", 4 * third}};
  const absl::StatusOr<Plan> offloaded = MakePlan(spec, TestDevices({third, third}), options);
  ASSERT_TRUE(offloaded.ok()) << offloaded.status();
  EXPECT_GT(offloaded->offloaded_to_cpu, 0);
}

// Whatever the sizes are: a budget that a message proposes does when it is typed in.
TEST(RemediesTest, ProposedBudgetsDoAsPrinted) {
  PlanOptions options = TestOptions("auto");
  int proposed = 0;
  for (int64_t hidden = 48; hidden <= 480; hidden += 24) {
    const ModelSpec spec = TestLlama({.layers = 3, .hidden = hidden, .intermediate = 3 * hidden + 1, .context = 512});
    const std::string error =
        PlanRefusal(MakePlan(spec, TestDevices({kMiB / 2}), options), absl::StatusCode::kFailedPrecondition);
    std::smatch match;
    ASSERT_TRUE(std::regex_search(error, match, std::regex("a budget of ([0-9.]+ [KMG]iB) instead"))) << error;
    const absl::StatusOr<Plan> plan = MakePlan(spec, TestDevices({*ParseBytes(std::string(match[1]))}), options);
    EXPECT_TRUE(plan.ok()) << plan.status() << "\n" << error;
    ++proposed;
  }
  EXPECT_GT(proposed, 10);
}

TEST(RemediesTest, NoBudgetThatTheMachineDoesNotHave) {
  const ModelSpec spec = TestLlama({.layers = 4, .context = 65536});
  PlanOptions options = TestOptions("auto");
  for (const DeviceKind kind : {DeviceKind::kCpu, DeviceKind::kCuda}) {
    const int64_t reserve = kind == DeviceKind::kCuda ? 696 * kMiB : 0;
    Device device{
        kind, 0, kind == DeviceKind::kCpu ? "cpu" : "cuda:0", "test", reserve + 64 * kMiB, reserve + 16 * kMiB};
    std::string error = PlanRefusal(MakePlan(spec, {device}, options), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(error, Not(HasSubstr("a budget of")));
    std::smatch match;
    ASSERT_TRUE(std::regex_search(error, match, std::regex("a device with ([0-9.]+ MiB) free"))) << error;
    Device larger = device;
    larger.memory_bytes = larger.available_bytes = *ParseBytes(std::string(match[1]));
    EXPECT_TRUE(MakePlan(spec, {larger}, options).ok()) << MakePlan(spec, {larger}, options).status();
    // A budget below what is free can be raised.
    options.max_memory = {{device.key(), reserve + 8 * kMiB}};
    device.available_bytes = larger.available_bytes;
    device.memory_bytes = 2 * larger.memory_bytes;
    error = PlanRefusal(MakePlan(spec, {device}, options), absl::StatusCode::kFailedPrecondition);
    ASSERT_TRUE(std::regex_search(error, match, std::regex("a budget of ([0-9.]+ MiB) instead"))) << error;
    options.max_memory = {{device.key(), *ParseBytes(std::string(match[1]))}};
    EXPECT_TRUE(MakePlan(spec, {device}, options).ok()) << MakePlan(spec, {device}, options).status();
    options.max_memory.clear();
  }
}

TEST(RemediesTest, OtherDevicesOfTheCatalogue) {
  const ModelSpec spec = TestLlama({.layers = 32,
                                    .hidden = 4096,
                                    .intermediate = 14336,
                                    .vocab = 128256,
                                    .heads = 32,
                                    .kv_heads = 8,
                                    .context = 8192});
  const auto gpus = [](absl::string_view text) {
    return *ParseDevices(text, [] { return absl::StatusOr<std::vector<Device>>(std::vector<Device>()); });
  };
  const std::string error =
      PlanRefusal(MakePlan(spec, gpus("1xRTX4080"), PlanOptions()), absl::StatusCode::kFailedPrecondition);
  std::smatch match;
  ASSERT_TRUE(std::regex_search(error, match, std::regex("devices (1x[-A-Za-z0-9]+)"))) << error;
  EXPECT_TRUE(MakePlan(spec, gpus(std::string(match[1])), PlanOptions()).ok());
  PlanOptions options;
  options.max_memory = {{"0", int64_t{8} << 30}};
  EXPECT_THAT(PlanRefusal(MakePlan(spec, gpus("1xRTX4080"), options), absl::StatusCode::kFailedPrecondition),
              Not(HasSubstr("devices 1x")))
      << "another budget then";
}

TEST(RemediesTest, OfManyShortDevicesAFewAreNamed) {
  const ModelSpec spec = TestLlama({.layers = 80, .hidden = 128, .intermediate = 512});
  const std::string error =
      PlanRefusal(MakePlan(spec, TestDevices(std::vector<int64_t>(40, kMiB / 4)), TestOptions("auto")),
                  absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(error, AllOf(HasSubstr("simulated:0 is"), HasSubstr("simulated:2 is"), Not(HasSubstr("simulated:3 is"))));
  EXPECT_THAT(error, testing::ContainsRegex("; and [0-9]+ more devices are short. Any of these"));
}

// Of many layers or experts, with a folder to offload to and without: of the processor's time less than a second on a
// quiet machine.
TEST(RemediesTest, LargeModelsThatDoNotFitAreRefusedAtOnce) {
  const ModelSpec layers =
      TestLlama({.layers = 2000, .hidden = 1024, .intermediate = 4096, .heads = 8, .kv_heads = 8, .context = 131072});
  const ModelSpec experts = TestMiniMaxM2();
  const struct {
    const ModelSpec& spec;
    const char* policy;
    int devices;
    bool offload;
  } refusals[] = {{layers, "auto", 8, false},  {layers, "sequential", 8, false}, {layers, "auto", 64, false},
                  {experts, "auto", 8, false}, {experts, "auto", 8, true},       {experts, "balanced", 8, true}};
  for (const auto& [spec, policy, devices, offload] : refusals) {
    PlanOptions options = TestOptions(policy);
    options.offload_to_disk = offload;
    const std::clock_t start = std::clock();  // of this process, whatever else the machine does
    PlanRefusal(
        MakePlan(spec, TestDevices(std::vector<int64_t>(devices, int64_t{1} << (devices > 8 ? 27 : 30))), options),
        absl::StatusCode::kFailedPrecondition);
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    const std::string which = absl::StrCat(spec.architecture, "_", policy, "_", devices, offload ? "_offload" : "");
    RecordProperty(which, std::to_string(seconds));
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    EXPECT_LT(seconds, 4) << which;
#endif
  }
}

}  // namespace
}  // namespace causeway
