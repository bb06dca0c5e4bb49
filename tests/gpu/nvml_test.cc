// What the CUDA library reads of GPUs, from a stand-in for NVML.
#include <cstdlib>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/device/cuda_library.h"
#include "engine/device/device_runtime.h"
#include "tests/support/cuda_standin/standin.h"
#include "tests/support/temporary_folder.h"

extern "C" const causeway::CudaLibrary* causeway_cuda_library();

namespace causeway {
namespace {

using ::testing::Contains;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr int64_t kGiB = int64_t{1} << 30, kMiB = int64_t{1} << 20;

class NvmlTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { standin::SetDevices(3, 16 * kGiB); }
  NvmlTest() { setenv("CAUSEWAY_STANDIN_NVML", file_.c_str(), 1); }
  ~NvmlTest() override { unsetenv("CAUSEWAY_STANDIN_NVML"); }

  void Tell(const std::string& lines) { std::ofstream(file_, std::ios::app) << lines; }
  static Device At(int id) { return causeway_cuda_library()->devices()->at(id); }
  static GpuReading Read(int id) { return causeway_cuda_library()->read(At(id).uuid).value(); }
  static std::unique_ptr<DeviceRuntime> Make(int id) {
    DevicePlan plan;
    plan.device = At(id);
    plan.budget = 8 * kGiB;
    auto runtime = causeway_cuda_library()->make_runtime(plan, /*reference_ops=*/false);
    EXPECT_TRUE(runtime.ok()) << runtime.status();
    (*runtime)->EnterThread(1);
    return *std::move(runtime);
  }

  const testing::TemporaryFolder folder_{"nvml"};
  const std::string file_ = folder_.path() + "/values";
};

// The first test, since a context stays.
TEST_F(NvmlTest, ReadingMakesNoContext) {
  Tell(
      "1 utilization 87\n1 power 312500\n1 power_limit 700000\n1 temperature 64\n1 reasons 36\n"
      "1 ecc_corrected 3\n1 ecc_uncorrected 0\n1 others 1000\n1 reserved 500\n1 xid 0\n");
  const GpuReading reading = Read(1);
  EXPECT_EQ(reading.uuid, "GPU-00000000-0000-0000-0000-000000000001");
  EXPECT_EQ(reading.utilization, 0.87);
  EXPECT_DOUBLE_EQ(reading.power_watts.value(), 312.5);
  EXPECT_DOUBLE_EQ(reading.power_limit_watts.value(), 700);
  EXPECT_EQ(reading.temperature_celsius, 64);
  EXPECT_THAT(reading.throttled, Contains(Pair("sw_power_cap", true)));
  EXPECT_THAT(reading.throttled, Contains(Pair("sw_thermal_slowdown", true)));
  EXPECT_THAT(reading.throttled, Contains(Pair("hw_thermal_slowdown", false)));
  EXPECT_EQ(reading.ecc_corrected, 3);
  EXPECT_EQ(reading.ecc_uncorrected, 0);
  EXPECT_EQ(reading.used_bytes, 1000) << "what is reserved is nobody's";
  EXPECT_EQ(reading.own_bytes, std::nullopt);
  EXPECT_EQ(reading.xids, std::nullopt) << "nobody watches them yet";
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(standin::StateOf(i).has_context) << i;
}

TEST_F(NvmlTest, WhatIsNotSupportedIsMissing) {
  const GpuReading reading = Read(2);
  EXPECT_EQ(reading.utilization, std::nullopt);
  EXPECT_EQ(reading.power_watts, std::nullopt);
  EXPECT_EQ(reading.power_limit_watts, std::nullopt);
  EXPECT_EQ(reading.temperature_celsius, std::nullopt);
  EXPECT_THAT(reading.throttled, IsEmpty());
  EXPECT_EQ(reading.ecc_corrected, std::nullopt);
  EXPECT_EQ(reading.ecc_uncorrected, std::nullopt);
  const auto runtime = Make(2);
  EXPECT_EQ(Read(2).xids, std::nullopt);
}

TEST_F(NvmlTest, AnUnknownGpuHasNoReading) {
  EXPECT_EQ(causeway_cuda_library()->read("").has_value(), false);
  EXPECT_EQ(causeway_cuda_library()->read("00000000-0000-0000-0000-0000000000ff").has_value(), false);
}

TEST_F(NvmlTest, OwnMemoryIsKnownWhereTheProcessIs) {
  const auto runtime = Make(0);
  const at::Tensor held = runtime->CacheZeros({100 * kMiB}, at::TensorOptions(at::kByte).device(runtime->device()));
  Tell("0 others 1000\n");
  const GpuReading reading = Read(0);
  EXPECT_GT(reading.own_bytes.value(), 100 * kMiB) << "with the context";
  EXPECT_EQ(*reading.used_bytes - *reading.own_bytes, 1000);
  Tell("0 pid 4194999\n");  // as a container's processes are called outside of it
  EXPECT_EQ(Read(0).own_bytes, std::nullopt);
  EXPECT_EQ(Read(0).used_bytes, reading.used_bytes);
}

TEST_F(NvmlTest, XidsAreKeptFromTheFirstRuntimeOn) {
  Tell("1 xid 0\n1 xid 13\n");
  const auto runtime = Make(1);
  EXPECT_EQ(Read(1).xids, 0) << "the one before was others'";
  EXPECT_EQ(Read(1).last_xid, std::nullopt);
  Tell("1 xid 31\n1 xid 43\n");
  EXPECT_EQ(Read(1).xids, 2);
  EXPECT_EQ(Read(1).xids, 2);
  Tell("1 xid 79\n");
  standin::FailDevice(1);
  EXPECT_EQ(runtime->Health().message(),
            "cuda:1 has failed: an illegal memory access was encountered; its last Xid is 79");
  standin::MendDevices();
  EXPECT_EQ(Read(1).xids, 3);
}

}  // namespace
}  // namespace causeway
