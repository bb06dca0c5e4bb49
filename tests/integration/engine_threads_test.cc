// Runs every thread of an engine at once: clients that submit, cancel and look, on devices that do their work late,
// with weights that are prefetched. It is for the thread sanitizer above all; a client that gets tokens gets the right
// ones.
#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/base/clock.h"
#include "tests/support/fake_async_runtime.h"
#include "tests/support/test_engine.h"
#include "tests/support/tiny_checkpoint.h"

namespace causeway {
namespace {

constexpr int kClients = 6, kRequests = 12;
constexpr int64_t kTokens = 10;

std::vector<int32_t> Prompt(uint64_t seed) {
  std::mt19937_64 random(seed % 7);  // some are alike, and share cached blocks
  std::vector<int32_t> prompt(5 + random() % 40);
  for (int32_t& token : prompt) token = static_cast<int32_t>(random() % 90);
  return prompt;
}

class EngineThreadsTest : public ::testing::Test {
 protected:
  EngineThreadsTest() : tiny_(TinyQwen3Moe()) {}

  EngineOptions Options(const std::string& devices) const {
    EngineOptions options;
    options.model = tiny_.folder();
    options.devices = devices;
    options.dtype = "fp32";
    // A team's helper may read on, in vain, for a task that another thread has done. The sanitizer calls that a race.
    options.executor.cpu_threads = 1;
    options.plan.max_num_seqs = 4;
    options.plan.max_num_batched_tokens = 32;
    options.plan.kv_cache_tokens = 256;  // too little for four of the longest: some are preempted
    options.plan.max_model_len = 96;
    return options;
  }

  // Runs a client. Some of its requests are cancelled, and some have too little time.
  void Client(Engine& engine, uint64_t client) {
    std::mt19937_64 random(client);
    for (int i = 0; i < kRequests; ++i) {
      const uint64_t seed = client * kRequests + i;
      GenerationRequest request = GreedyRequest(absl::StrCat(client, "-", i), Prompt(seed), kTokens);
      const bool hurried = random() % 5 == 0, cancelled = random() % 4 == 0;
      if (hurried) request.deadline = Clock::Real()->Now() + absl::Milliseconds(random() % 60);
      const auto sink = std::make_shared<CollectingSink>();
      const absl::StatusOr<RequestHandle> handle = engine.Submit(std::move(request), sink);
      ASSERT_TRUE(handle.ok()) << handle.status();
      if (cancelled) engine.Cancel(*handle);
      if (random() % 2 == 0) {
        EXPECT_LE(engine.Stats().requests_running, kClients);
      }
      sink->Wait();
      ASSERT_TRUE(sink->end.status.ok()) << sink->end.status;
      const std::vector<int32_t>& tokens = sink->choices[0].tokens;
      const std::vector<int32_t>& expected = expected_[seed % 7];
      ASSERT_LE(tokens.size(), expected.size());
      EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), expected.begin())) << client << "-" << i;
      if (!hurried && !cancelled) {
        EXPECT_EQ(tokens.size(), expected.size());
      }
      whole_ += tokens.size() == expected.size();
    }
  }

  void Expect() {
    const std::unique_ptr<Engine> engine = MakeTestEngine(Options("cpu"));
    for (uint64_t seed = 0; seed < 7; ++seed) {
      const auto sinks = GenerateAll(*engine, {GreedyRequest("alone", Prompt(seed), kTokens)});
      expected_.push_back(sinks[0]->choices[0].tokens);
    }
  }

  // On devices that do their work late, unless told otherwise.
  void Run(const EngineOptions& plain, bool late = true) {
    testing::FakeMachine machine({});
    EngineOptions options = plain;
    if (late) {
      options.executor.make_runtime = [&machine](const DevicePlan& device, bool reference) {
        return machine.MakeRuntime(device, reference);
      };
    }
    std::unique_ptr<Engine> engine = MakeTestEngine(options);
    std::vector<std::thread> clients;
    for (int c = 0; c < kClients; ++c) clients.emplace_back([&, c] { Client(*engine, c); });
    for (std::thread& client : clients) client.join();
    EXPECT_GT(whole_, kClients * kRequests / 2);
    const EngineStats stats = engine->Stats();
    EXPECT_EQ(stats.requests_running + stats.requests_waiting, 0);
    EXPECT_EQ(stats.scheduler.blocks_used, 0);
    // A request that is still there when the engine is destroyed is told so.
    const auto last = std::make_shared<CollectingSink>();
    ASSERT_TRUE(engine->Submit(GreedyRequest("last", Prompt(1), 40), last).ok());
    engine.reset();
    EXPECT_EQ(last->ends, 1);
  }

  const TinyCheckpoint tiny_;
  std::vector<std::vector<int32_t>> expected_;
  std::atomic<int> whole_ = 0;
};

TEST_F(EngineThreadsTest, ManyClientsOnDevicesThatHandOver) {
  Expect();
  Run(Options("simulated:2x64MiB"));
}

TEST_F(EngineThreadsTest, ManyClientsOnReplicasThatHandOver) {
  Expect();
  EngineOptions options = Options("simulated:4x64MiB");
  options.plan.parallel = {.dp = 2};
  Run(options);
}

TEST_F(EngineThreadsTest, ManyClientsOnReplicasWhoseDevicesShareLayers) {
  Expect();
  EngineOptions options = Options("simulated:4x64MiB");
  options.plan.parallel = {.dp = 2, .tp = 2};
  Run(options, /*late=*/false);
}

// A device fails for good under many requests: those of its replica end with an error, the others are served, and so is
// whatever comes then.
TEST_F(EngineThreadsTest, ALostReplicaLeavesTheOtherServing) {
  Expect();
  testing::FakeMachine machine({});
  EngineOptions options = Options("simulated:2x64MiB");
  options.plan.parallel = {.dp = 2};
  options.executor.make_runtime = [&machine](const DevicePlan& device, bool reference) {
    return machine.MakeRuntime(device, reference);
  };
  std::atomic<int> failures = 0, left = -1;
  options.on_device_failure = [&](const absl::Status&, int, int others) {
    ++failures;
    left = others;
  };
  std::unique_ptr<Engine> engine = MakeTestEngine(options);
  const auto send = [&](const std::string& name, int count) {
    std::vector<GenerationRequest> requests;
    for (int i = 0; i < count; ++i) requests.push_back(GreedyRequest(absl::StrCat(name, i), Prompt(i % 7), kTokens));
    int whole = 0;
    for (const auto& sink : GenerateAll(*engine, std::move(requests))) whole += sink->end.status.ok();
    return whole;
  };
  EXPECT_EQ(send("before", 8), 8);
  for (const auto& replica : engine->Stats().replicas) EXPECT_GT(replica.scheduler.prefix_query_tokens, 0);
  machine.queue("simulated:1").FailAt(500);
  const int during = send("during", 20);
  EXPECT_GE(during, 8);
  EXPECT_LT(during, 20);
  EXPECT_EQ(failures, 1);
  EXPECT_EQ(left, 1);
  EXPECT_EQ(send("after", 8), 8);
  EXPECT_TRUE(engine->Stats().replicas[1].lost);
  EXPECT_FALSE(engine->Stats().replicas[0].lost);
  EXPECT_EQ(engine->Stats().scheduler.blocks_used, 0);

  // It comes back under load, and computes its part again.
  std::thread restore([&engine] {
    EXPECT_EQ(engine->Restore(0).code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE(engine->Restore(1).ok());
  });
  EXPECT_EQ(send("meanwhile", 20), 20);
  restore.join();
  EXPECT_EQ(send("again", 30), 30);
  EXPECT_FALSE(engine->Stats().replicas[1].lost);
  EXPECT_GT(engine->Stats().replicas[1].scheduler.prefix_query_tokens, 0);
  EXPECT_EQ(engine->Stats().scheduler.blocks_used, 0);
  EXPECT_EQ(failures, 1);
}

TEST_F(EngineThreadsTest, ManyClientsWithOffloadedWeights) {
  Expect();
  EngineOptions options = Options("simulated:1x64MiB");
  options.plan.device_map = "custom";
  options.plan.custom_map = {{"", "cpu"}};
  options.plan.max_memory = {{"0", int64_t{64} << 20}, {"cpu", int64_t{64} << 20}};
  options.executor.offload_cpu_rows = 2;
  Run(options);
}

}  // namespace
}  // namespace causeway
