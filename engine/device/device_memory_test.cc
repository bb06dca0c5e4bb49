#include "engine/device/device_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <thread>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>
#include <gmock/gmock.h>

#include "absl/synchronization/notification.h"
#include "engine/device/cpu_runtime.h"
#include "engine/device/page_toucher.h"
#include "engine/threads/team.h"

namespace causeway {
namespace {

at::Tensor Bytes(int64_t count) { return at::empty({count}, at::kByte); }

TEST(DeviceMemoryTest, TensorsCountForTheirDeviceAndOwner) {
  auto first = MakeCpuRuntime("simulated:0", 0, false), second = MakeCpuRuntime("simulated:1", 0, false);
  at::Tensor weights, cache, untagged;
  {
    MemoryScope outer(*first, MemoryOwner::kWeights);
    weights = Bytes(1000);
    {
      MemoryScope inner(*second, MemoryOwner::kKvCache);
      cache = Bytes(500);
    }
    weights = at::Tensor();
    weights = Bytes(1500);
  }
  untagged = Bytes(10'000);
  EXPECT_EQ(first->memory().weights, 1500);
  EXPECT_EQ(first->memory().kv_cache, 0);
  EXPECT_EQ(second->memory().kv_cache, 500);
  EXPECT_EQ(second->memory().weights, 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(weights.data_ptr()) % 64, 0u);
}

// Pages of the tensor's that are there.
int64_t Resident(const at::Tensor& tensor) {
  const uintptr_t page = sysconf(_SC_PAGESIZE), begin = reinterpret_cast<uintptr_t>(tensor.data_ptr()) / page * page;
  const size_t bytes = reinterpret_cast<uintptr_t>(tensor.data_ptr()) + tensor.nbytes() - begin;
  std::vector<unsigned char> there((bytes + page - 1) / page);
  EXPECT_EQ(mincore(reinterpret_cast<void*>(begin), bytes, there.data()), 0);
  return std::count_if(there.begin(), there.end(), [](unsigned char page) { return (page & 1) != 0; });
}

TEST(DeviceMemoryTest, AllocatingWeightsTakesNoPages) {
  auto runtime = MakeCpuRuntime("cpu", 0, false);
  MemoryScope scope(*runtime, MemoryOwner::kWeights);
  const at::Tensor first = Bytes(100), large = Bytes(64 << 20), last = Bytes(100);
  EXPECT_EQ(Resident(large), 0);
  EXPECT_EQ(runtime->memory().weights, (64 << 20) + 200);
}

TEST(DeviceMemoryTest, ACacheIsZeroedAndItsPagesAreThereOnceTouched) {
  auto runtime = MakeCpuRuntime("cpu", 100 << 20, false);
  // Of memory that was used and given back there is nothing to be seen.
  for (int i = 0; i < 3; ++i) {
    MemoryScope scope(*runtime, MemoryOwner::kWeights);
    Bytes(20 << 20).fill_(7);
  }
  const at::Tensor keys = runtime->CacheZeros({8, 1 << 20}, at::kFloat),
                   values = runtime->CacheZeros({1000}, at::kChar);
  EXPECT_EQ(runtime->memory().kv_cache, (32 << 20) + 1000);
  runtime->ReserveActivations(16 << 20);
  const std::vector<absl::Span<char>> untouched = runtime->TakeUntouched();
  EXPECT_TRUE(runtime->TakeUntouched().empty());
  PageToucher pages;
  size_t bytes = 0;
  for (const absl::Span<char> memory : untouched) {
    pages.Add(memory);
    bytes += memory.size();
  }
  EXPECT_EQ(bytes, (32 << 20) + 1000 + (16 << 20));
  pages.Finish(2);
  EXPECT_GE(Resident(keys), 32 << 8);
  {
    MemoryScope scope(*runtime, MemoryOwner::kActivations);
    EXPECT_GE(Resident(Bytes((16 << 20) - 64)), 16 << 8);
  }
  EXPECT_TRUE(keys.eq(0).all().item<bool>());
  EXPECT_TRUE(values.eq(0).all().item<bool>());
  EXPECT_THROW(runtime->CacheZeros({100 << 20}, at::kByte), c10::OutOfMemoryError);
}

TEST(DeviceMemoryTest, FreedOnAnotherThreadIsCreditedToWhereItWasAllocated) {
  auto runtime = MakeCpuRuntime("simulated:0", 0, false), other = MakeCpuRuntime("simulated:1", 0, false);
  at::Tensor tensor;
  {
    MemoryScope scope(*runtime, MemoryOwner::kActivations);
    tensor = Bytes(4096);
  }
  EXPECT_EQ(runtime->memory().activations, 4096);
  std::thread([&] {
    MemoryScope scope(*other, MemoryOwner::kWeights);
    tensor = at::Tensor();
  }).join();
  EXPECT_EQ(runtime->memory().activations, 0);
  EXPECT_EQ(runtime->memory().activations_peak, 4096);
  EXPECT_EQ(other->memory().weights, 0);
}

TEST(DeviceMemoryTest, OverBudgetIsAnErrorThatNamesEverything) {
  auto runtime = MakeCpuRuntime("simulated:2", 10'000, false);
  MemoryScope scope(*runtime, MemoryOwner::kWeights);
  const at::Tensor held = Bytes(6000);
  try {
    Bytes(4001);
    FAIL() << "no error";
  } catch (const c10::OutOfMemoryError& error) {
    EXPECT_THAT(error.what(),
                ::testing::HasSubstr("device simulated:2: 4001 bytes for weights do not fit: the budget is 10000"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("of which 6000 are held (weights 6000"));
  }
  EXPECT_EQ(runtime->memory().weights, 6000);  // a refused allocation leaves no trace
  EXPECT_NO_THROW(Bytes(4000));
}

TEST(DeviceMemoryTest, ReservedActivationsAreHeldAndReused) {
  auto runtime = MakeCpuRuntime("simulated:0", 3 << 20, false);
  runtime->ReserveActivations(1 << 20);
  MemoryScope scope(*runtime, MemoryOwner::kActivations);
  void* first = Bytes(500'000).data_ptr();
  EXPECT_EQ(Bytes(500'000).data_ptr(), first);
  EXPECT_EQ(runtime->memory().activations, 0);
  EXPECT_EQ(runtime->memory().activations_peak, 500'000);
  runtime->ResetActivationsPeak();
  EXPECT_EQ(runtime->memory().activations_peak, 0);
  {
    // The whole reserve counts against the budget, used or not.
    MemoryScope weights(*runtime, MemoryOwner::kWeights);
    EXPECT_THROW(Bytes((2 << 20) + 1), c10::OutOfMemoryError);
    EXPECT_NO_THROW(Bytes(2 << 20));
  }
  // What the reserve has no room for may still be within the budget, and not beyond.
  const at::Tensor inside = Bytes(600'000), outside = Bytes(600'000);
  EXPECT_EQ(runtime->memory().activations, 1'200'000);
  EXPECT_THROW(Bytes(2 << 20), c10::OutOfMemoryError);
}

TEST(DeviceMemoryTest, ATensorMayOutliveItsDevice) {
  auto runtime = MakeCpuRuntime("simulated:0", 0, false);
  runtime->ReserveActivations(1 << 20);
  at::Tensor tensor;
  {
    MemoryScope scope(*runtime, MemoryOwner::kActivations);
    tensor = at::zeros({1000});
  }
  runtime.reset();
  tensor.add_(1);
  EXPECT_EQ(tensor.sum().item<float>(), 1000);
}

TEST(DeviceMemoryTest, ThreadsCountExactly) {
  auto runtime = MakeCpuRuntime("cpu", 0, false);
  runtime->ReserveActivations(1 << 20);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&runtime, t] {
      MemoryScope scope(*runtime, static_cast<MemoryOwner>(t));
      for (int i = 0; i < 2000; ++i) Bytes(1 + i % 5000);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const DeviceMemory memory = runtime->memory();
  EXPECT_EQ(memory.weights + memory.kv_cache + memory.activations + memory.workspace, 0);
}

TEST(CpuRuntimeTest, EachThreadKeepsItsOwnNumberOfThreads) {
  auto runtime = MakeCpuRuntime("cpu", 0, false);
  absl::Notification entered, disturbed;
  int seen = 0, seen_by_torch = 0;
  std::thread worker([&] {
    runtime->EnterThread(3);
    entered.Notify();
    disturbed.WaitForNotification();
    seen = TeamThreads();
    seen_by_torch = at::get_num_threads();  // the thread's first use
  });
  entered.WaitForNotification();
  std::thread([&] { runtime->EnterThread(1); }).join();
  disturbed.Notify();
  worker.join();
  EXPECT_EQ(seen, 3);
  EXPECT_EQ(seen_by_torch, 1) << "what ATen does is small and stays on the thread";
}

}  // namespace
}  // namespace causeway
