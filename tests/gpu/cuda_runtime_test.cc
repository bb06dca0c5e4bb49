// The CUDA runtime of a device, on GPUs that are not there.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
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
    plan.device = causeway_cuda_library()->devices()->at(index);
    plan.budget = budget;
    absl::StatusOr<std::unique_ptr<DeviceRuntime>> runtime =
        causeway_cuda_library()->make_runtime(plan, /*reference_ops=*/false);
    EXPECT_TRUE(runtime.ok()) << runtime.status();
    (*runtime)->EnterThread(1);
    return *std::move(runtime);
  }

  const c10::InferenceMode inference_;
};

// The first test, since a context stays.
TEST_F(CudaRuntimeTest, ListsDevicesWithoutAContext) {
  const std::vector<Device> devices = *causeway_cuda_library()->devices();
  ASSERT_EQ(devices.size(), 8u);
  EXPECT_EQ(devices[7].name, "cuda:7");
  EXPECT_EQ(devices[7].model, "Stand-in GPU");
  EXPECT_EQ(devices[7].memory_bytes, 16 * kGiB);
  standin::SetOthersBytes(7, 3 * kGiB);
  EXPECT_EQ(causeway_cuda_library()->devices()->at(7).available_bytes, 13 * kGiB);
  standin::SetOthersBytes(7, 0);
  for (int i = 0; i < 8; ++i) EXPECT_FALSE(standin::StateOf(i).has_context) << i;
}

TEST_F(CudaRuntimeTest, WhatIsUploadedComesBack) {
  const auto runtime = Make(1);
  const at::Tensor host = at::arange(1000);
  const at::Tensor there = runtime->Upload(host);
  EXPECT_EQ(there.device(), at::Device(at::kCUDA, 1));
  EXPECT_TRUE(runtime->Download(there + there).equal(host * 2));
}

TEST_F(CudaRuntimeTest, SeveralAreUploadedInOneCopy) {
  const auto runtime = Make(1);
  const std::vector<at::Tensor> hosts = {at::arange(7), at::Tensor(), at::arange(5, at::kInt), at::ones({3, 0}),
                                         at::ones({2, 3}).transpose(0, 1)};
  standin::StartLog();
  const std::vector<at::Tensor> there = runtime->UploadAll(hosts);
  const standin::Counts counts = standin::Count(standin::TakeLog());
  EXPECT_EQ(counts.to_device, 1);
  EXPECT_EQ(counts.waits, 0);
  ASSERT_EQ(there.size(), hosts.size());
  EXPECT_FALSE(there[1].defined());
  for (const int i : {0, 2, 3, 4}) {
    EXPECT_EQ(there[i].device(), at::Device(at::kCUDA, 1));
    EXPECT_EQ(there[i].storage_offset() * there[i].element_size() % 16, 0) << i;
    EXPECT_TRUE(there[i].is_contiguous() && runtime->Download(there[i]).equal(hosts[i])) << i;
  }
  EXPECT_EQ(runtime->UploadAll({at::Tensor(), at::ones({0})})[1].numel(), 0);
}

// The memory that an upload is copied from is not written to again before the copy is done.
TEST_F(CudaRuntimeTest, UploadsInFlightDontShareMemory) {
  const auto runtime = Make(1);
  const auto upload = [&](int64_t size) {
    standin::StartLog();
    runtime->UploadAll({at::ones({size})});
    const void* from = nullptr;
    bool waited = false;
    for (const standin::Call& call : standin::TakeLog()) {
      if (call.copied == standin::Copied::kToDevice) from = call.touches.at(0).begin;
      waited |= call.name == "cudaEventSynchronize";
    }
    return std::pair(from, waited);
  };
  const void* first = upload(10).first;
  EXPECT_EQ(upload(10), std::pair(first, false)) << "the copy before is done";
  std::vector<const void*> in_flight = {first};
  for (int i = 0; i < 3; ++i) {
    standin::FailCall("cudaEventQuery", cudaErrorNotReady);
    const auto [from, waited] = upload(10);
    EXPECT_THAT(in_flight, ::testing::Not(::testing::Contains(from)));
    EXPECT_FALSE(waited);
    in_flight.push_back(from);
  }
  standin::FailCall("cudaEventQuery", cudaErrorNotReady);
  EXPECT_EQ(upload(10), std::pair(first, true)) << "as many are in flight as may be";
  EXPECT_NE(upload(100'000).first, nullptr) << "what is longer";
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

TEST_F(CudaRuntimeTest, OnlyAFailureForGoodIsTheDevices) {
  const auto runtime = Make(6);
  EXPECT_TRUE(runtime->Health().ok());
  EXPECT_THROW(at::empty({9 * kGiB}, at::TensorOptions(at::kByte).device(runtime->device())), c10::OutOfMemoryError);
  standin::FailCall("cudaMemcpyAsync", cudaErrorInvalidValue);
  EXPECT_THROW(runtime->Upload(at::ones({4})), c10::Error);
  EXPECT_TRUE(runtime->Health().ok()) << runtime->Health();
  standin::FailDevice(6);
  EXPECT_EQ(runtime->Health().message(), "cuda:6 has failed: an illegal memory access was encountered");
}

TEST_F(CudaRuntimeTest, AStreamThatCannotBeMadeIsAnError) {
  DevicePlan plan;
  plan.device = causeway_cuda_library()->devices()->at(7);
  plan.budget = kGiB;
  standin::FailCall("cudaStreamCreateWithPriority", cudaErrorMemoryAllocation);
  const auto runtime = causeway_cuda_library()->make_runtime(plan, /*reference_ops=*/false);
  EXPECT_THAT(runtime.status().message(), ::testing::HasSubstr("cuda:7: CUDA error: out of memory"));
}

TEST_F(CudaRuntimeTest, AReceiverCopiesOnItsOwnStreamBehindWhatWritesTheTensor) {
  const auto sender = Make(0), receiver = Make(1);
  sender->EnterThread(1);
  const at::Tensor host = at::arange(6);
  at::Tensor tensor = sender->Upload(host);
  standin::StartLog();
  DeviceRuntime::Sent sent = sender->Send(tensor);
  receiver->EnterThread(1);
  const at::Tensor received = receiver->Receive(std::move(sent));
  std::vector<standin::Call> ordering;
  for (const standin::Call& call : standin::TakeLog()) {
    if (call.name != "cudaEventCreateWithFlags" && call.name != "cudaMalloc" && call.name != "cudaEventQuery")
      ordering.push_back(call);
  }
  std::vector<std::string> names;
  for (const standin::Call& call : ordering) names.push_back(call.name);
  ASSERT_THAT(names,
              ::testing::ElementsAre("cudaEventRecord", "cudaEventRecord", "cudaStreamWaitEvent", "cudaStreamWaitEvent",
                                     "cudaMemcpyPeerAsync", "cudaEventRecord", "cudaStreamWaitEvent"));
  EXPECT_EQ(ordering[0].device, 0);
  for (size_t i = 1; i < ordering.size(); ++i) EXPECT_EQ(ordering[i].device, 1) << i;
  // The copy waits for the sender's work and for its turn here, and what follows here waits for the copy.
  EXPECT_EQ(ordering[3].event, ordering[0].event);
  EXPECT_EQ(ordering[2].event, ordering[1].event);
  for (const int i : {2, 3, 5}) EXPECT_EQ(ordering[i].stream, ordering[4].stream) << i;
  EXPECT_EQ(ordering[6].event, ordering[5].event);
  EXPECT_EQ(ordering[6].stream, ordering[1].stream);
  EXPECT_NE(ordering[6].stream, ordering[4].stream);
  EXPECT_EQ(received.device(), at::Device(at::kCUDA, 1));
  EXPECT_TRUE(receiver->Download(received).equal(host));
}

// Where the driver does not let devices see each other's memory, it brings the bytes over by itself.
TEST_F(CudaRuntimeTest, TensorsAreHandedOverWithPeerAccessAndWithout) {
  for (const bool allowed : {false, true}) {
    standin::AllowPeerAccess(allowed);
    const auto sender = Make(allowed ? 2 : 4), receiver = Make(allowed ? 3 : 5);
    sender->EnterThread(1);
    const at::Tensor host = at::arange(1000);
    DeviceRuntime::Sent sent = sender->Send(sender->Upload(host));
    receiver->EnterThread(1);
    const at::Tensor received = receiver->Receive(std::move(sent));
    EXPECT_TRUE(receiver->Download(received).equal(host));
  }
  standin::AllowPeerAccess(false);
}

// The allocator takes default streams of two devices for the same one.
TEST_F(CudaRuntimeTest, WhatIsBeingReceivedIsNotOverwritten) {
  const auto sender = Make(0), receiver = Make(1);
  const auto allocate = [&] {
    sender->EnterThread(1);
    return at::empty({1 << 16}, at::TensorOptions(at::kByte).device(sender->device()));
  };
  standin::KeepEventsBusy(true);
  at::Tensor tensor = allocate();
  const void* memory = tensor.const_data_ptr();
  DeviceRuntime::Sent sent = sender->Send(std::move(tensor));
  receiver->EnterThread(1);
  const at::Tensor received = receiver->Receive(std::exchange(sent, {}));
  EXPECT_NE(allocate().const_data_ptr(), memory) << "while it is copied";
  standin::KeepEventsBusy(false);
}

TEST_F(CudaRuntimeTest, WorkIsMarkedAndTimedWhicheverDeviceIsCurrent) {
  const auto runtime = Make(0), other = Make(1);  // the thread's device is now 1
  standin::StartLog();
  runtime->Mark()();
  runtime->BeginWork();
  runtime->EndWork();
  int records = 0;
  for (const standin::Call& call : standin::TakeLog()) {
    if (call.name != "cudaEventRecord") continue;
    ++records;
    EXPECT_EQ(call.device, 0) << "the default stream is that of the current device";
  }
  EXPECT_EQ(records, 3);
  EXPECT_DOUBLE_EQ(runtime->busy_seconds(), 0.001) << "what the device's events say, and not the host's clock";
}

TEST_F(CudaRuntimeTest, MemoryThatCannotBeLockedIsOutOfMemory) {
  const auto runtime = Make(0);
  standin::FailCall("cudaHostAlloc", cudaErrorMemoryAllocation);
  EXPECT_THROW(runtime->AllocateHost(4096), c10::OutOfMemoryError);
  EXPECT_EQ(runtime->AllocateHost(4096).numel(), 4096);
}

TEST_F(CudaRuntimeTest, SumsAreInFp32) {
  Make(0);
  EXPECT_EQ(at::globalContext().allowBF16ReductionCuBLAS(),
            at::CuBLASReductionOption::DisallowReducedPrecisionAllowSplitK);
  EXPECT_EQ(at::globalContext().allowFP16ReductionCuBLAS(),
            at::CuBLASReductionOption::DisallowReducedPrecisionAllowSplitK);
}

TEST_F(CudaRuntimeTest, WhatLoadingTookIsGivenBackBeforeStepsTakeTheirs) {
  const auto runtime = Make(5);
  at::empty({kGiB}, at::TensorOptions(at::kByte).device(runtime->device()));
  EXPECT_GE(standin::StateOf(5).allocated, kGiB);
  runtime->ReserveActivations(64 << 20);
  EXPECT_LT(standin::StateOf(5).allocated, 128 << 20);
}

// A row's penalties are of the tokens that it has, of which there are few beside the vocabulary.
TEST_F(CudaRuntimeTest, PenaltiesUploadWhatTheTextHas) {
  constexpr int64_t kVocab = 100'000;
  const auto runtime = Make(0);
  const auto ops = runtime->MakeOps();
  SamplingParams params;
  params.temperature = 0;
  params.repetition_penalty = 2;
  std::vector<int32_t> prompt(kVocab, 0), output(kVocab, 0);
  prompt[7] = output[9] = 1;
  SampleRow row;
  row.params = &params;
  row.prompt_counts = &prompt;
  row.output_counts = &output;
  at::Tensor logits = at::zeros({1, kVocab});
  logits[0][7] = 8;
  logits[0][8] = 6;
  logits[0][9] = 9;
  const at::Tensor there = runtime->Upload(logits);
  standin::StartLog();
  EXPECT_EQ(ops->Sample(there, {row}).at(0).token, 8);
  int64_t copied = 0;
  for (const standin::Call& call : standin::TakeLog()) {
    if (call.name == "cudaMemcpyAsync") copied += call.bytes;
  }
  EXPECT_LT(copied, kVocab * 4 + 4096) << "the device's own copy of the logits, and little beside";
}

TEST_F(CudaRuntimeTest, LinksAreWhatTheDriverSays) {
  const CudaSystem system = causeway_cuda_library()->system();
  EXPECT_EQ(system.links.size(), 28u);
  EXPECT_FALSE(system.links[0].peer_access);
  EXPECT_TRUE(system.pins_memory);
}

}  // namespace
}  // namespace causeway
