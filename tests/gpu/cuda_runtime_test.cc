// The CUDA runtime of a device, on GPUs that are not there.
#include <memory>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>

#include "engine/device/cuda_library.h"
#include "engine/device/device_runtime.h"
#include "tests/support/cuda_standin/standin.h"

extern "C" const causeway::CudaLibrary* causeway_cuda_library();

namespace causeway {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

class CudaRuntimeTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { standin::SetDevices(8, 16 * kGiB); }
  ~CudaRuntimeTest() override { standin::MendDevices(); }

  static std::unique_ptr<DeviceRuntime> Make(int index, int64_t budget = 8 * kGiB) {
    DevicePlan plan;
    plan.device = causeway_cuda_library()->devices().at(index);
    plan.budget = budget;
    absl::StatusOr<std::unique_ptr<DeviceRuntime>> runtime =
        causeway_cuda_library()->make_runtime(plan, /*reference_ops=*/false);
    EXPECT_TRUE(runtime.ok()) << runtime.status();
    (*runtime)->EnterThread(1);
    return *std::move(runtime);
  }

  const c10::InferenceMode inference_;
};

TEST_F(CudaRuntimeTest, ListsDevices) {
  const std::vector<Device> devices = causeway_cuda_library()->devices();
  ASSERT_EQ(devices.size(), 8u);
  EXPECT_EQ(devices[7].name, "cuda:7");
  EXPECT_EQ(devices[7].model, "Stand-in GPU");
  EXPECT_EQ(devices[7].memory_bytes, 16 * kGiB);
}

TEST_F(CudaRuntimeTest, WhatIsUploadedComesBack) {
  const auto runtime = Make(1);
  const at::Tensor host = at::arange(1000);
  const at::Tensor there = runtime->Upload(host);
  EXPECT_EQ(there.device(), at::Device(at::kCUDA, 1));
  EXPECT_TRUE(runtime->Download(there + there).equal(host * 2));
}

TEST_F(CudaRuntimeTest, OperationsAreMade) {
  const auto runtime = Make(0);
  const auto ops = runtime->MakeOps();
  const auto weight = ops->NewLinear(3, 2, /*bias=*/true, at::kFloat, runtime->device());
  weight->SetRows(0, at::ones({3, 2}));
  weight->SetBias(0, at::ones({3}));
  EXPECT_TRUE(runtime->Download(weight->Forward(runtime->Upload(at::ones({1, 2})))).equal(at::ones({1, 3}) * 3));
}

TEST_F(CudaRuntimeTest, AnAllocationOverTheBudgetIsRefusedAndLaterOnesAreNot) {
  const auto runtime = Make(2, /*budget=*/kGiB);
  const auto allocate = [&](int64_t bytes) {
    return at::empty({bytes}, at::TensorOptions(at::kByte).device(runtime->device()));
  };
  EXPECT_THROW(allocate(2 * kGiB), c10::OutOfMemoryError);
  EXPECT_EQ(allocate(kGiB / 2).numel(), kGiB / 2);
  // The device has less than the budget: others hold the rest.
  const auto crowded = Make(3);
  standin::SetOthersBytes(3, 15 * kGiB);
  EXPECT_THROW(at::empty({2 * kGiB}, at::TensorOptions(at::kByte).device(crowded->device())), c10::OutOfMemoryError);
  standin::SetOthersBytes(3, 0);
}

TEST_F(CudaRuntimeTest, ADeviceThatFailedFailsEveryCall) {
  const auto runtime = Make(4);
  const at::Tensor there = runtime->Upload(at::ones({4}));
  standin::FailDevice(4);
  EXPECT_THROW(runtime->Upload(at::ones({4})), c10::Error);
  EXPECT_THROW(runtime->Download(there), c10::Error);
  EXPECT_THROW(runtime->Synchronize(), c10::Error);
  EXPECT_NO_THROW(Make(5)->Upload(at::ones({4})));
}

TEST_F(CudaRuntimeTest, LinksAreWhatTheDriverSays) {
  const CudaSystem system = causeway_cuda_library()->system();
  EXPECT_EQ(system.links.size(), 28u);
  EXPECT_FALSE(system.links[0].peer_access);
  EXPECT_TRUE(system.pins_memory);
}

}  // namespace
}  // namespace causeway
