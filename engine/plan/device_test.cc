#include "engine/plan/device.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/plan/machine.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

std::vector<Device> ThreeGpus() {
  std::vector<Device> devices;
  for (int id = 0; id < 3; ++id)
    devices.push_back({DeviceKind::kCuda, id, "cuda:" + std::to_string(id), "GPU", 100, 90});
  return devices;
}
std::vector<Device> NoGpus() { return {}; }
absl::StatusOr<std::vector<Device>> BrokenLibrary() {
  return absl::FailedPreconditionError("cannot load the CUDA library");
}

std::vector<std::string> Names(const absl::StatusOr<std::vector<Device>>& devices) {
  EXPECT_TRUE(devices.ok()) << devices.status();
  std::vector<std::string> names;
  for (const Device& device : devices.value_or(std::vector<Device>())) names.push_back(device.name);
  return names;
}

TEST(ParseDevicesTest, CudaWhereThereIsAnyElseTheCpu) {
  EXPECT_THAT(Names(ParseDevices("", ThreeGpus)), testing::ElementsAre("cuda:0", "cuda:1", "cuda:2"));
  EXPECT_THAT(Names(ParseDevices("auto", ThreeGpus)), testing::ElementsAre("cuda:0", "cuda:1", "cuda:2"));
  EXPECT_THAT(Names(ParseDevices("", NoGpus)), testing::ElementsAre("cpu"));
  EXPECT_THAT(Names(ParseDevices("auto", NoGpus)), testing::ElementsAre("cpu"));
  EXPECT_THAT(Names(ParseDevices("", BrokenLibrary)), testing::ElementsAre("cpu"));
  EXPECT_THAT(Names(ParseDevices("cpu", ThreeGpus)), testing::ElementsAre("cpu"));
  EXPECT_THAT(Names(ParseDevices("cuda", ThreeGpus)), testing::ElementsAre("cuda:0", "cuda:1", "cuda:2"));
  EXPECT_THAT(Names(ParseDevices("cuda:2,0", ThreeGpus)), testing::ElementsAre("cuda:0", "cuda:2"));
}

// A GPU that the kernels are not compiled for is refused by name, and left out where none is named.
TEST(ParseDevicesTest, GpusWithoutKernelsAreRefused) {
  const auto listed = [](std::vector<int> capabilities) {
    return [capabilities] {
      std::vector<Device> devices = ThreeGpus();
      for (size_t i = 0; i < devices.size(); ++i) devices[i].compute_capability = capabilities[i];
      return devices;
    };
  };
  const auto mixed = listed({80, 75, 120}), old = listed({70, 75, 61});
  EXPECT_THAT(Names(ParseDevices("", mixed)), testing::ElementsAre("cuda:0", "cuda:2"));
  EXPECT_THAT(Names(ParseDevices("", old)), testing::ElementsAre("cpu"));
  EXPECT_THAT(Names(ParseDevices("cuda:0,2", mixed)), testing::ElementsAre("cuda:0", "cuda:2"));
  for (const absl::string_view text : {"cuda", "cuda:1"}) {
    const absl::Status refused = ParseDevices(text, mixed).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << text;
    EXPECT_THAT(std::string(refused.message()),
                HasSubstr("cuda:1 (GPU) has compute capability 7.5, and the CUDA kernels need 8.0 or more"));
  }
  // For plans, too.
  EXPECT_THAT(std::string(ParseDevices("2xA100-80GB,1xT4", NoGpus).status().message()),
              HasSubstr("cuda:2 (T4) has compute capability 7.5"));
  EXPECT_THAT(std::string(ParseDevices("V100-32GB", NoGpus).status().message()), HasSubstr("7.0"));
}

TEST(ParseDevicesTest, SimulatedOnesAreNumberedThrough) {
  const absl::StatusOr<std::vector<Device>> devices = ParseDevices("simulated:2x512MiB,1x1GiB, 3MB", NoGpus);
  EXPECT_THAT(Names(devices), testing::ElementsAre("simulated:0", "simulated:1", "simulated:2", "simulated:3"));
  EXPECT_EQ((*devices)[1].memory_bytes, 512 << 20);
  EXPECT_EQ((*devices)[2].memory_bytes, 1 << 30);
  EXPECT_EQ((*devices)[3].available_bytes, 3'000'000);
  EXPECT_EQ((*devices)[2].key(), "2");
  EXPECT_EQ((*devices)[2].kind, DeviceKind::kSimulated);
}

TEST(ParseDevicesTest, ACpuWithSoMuchMemoryIsPlannedFor) {
  const std::vector<Device> alone = *ParseDevices("cpu:256GB", ThreeGpus);
  ASSERT_THAT(Names(alone), testing::ElementsAre("cpu"));
  EXPECT_EQ(alone[0].kind, DeviceKind::kCpu);
  EXPECT_EQ(alone[0].memory_bytes, 256'000'000'000);
  EXPECT_EQ(alone[0].available_bytes, 256'000'000'000);
  EXPECT_EQ(alone[0].model, CpuDevice().model);
  EXPECT_FALSE(alone[0].at_hand);
  for (const absl::string_view text : {"2xL4,A10,cpu:256GB", "cpu:256GB, 2xL4,A10", "2xL4,cpu:256 GB,A10"}) {
    const std::vector<Device> beside = *ParseDevices(text, NoGpus);
    EXPECT_THAT(Names(beside), testing::ElementsAre("cuda:0", "cuda:1", "cuda:2")) << text;
    for (const Device& device : beside) EXPECT_EQ(device.host_bytes, 256'000'000'000);
    EXPECT_EQ(beside[2].model, "A10");
  }
  EXPECT_EQ(ParseDevices("2xL4", NoGpus)->front().host_bytes, 0);
  EXPECT_GT(ParseDevices("cuda", ThreeGpus)->front().host_bytes, 0);
  EXPECT_GT(ParseDevices("simulated:1x1GB", NoGpus)->front().host_bytes, 0);
}

TEST(ParseDevicesTest, SaysWhatCouldHaveBeenWritten) {
  auto error = [](absl::string_view text) { return std::string(ParseDevices(text, ThreeGpus).status().message()); };
  EXPECT_THAT(error("gpu"), HasSubstr("simulated:4x512MiB"));
  EXPECT_THAT(error("cuda:7"), AllOf(HasSubstr("no GPU 7"), HasSubstr("cuda:2")));
  EXPECT_THAT(error("cuda:x"), HasSubstr("\"x\""));
  EXPECT_THAT(error("cuda:1,1"), HasSubstr("twice"));
  EXPECT_THAT(error("simulated:0x1GB"), HasSubstr("\"0\""));
  EXPECT_THAT(error("simulated:-1x1GB"), HasSubstr("\"-1\""));
  EXPECT_THAT(error("simulated:4x512"), HasSubstr("\"512B\""));
  EXPECT_THAT(error("simulated:4x0B"), HasSubstr("without memory"));
  EXPECT_THAT(error("simulated:2000x1MB"), HasSubstr("1024"));
  EXPECT_THAT(error("simulated:"), HasSubstr("empty"));
  EXPECT_THAT(error("8xH200"), testing::EndsWith("did you mean H200-141GB or GH200-96GB?"));
  EXPECT_THAT(error("RTX 4090"), testing::EndsWith("did you mean RTX4090?"));
  EXPECT_THAT(error("cpu:256"), HasSubstr("\"256GiB\""));
  EXPECT_THAT(error("cpu:0B"), HasSubstr("without memory"));
  EXPECT_THAT(error("cpu:"), HasSubstr("empty"));
  EXPECT_THAT(error("cpu:1GB,2xL4,cpu:2GB"), HasSubstr("names the CPU twice"));
  EXPECT_THAT(error("2xL4,cpu"), HasSubstr("\"2xRTX4090,cpu:256GB\""));
  EXPECT_EQ(ParseDevices("cuda", NoGpus).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ParseDevices("cuda:0", BrokenLibrary).status().message(),
            "devices \"cuda:0\": cannot load the CUDA library; \"cpu\" or \"simulated:1x4GiB\" run without a GPU");
}

class MachineTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = testing::TempDir() + "causeway_machine_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(root_);
    Write("/proc/meminfo", "MemTotal:        8000 kB\nMemFree:          100 kB\nMemAvailable:    6000 kB\n");
    Write("/proc/cpuinfo",
          "processor\t: 0\nmodel name\t: Test CPU 9000\nprocessor\t: 1\nmodel name\t: Test CPU 9000\n");
    Write("/proc/self/mountinfo",
          "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
          "30 29 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  std::string root_;
};

TEST_F(MachineTest, KernelAlone) {
  const Device cpu = ReadCpuDevice(root_);
  EXPECT_EQ(cpu.kind, DeviceKind::kCpu);
  EXPECT_EQ(cpu.name, "cpu");
  EXPECT_EQ(cpu.key(), "cpu");
  EXPECT_EQ(cpu.model, "Test CPU 9000");
  EXPECT_EQ(cpu.memory_bytes, 8000 * 1024);
  EXPECT_EQ(cpu.available_bytes, 6000 * 1024);
}

TEST_F(MachineTest, TightestGroupOfVersion2Counts) {
  Write("/proc/self/cgroup", "0::/outer/inner\n");
  Write("/sys/fs/cgroup/outer/inner/memory.max", "max\n");
  Write("/sys/fs/cgroup/outer/memory.max", "4194304\n");
  Write("/sys/fs/cgroup/outer/memory.current", "3145728\n");
  Write("/sys/fs/cgroup/outer/memory.stat", "anon 1000\ninactive_file 1048576\nactive_file 7\n");
  const Device cpu = ReadCpuDevice(root_);
  EXPECT_EQ(cpu.memory_bytes, 4 << 20);
  EXPECT_EQ(cpu.available_bytes, 2 << 20) << "3 MiB in use, of which 1 MiB is page cache";
}

TEST_F(MachineTest, AGroupAroundMayBeNearlyFull) {
  Write("/proc/self/cgroup", "0::/outer/inner\n");
  Write("/sys/fs/cgroup/outer/inner/memory.max", "4194304\n");
  Write("/sys/fs/cgroup/outer/inner/memory.current", "1048576\n");
  Write("/sys/fs/cgroup/outer/memory.max", "6291456\n");
  Write("/sys/fs/cgroup/outer/memory.current", "5242880\n");
  const Device cpu = ReadCpuDevice(root_);
  EXPECT_EQ(cpu.memory_bytes, 4 << 20) << "the tightest limit";
  EXPECT_EQ(cpu.available_bytes, 1 << 20) << "the outer group has no more to give";
}

TEST_F(MachineTest, GroupOfVersion1) {
  Write("/proc/self/cgroup", "4:memory:/job\n3:cpu,cpuacct:/job\n1:name=systemd:/\n");
  Write("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "2097152\n");
  Write("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1048576\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  const Device cpu = ReadCpuDevice(root_);
  EXPECT_EQ(cpu.memory_bytes, 2 << 20);
  EXPECT_EQ(cpu.available_bytes, 1 << 20);
}

TEST_F(MachineTest, AContainerSeesItsGroupAtTheMountPoint) {
  Write("/proc/self/mountinfo", "30 29 0:27 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  Write("/proc/self/cgroup", "4:memory:/docker/abc\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2097152\n");
  EXPECT_EQ(ReadCpuDevice(root_).memory_bytes, 2 << 20);
}

TEST_F(MachineTest, FullGroupLeavesNothing) {
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", "1048576\n");
  Write("/sys/fs/cgroup/memory.current", "2097152\n");
  EXPECT_EQ(ReadCpuDevice(root_).available_bytes, 0);
}

TEST(CpuDeviceTest, ThisMachine) {
  const Device cpu = CpuDevice();
  EXPECT_GT(cpu.available_bytes, 0);
  EXPECT_LE(cpu.available_bytes, cpu.memory_bytes);
  EXPECT_FALSE(cpu.model.empty());
}

}  // namespace
}  // namespace causeway
