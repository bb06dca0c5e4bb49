// The emulator runs right kernels right, and finds each planted fault.
#include <cmath>
#include <iostream>
#include <numeric>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/cuda_emulator/emulator.h"
#include "tests/support/cuda_emulator/faulty_kernels.h"
#include "tests/support/cuda_emulator/guarded_memory.h"

namespace causeway::cuda_emulator {
namespace {

using ::testing::HasSubstr;

constexpr int kBlocks = 8, kThreads = 128;

class CudaEmulatorTest : public ::testing::Test {
 protected:
  void SetUp() override { Restart(); }
  static void TearDownTestSuite() { std::cout << TakeCounts(); }

  // Runs the sums once. Returns the fault, "wrong results", or nothing.
  static std::string Run(Planted planted) {
    GuardedMemory input("input", kBlocks * kThreads * sizeof(float));
    GuardedMemory output("output", kBlocks * kThreads * sizeof(float));
    std::iota(input.data<float>(), input.data<float>() + kBlocks * kThreads, 1.f);
    input.MakeReadOnly();
    const cudaError_t error = LaunchSums(planted, input.data<float>(), output.data<float>(), kBlocks);
    const std::string fault = TakeFault();
    EXPECT_EQ(error, fault.empty() ? cudaSuccess : cudaErrorLaunchFailure);
    if (!fault.empty()) return fault;
    for (int i = 0; i < kBlocks * kThreads; ++i) {
      const int first = i / kThreads * kThreads;
      const float expected = kThreads * (2 * first + 1 + kThreads) / 2.f;
      if (!(std::abs(output.data<float>()[i] - expected) < 0.01f)) return "wrong results";
    }
    return "";
  }
};

TEST_F(CudaEmulatorTest, ARightKernelIsRight) {
  for (int round = 0; round < 50; ++round) ASSERT_EQ(Run(Planted::kNone), "");
}

TEST_F(CudaEmulatorTest, EveryPlantedFaultIsFoundInEveryRun) {
  const std::vector<std::pair<Planted, std::string>> faults = {
      {Planted::kMissingBarrier, "wrong results"},
      {Planted::kLateBarrier, "wrong results"},
      {Planted::kUninitializedShared, "wrong results"},
      {Planted::kNotAtomic, "wrong results"},
      {Planted::kBarrierOfSome, "while others wait at that of line"},
      {Planted::kTwoBarriers, "while others wait at that of line"},
      {Planted::kEndedEarly, "has ended"},
      {Planted::kMaskOfEnded, "has ended"},
      {Planted::kMaskOfMissing, "waits at __syncthreads of line"},
      {Planted::kMaskWithoutSelf, "with mask 7fffffff: "},
      {Planted::kDifferentMasks, "with mask ffff0000"},
      {Planted::kReadsLaneOutside, "which takes no part"},
      {Planted::kSharedOverrun, "index 4 is beyond an array of type 'float [4]'"},
      {Planted::kDynamicOverrun, "0 bytes after the end of `the dynamic shared memory`"},
      {Planted::kGlobalOverrun, "0 bytes after the end of `output`"},
      {Planted::kGlobalUnderrun, "in front of `output`"},
      {Planted::kWriteToInput, "a write to `input`, which is only read"},
      {Planted::kMisaligned, "which is aligned to 16 bytes"},
  };
  int runs = 0;
  for (const auto& [planted, expected] : faults) {
    for (int round = 0; round < 20; ++round, ++runs) {
      ASSERT_THAT(Run(planted), HasSubstr(expected)) << "fault " << static_cast<int>(planted) << ", round " << round;
    }
  }
  std::cout << "[emulated] " << faults.size() << " planted faults, found in " << runs << " of " << runs << " runs\n";
}

TEST_F(CudaEmulatorTest, AFaultSaysWhereAndLastsUntilItIsTaken) {
  GuardedMemory input("input", kThreads * sizeof(float)), output("output", 4);
  EXPECT_EQ(LaunchSums(Planted::kNone, input.data<float>(), output.data<float>(), 1), cudaErrorLaunchFailure);
  EXPECT_EQ(LaunchNothing(1, 1, 0), cudaErrorLaunchFailure);
  const std::string fault = TakeFault();
  EXPECT_THAT(fault, HasSubstr("Sums, block (0, 0, 0), thread ("));
  EXPECT_THAT(fault, HasSubstr("after the end of `output`"));
  EXPECT_THAT(fault, HasSubstr("CAUSEWAY_EMULATOR_SEED="));
  EXPECT_EQ(LaunchNothing(1, 1, 0), cudaSuccess);
  EXPECT_EQ(TakeFault(), "");
}

TEST_F(CudaEmulatorTest, BytesBesideUnalignedMemoryAreWatched) {
  // The output's last page ends 4 bytes after the output, so that no page tells of the overrun.
  GuardedMemory input("input", kThreads * sizeof(float)), output("output", kThreads * sizeof(float) - 4);
  input.Fill(0);
  LaunchSums(Planted::kNone, input.data<float>(), output.data<float>(), 1);
  EXPECT_THAT(TakeFault(), HasSubstr("changed the bytes after the end of `output`"));
}

TEST_F(CudaEmulatorTest, ShapesAreRefusedAsCudaDoes) {
  EXPECT_EQ(LaunchNothing(0, 1, 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(LaunchNothing(1, 0, 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(LaunchNothing(1, 1025, 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(LaunchNothing(dim3(1, 65536), 1, 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(LaunchNothing(dim3(1, 1, 65536), 1, 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(LaunchNothing(1, 1, 48 * 1024 + 1), cudaErrorInvalidValue);
  EXPECT_EQ(LaunchNothing(dim3(3, 2, 2), dim3(5, 3, 2), 48 * 1024), cudaSuccess);
  EXPECT_EQ(LaunchNothing(1, 1024, 0), cudaSuccess);
}

TEST_F(CudaEmulatorTest, LanesExchangeAsCudaSays) {
  LaneResults got;
  ASSERT_EQ(LaunchLanes(&got), cudaSuccess) << TakeFault();
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(got.from[0][lane], lane / 8 * 8 + 3);
    EXPECT_EQ(got.from[1][lane], lane % 16 < 2 ? lane : lane - 2);
    EXPECT_EQ(got.from[2][lane], lane < 27 ? lane + 5 : lane);
    EXPECT_EQ(got.from[3][lane], lane ^ 4);
    EXPECT_EQ(got.from[4][lane], lane ^ 1);
  }
}

TEST_F(CudaEmulatorTest, AtomicsAreOneStep) {
  int sum = 0, largest = 0, lock = 0, guarded = 0;
  ASSERT_EQ(LaunchAtomics(&sum, &largest, &lock, &guarded, 4), cudaSuccess) << TakeFault();
  EXPECT_EQ(sum, 4 * 96);
  EXPECT_EQ(largest, 4 * 96 - 1);
  EXPECT_EQ(lock, 0);
  EXPECT_EQ(guarded, 4 * 96);
}

}  // namespace
}  // namespace causeway::cuda_emulator
