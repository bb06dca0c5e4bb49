// Tests that loading never holds much more than the weights.
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "engine/engine.h"

namespace causeway {
namespace {

const char kModel[] = CAUSEWAY_SOURCE_DIR "/models/kjv";

int64_t StatusBytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(name + ":", 0) == 0) return std::stoll(line.substr(name.size() + 1)) * 1024;
  }
  throw std::runtime_error("no " + name + " in /proc/self/status");
}

std::unique_ptr<Executor> Load(const PlacedModel& placed, const EngineOptions& options,
                               const std::function<void(const LoadProgress&)>& progress) {
  auto executor = MakeExecutor(placed.spec, *placed.checkpoint, placed.plan, options.executor, progress);
  if (!executor.ok()) throw std::runtime_error(executor.status().ToString());
  return *std::move(executor);
}

TEST(LoadMemoryTest, PeaksAboveTheWeightsByTheReadersBuffersAlone) {
  EngineOptions options;
  options.model = kModel;
  options.devices = "cpu";
  options.dtype = "fp32";  // twice the file's bytes, since each read is converted
  options.executor.cpu_threads = 2;
  options.plan.max_num_seqs = 1;
  options.plan.max_num_batched_tokens = 16;
  options.plan.max_model_len = options.plan.kv_cache_tokens = 64;
  const auto placed = PlaceModel(options);
  ASSERT_TRUE(placed.ok()) << placed.status();
  Load(*placed, options, nullptr);  // libraries and threads' stacks are there from now on
  int64_t file_bytes = 0;
  for (const auto& [name, tensor] : placed->checkpoint->tensors()) file_bytes += static_cast<int64_t>(tensor.bytes);

  std::ofstream("/proc/self/clear_refs") << "5";  // resets the peak
  const int64_t before = StatusBytes("VmRSS");
  LoadProgress last;
  int64_t peak = 0, calls = 0;
  const auto executor = Load(*placed, options, [&](const LoadProgress& progress) {
    EXPECT_GT(progress.bytes_done, last.bytes_done);
    EXPECT_GE(progress.seconds, last.seconds);
    EXPECT_EQ(progress.bytes_total, file_bytes);
    last = progress;
    peak = StatusBytes("VmHWM");
    ++calls;
  });
  EXPECT_EQ(last.bytes_done, file_bytes);
  EXPECT_GT(last.seconds, 0);
  EXPECT_GE(calls, 10);
  // There are two readers, each with a read of 2 MiB as stored and as converted. Each buffer, and the weights, are
  // rounded up to huge pages.
  const int64_t weights = placed->plan.devices[0].weights;
  EXPECT_LE(peak - before, weights + (int64_t{20} << 20));
  RecordProperty("bytes_above_weights", std::to_string(peak - before - weights));
}

TEST(LoadMemoryTest, WhatIsServedFromIsAllThere) {
  EngineOptions options;
  options.model = kModel;
  options.devices = "cpu";
  options.executor.cpu_threads = 2;
  options.plan.max_num_seqs = 8;
  options.plan.max_num_batched_tokens = 1024;
  options.plan.kv_cache_tokens = 65536;
  const auto placed = PlaceModel(options);
  ASSERT_TRUE(placed.ok()) << placed.status();
  Load(*placed, options, nullptr);
  const int64_t before = StatusBytes("VmRSS");
  const auto executor = Load(*placed, options, nullptr);
  const DevicePlan& device = placed->plan.devices[0];
  EXPECT_GT(device.kv_cache, 100 << 20);
  EXPECT_GE(StatusBytes("VmRSS") - before, device.weights + device.kv_cache + device.activations - (int64_t{2} << 20));
}

}  // namespace
}  // namespace causeway
