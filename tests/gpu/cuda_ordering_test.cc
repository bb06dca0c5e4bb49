// Steps of models that lie on two devices and beside them order their work: what may run at once touches no memory that
// the other writes. On GPUs that are not there.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "engine/device/cuda_library.h"
#include "engine/device/device_runtime.h"
#include "engine/execution/testing.h"
#include "tests/support/cuda_standin/ordering.h"
#include "tests/support/cuda_standin/standin.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_checkpoint.h"

extern "C" const causeway::CudaLibrary* causeway_cuda_library();

namespace causeway {
namespace {

using standin::Call;
using standin::FirstUnordered;
using ::testing::HasSubstr;

// Calls by hand. Streams and events are told apart by their addresses.
constexpr char kHandles[16] = {};
char memory[64];

Call Work(const char* name, int stream, int first, int bytes, bool writes) {
  return {.name = name, .stream = kHandles + stream, .launches = 1, .touches = {{memory + first, bytes, writes}}};
}
Call Ordering(const char* name, int stream, int event) {
  return {.name = name, .stream = kHandles + stream, .event = kHandles + event};
}

TEST(FirstUnorderedTest, AStreamOrdersItsOwnWork) {
  EXPECT_EQ(FirstUnordered({Work("a", 1, 0, 8, true), Work("b", 1, 0, 8, false), Work("c", 1, 4, 8, true)}), "");
}

TEST(FirstUnorderedTest, StreamsAreOrderedByEvents) {
  const Call write = Work("a", 1, 0, 8, true), read = Work("b", 2, 7, 1, false);
  const Call record = Ordering("cudaEventRecord", 1, 9), wait = Ordering("cudaStreamWaitEvent", 2, 9);
  EXPECT_EQ(FirstUnordered({write, record, wait, read}), "");
  EXPECT_THAT(FirstUnordered({write, read}), HasSubstr("b (call 1"));
  EXPECT_THAT(FirstUnordered({write, record, read}), HasSubstr("reads what a"));
  EXPECT_THAT(FirstUnordered({record, write, wait, read}), HasSubstr("nothing makes it wait")) << "recorded too early";
  EXPECT_EQ(FirstUnordered({write, Work("b", 2, 8, 8, true)}), "") << "other memory";
}

TEST(FirstUnorderedTest, ReadsMayRunAtOnceAndWritesMayNot) {
  const Call read = Work("a", 1, 0, 8, false), write = Work("c", 3, 0, 8, true);
  EXPECT_EQ(FirstUnordered({read, Work("b", 2, 0, 8, false)}), "");
  EXPECT_THAT(FirstUnordered({read, Work("b", 2, 0, 8, false), write}), HasSubstr("c (call 2"));
  EXPECT_THAT(FirstUnordered({write, Work("b", 2, 4, 1, true)}), HasSubstr("writes what c"));
}

TEST(FirstUnorderedTest, TheHostOrdersWhatItHasWaitedFor) {
  const Call write = Work("a", 1, 0, 8, true), read = Work("b", 2, 0, 8, false);
  const Call record = Ordering("cudaEventRecord", 1, 9);
  EXPECT_EQ(FirstUnordered({write, Ordering("cudaStreamSynchronize", 1, 0), read}), "");
  EXPECT_EQ(FirstUnordered({write, record, Ordering("cudaEventSynchronize", 0, 9), read}), "");
  EXPECT_EQ(FirstUnordered({write, record, Ordering("cudaEventQuery", 0, 9), read}), "");
  EXPECT_NE(FirstUnordered({write, Ordering("cudaStreamSynchronize", 2, 0), read}), "") << "the other stream";
}

// Six layers that come and go between two devices; two of them are offloaded.
class CudaOrderingTest : public ::testing::TestWithParam<Json> {
 protected:
  static void SetUpTestSuite() { standin::SetDevices(2, int64_t{8} << 30); }

  CudaOrderingTest() : tiny_(GetParam()) {}

  // `tier`: where the offloaded layers lie, "cpu" or "disk".
  std::unique_ptr<Executor> Start(const std::string& tier, std::optional<int64_t> cpu_rows, bool reference) {
    PlanOptions options;
    options.dtype = DType::kF32;
    options.max_num_seqs = 4;
    options.max_num_batched_tokens = 64;
    options.max_model_len = 96;
    options.kv_cache_tokens = 4 * 96;
    options.device_map = "custom";
    options.offload_to_disk = true;
    options.reference_ops = reference;
    options.max_memory = {{"0", int64_t{4} << 30}, {"1", int64_t{4} << 30}, {"cpu", int64_t{64} << 20}};
    options.custom_map = {{"", "0"},
                          {"model.layers.1", tier},
                          {"model.layers.2", "1"},
                          {"model.layers.4", tier},
                          {"model.layers.5", "1"},
                          {"model.norm", "1"},
                          {"lm_head", "1"}};
    const absl::StatusOr<Plan> plan = MakePlan(tiny_.spec(), causeway_cuda_library()->devices().value(), options);
    if (!plan.ok()) throw std::runtime_error(plan.status().ToString());
    ExecutorOptions executor_options;
    executor_options.reference_ops = reference;
    executor_options.make_runtime = causeway_cuda_library()->make_runtime;
    executor_options.offload_folder = folder_.path();
    executor_options.offload_cpu_rows = cpu_rows;
    auto executor = MakeExecutor(tiny_.spec(), tiny_.checkpoint(), *plan, executor_options, nullptr);
    if (!executor.ok()) throw std::runtime_error(executor.status().ToString());
    return *std::move(executor);
  }

  // What steps call, with as many in flight as may be. Nothing counts as done before it is waited for.
  static std::vector<Call> Steps(Executor& executor) {
    standin::KeepEventsBusy(true);
    const std::vector<std::vector<int32_t>> prompts = {{5}, {80, 3, 3, 3, 17, 60, 2, 9, 44, 31, 8, 77, 5}, {9, 8, 7}};
    standin::StartLog();
    testing::Driver(executor, prompts, {.tokens = 6, .chunk = 5, .ahead = true}).Run();
    // Steps that need no token of the step before overlap.
    testing::Driver(executor, {std::vector<int32_t>(60, 7)}, {.tokens = 1, .chunk = 4, .ahead = true}).Run();
    standin::KeepEventsBusy(false);
    return standin::TakeLog();
  }

  struct Offload {
    std::string tier;
    std::optional<int64_t> cpu_rows;
  };
  const std::vector<Offload> offloads_ = {{"cpu", 0}, {"cpu", 2}, {"disk", 0}};
  const testing::TemporaryFolder folder_{"cuda-ordering"};
  const TinyCheckpoint tiny_;
};

TEST_P(CudaOrderingTest, WorkThatTouchesTheSameMemoryIsOrdered) {
  for (const Offload& offload : offloads_) {
    for (const bool reference : {false, true}) {
      const auto executor = Start(offload.tier, offload.cpu_rows, reference);
      const std::vector<Call> calls = Steps(*executor);
      EXPECT_EQ(FirstUnordered(calls), "") << offload.tier << (reference ? ", reference" : "");
      std::map<std::string, int> counts;
      for (const Call& call : calls) ++counts[call.copied == standin::Copied::kNothing ? "work" : "copies"];
      EXPECT_GT(counts["copies"], 100);
      EXPECT_GT(counts["work"], 1000);
    }
  }
}

// One device has it all: a step is started while the last one's tokens are on their way.
TEST_P(CudaOrderingTest, StepsThatReadTokensOnTheDeviceAreOrdered) {
  PlanOptions options;
  options.dtype = DType::kF32;
  options.max_num_seqs = 4;
  options.max_num_batched_tokens = 64;
  options.max_model_len = 96;
  options.kv_cache_tokens = 4 * 96;
  const absl::StatusOr<Plan> plan = MakePlan(tiny_.spec(), {causeway_cuda_library()->devices().value().at(0)}, options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ExecutorOptions executor_options;
  executor_options.make_runtime = causeway_cuda_library()->make_runtime;
  const auto executor = MakeExecutor(tiny_.spec(), tiny_.checkpoint(), *plan, executor_options, nullptr);
  ASSERT_TRUE(executor.ok()) << executor.status();
  EXPECT_EQ((*executor)->steps_in_flight(), 3);
  EXPECT_EQ(FirstUnordered(Steps(**executor)), "");
}

// Each kind of wait is one that the steps cannot do without: without it, the log has work that is not ordered.
TEST_P(CudaOrderingTest, AMissingWaitIsFound) {
  const auto executor = Start("cpu", 0, /*reference=*/false);
  const std::vector<Call> calls = Steps(*executor);
  for (const char* wait : {"cudaStreamWaitEvent", "cudaEventSynchronize", "cudaStreamSynchronize"}) {
    std::vector<Call> without = calls;
    const size_t waits = std::erase_if(without, [&](const Call& call) { return call.name == wait; });
    EXPECT_GT(waits, 0u) << wait;
    const std::string found = FirstUnordered(without);
    EXPECT_THAT(found, HasSubstr("nothing makes it wait")) << "without " << waits << " calls of " << wait;
    std::cout << "[ordering] without " << wait << ": " << found << "\n";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, CudaOrderingTest,
    ::testing::Values(TinyLlama({{"num_hidden_layers", 6}}),
                      TinyQwen3Moe({{"num_hidden_layers", 6}, {"num_experts", 4}, {"num_experts_per_tok", 4}})));

}  // namespace
}  // namespace causeway
