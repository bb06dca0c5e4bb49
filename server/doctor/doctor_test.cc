#include "server/doctor/doctor.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/checkpoint/testing.h"
#include "nlohmann/json.hpp"
#include "tests/support/tiny_checkpoint.h"

namespace causeway {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const Finding& Of(const std::vector<Finding>& findings, const std::string& what) {
  for (const Finding& finding : findings) {
    if (finding.what == what) return finding;
  }
  ADD_FAILURE() << "no finding about " << what;
  return findings.front();
}

class DoctorTest : public ::testing::Test {
 protected:
  void Kernel(const std::string& huge_pages, const std::string& cpu_max) {
    folder_.Write("proc/cpuinfo", "model name\t: Test CPU 9000\n");
    folder_.Write("proc/meminfo", "MemTotal:        8192 kB\nMemAvailable:    4096 kB\n");
    folder_.Write("sys/kernel/mm/transparent_hugepage/enabled", huge_pages);
    folder_.Write("sys/devices/system/cpu/online", "0-63\n");
    folder_.Write("proc/self/mountinfo", "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    folder_.Write("proc/self/cgroup", "0::/\n");
    folder_.Write("sys/fs/cgroup/cpu.max", cpu_max);
  }
  EngineOptions Options(const std::string& devices) {
    WriteTinyCheckpoint(folder_ / "m", TinyLlama());
    EngineOptions options;
    options.model = folder_ / "m";
    options.devices = devices;
    options.plan.max_num_batched_tokens = 64;
    return options;
  }
  const ::causeway::testing::TestFolder folder_;
};

TEST_F(DoctorTest, AWellKeptMachineIsGood) {
  Kernel("always [madvise] never\n", "max 100000\n");
  const std::vector<Finding> findings = ExamineMachine(folder_ / "", 0);
  EXPECT_EQ(Of(findings, "huge pages").grade, Grade::kGood);
  EXPECT_EQ(Of(findings, "memory").found, "4 MiB of 8 MiB free");
  EXPECT_THAT(Of(findings, "processor").found, AllOf(HasSubstr("Test CPU 9000"), HasSubstr("kernels")));
}

TEST_F(DoctorTest, WhatSlowsItIsAdvice) {
  Kernel("always madvise [never]\n", "50000 100000\n");
  const std::vector<Finding> findings = ExamineMachine(folder_ / "", 0);
  EXPECT_EQ(Of(findings, "huge pages").grade, Grade::kAdvice);
  EXPECT_THAT(Of(findings, "huge pages").remedy, HasSubstr("echo madvise"));
  EXPECT_EQ(Worst(findings), Grade::kAdvice);
}

TEST_F(DoctorTest, ThreadsBeyondAQuotaAreAdvice) {
  Kernel("madvise\n", "50000 100000\n");
  const Finding automatic = Of(ExamineMachine(folder_ / "", 0), "processor");
  EXPECT_THAT(automatic.found, HasSubstr("Test CPU 9000, processors at hand: 1 of 64 ("));
  EXPECT_EQ(automatic.remedy, "") << "threads are as many as are at hand by themselves";
  const Finding two = Of(ExamineMachine(folder_ / "", 2), "processor");
  EXPECT_EQ(two.grade, Grade::kAdvice);
  EXPECT_THAT(two.remedy, HasSubstr("cpu_threads is 2, more than the processors at hand, 1 of 64"));
}

TEST_F(DoctorTest, AModelThatFitsAndOneThatDoesNot) {
  const std::vector<Finding> good = ExamineModel(Options("simulated:1x64MiB"));
  EXPECT_EQ(Worst(good), Grade::kGood);
  EXPECT_THAT(Of(good, "fit").found, AllOf(HasSubstr("simulated:0 (embeddings, layers 0-"),
                                           HasSubstr("tokens of KV cache: "), HasSubstr("sequences of")));
  EXPECT_THAT(Of(good, "disk").found, HasSubstr("model.safetensors"));
  const std::vector<Finding> tight = ExamineModel(Options("simulated:1x64KiB"));
  EXPECT_EQ(Of(tight, "fit").grade, Grade::kProblem);
  EXPECT_THAT(Of(tight, "fit").found, AllOf(HasSubstr("short"), Not(HasSubstr("Any of these"))));
  EXPECT_THAT(Of(tight, "fit").remedy, HasSubstr("Any of these would make it fit"));
  EngineOptions missing = Options("cpu");
  std::filesystem::remove(missing.model + "/model.safetensors");
  const std::vector<Finding> alone = ExamineModel(missing);
  EXPECT_EQ(Of(alone, "model").grade, Grade::kProblem);
  EXPECT_EQ(Of(alone, "fit").grade, Grade::kGood) << "before its weights are there";
  std::filesystem::remove(missing.model + "/config.json");
  EXPECT_EQ(ExamineModel(missing).size(), 1u);
}

TEST_F(DoctorTest, ATokenizerThatCannotBeReadIsAProblem) {
  const EngineOptions options = Options("cpu");
  EXPECT_THAT(Of(ExamineModel(options), "tokenizer").found, HasSubstr("there is none"));
  const std::string path = folder_ / "m/tokenizer.json";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(Of(ExamineModel(options), "tokenizer").grade, Grade::kProblem);
  EXPECT_THAT(Of(ExamineModel(options), "tokenizer").found, HasSubstr("tokenizer.json: not a regular file"));
  std::filesystem::remove(path);
  std::filesystem::create_symlink("/nowhere/tokenizer.json", path);
  EXPECT_EQ(Of(ExamineModel(options), "tokenizer").grade, Grade::kProblem);
  EXPECT_THAT(Of(ExamineModel(options), "tokenizer").found, HasSubstr("No such file"));
}

TEST_F(DoctorTest, DevicesAreLookedAtWithoutAModel) {
  EngineOptions options;
  options.devices = "simulated:6x1MiB";
  options.plan.max_memory = {{"0", 1 << 20}, {"1", 1 << 19}};
  Finding fleet = ExamineFleet(options);
  EXPECT_EQ(fleet.grade, Grade::kGood);
  EXPECT_EQ(fleet.found,
            "simulated:0 with a budget of 1 MiB, simulated:1 with a budget of 512 KiB, simulated:2, not used, "
            "simulated:3, not used and 2 more");
  options.plan.max_memory = {{"9", 1 << 20}};
  EXPECT_EQ(ExamineFleet(options).grade, Grade::kProblem);
  EXPECT_THAT(ExamineFleet(options).remedy, HasSubstr("--max-memory"));
  options.plan.max_memory.clear();
  options.devices = "bogus";
  EXPECT_EQ(ExamineFleet(options).grade, Grade::kProblem);
  for (const char* devices : {"8xH100-80GB", "cpu:256GB"}) {
    options.devices = devices;
    fleet = ExamineFleet(options);
    EXPECT_EQ(fleet.grade, Grade::kProblem);
    EXPECT_THAT(fleet.found, HasSubstr("nothing runs on"));
  }
  // More than any machine of these tests has.
  options.devices = "simulated:4x100TiB";
  fleet = ExamineFleet(options);
  EXPECT_EQ(fleet.grade, Grade::kAdvice);
  EXPECT_THAT(fleet.remedy, HasSubstr("400 TiB in all"));
  // It is said once: where devices are missing, the model is not said not to fit on them.
  for (const Finding& finding : ExamineModel(Options("bogus"))) EXPECT_NE(finding.what, "fit");
}

TEST_F(DoctorTest, WhatIsOffloadedIsToldWithTheRoomForIt) {
  EngineOptions options = Options("simulated:1x1500KiB");
  options.executor.cpu_threads = 2;
  options.plan.max_num_batched_tokens = 32;
  options.plan.max_num_seqs = 1;
  options.plan.max_model_len = 16;
  EXPECT_EQ(Of(ExamineModel(options), "fit").grade, Grade::kProblem);
  options.plan.offload_to_disk = true;
  options.executor.offload_folder = folder_.path();
  const std::vector<Finding> findings = ExamineModel(options);
  EXPECT_EQ(Of(findings, "fit").grade, Grade::kGood) << Of(findings, "fit").found;
  EXPECT_EQ(Of(findings, "offload").grade, Grade::kGood);
  EXPECT_THAT(Of(findings, "offload").found, AllOf(HasSubstr("from " + folder_.path()), HasSubstr("free")));
  options.executor.offload_folder = "/proc/self";
  EXPECT_THAT(Of(ExamineModel(options), "offload").remedy, HasSubstr("make room"));
}

TEST_F(DoctorTest, AnAddressThatCannotBeBoundIsAProblem) {
  v1::ServerConfig config;
  config.set_listen("127.0.0.1:0");
  config.set_http("127.0.0.1:0");
  EXPECT_EQ(Worst(ExamineAddresses(config)), Grade::kGood) << "two free ports";
  config.set_http("203.0.113.7:8090");  // an address of no machine
  const std::vector<Finding> findings = ExamineAddresses(config);
  EXPECT_EQ(Of(findings, "gRPC address").grade, Grade::kGood);
  EXPECT_EQ(Of(findings, "HTTP address").grade, Grade::kProblem);
  EXPECT_THAT(Of(findings, "HTTP address").remedy, HasSubstr("--http"));
  config.set_listen("127.0.0.1:47123");
  for (const std::string same : {"127.0.0.1:47123", "0.0.0.0:47123"}) {
    config.set_http(same);
    EXPECT_EQ(Of(ExamineAddresses(config), "HTTP address").found,
              same + " overlaps with the gRPC address, 127.0.0.1:47123");
  }
}

std::vector<Device> Gpus(int count) {
  std::vector<Device> gpus;
  for (int i = 0; i < count; ++i) {
    gpus.push_back({.kind = DeviceKind::kCuda,
                    .id = i,
                    .name = absl::StrCat("cuda:", i),
                    .model = "GPU",
                    .memory_bytes = 1000,
                    .available_bytes = 900});
  }
  return gpus;
}

TEST(DoctorGpusTest, LinkedGpusWithTheirDriverAreGood) {
  const CudaSystem system{.driver_version = 13020,
                          .runtime_version = 13000,
                          .built_version = 13000,
                          .links = {{0, 1, true, true}, {0, 2, true, false}, {1, 2, true, false}},
                          .pins_memory = true};
  const std::vector<Finding> findings = ExamineGpus(Gpus(3), system);
  EXPECT_EQ(Of(findings, "CUDA").found, "the driver serves 13.2, the runtime is 13.0");
  EXPECT_EQ(Of(findings, "CUDA").grade, Grade::kGood);
  EXPECT_EQ(Of(findings, "GPU links").found, "1 pair over NVLink, 2 pairs over PCIe");
  EXPECT_EQ(Of(findings, "GPU links").grade, Grade::kGood);
  EXPECT_EQ(Of(findings, "locked memory").grade, Grade::kGood);
}

TEST(DoctorGpusTest, ADriverTooOldNamesTheOneNeeded) {
  // CUDA shows no device then. Without the versions all would look well.
  const std::vector<Finding> findings =
      ExamineGpus({}, {.driver_version = 12080, .runtime_version = 13000, .built_version = 13000});
  EXPECT_EQ(Of(findings, "CUDA").grade, Grade::kProblem);
  EXPECT_THAT(Of(findings, "CUDA").remedy, HasSubstr("driver 580.65.06 or later"));
  EXPECT_EQ(Of(ExamineGpus({}, {.driver_version = 0, .runtime_version = 13000, .built_version = 13000}), "CUDA").grade,
            Grade::kProblem);
}

TEST(DoctorGpusTest, OtherVersionsThanTheBuildsAreTold) {
  const Finding older =
      Of(ExamineGpus(Gpus(1), {.driver_version = 13000, .runtime_version = 13020, .built_version = 13020}), "CUDA");
  EXPECT_EQ(older.grade, Grade::kAdvice);
  EXPECT_THAT(older.remedy, HasSubstr("update the driver to one for CUDA 13.2"));
  const Finding other =
      Of(ExamineGpus(Gpus(1), {.driver_version = 13020, .runtime_version = 13000, .built_version = 13010}), "CUDA");
  EXPECT_EQ(other.grade, Grade::kAdvice);
  EXPECT_THAT(other.found, HasSubstr("built with 13.1"));
  EXPECT_THAT(other.remedy, HasSubstr("LD_LIBRARY_PATH"));
}

TEST(DoctorGpusTest, OneWithoutKernelsIsLeftOut) {
  std::vector<Device> gpus = Gpus(2);
  gpus[0].compute_capability = 90;
  gpus[1].compute_capability = 75;
  const std::vector<Finding> findings = ExamineGpus(gpus, {.driver_version = 13000, .runtime_version = 13000});
  EXPECT_EQ(Of(findings, "cuda:0").grade, Grade::kGood);
  EXPECT_EQ(Of(findings, "cuda:1").grade, Grade::kAdvice);
  EXPECT_THAT(Of(findings, "cuda:1").found, HasSubstr("compute capability 7.5"));
}

TEST(DoctorGpusTest, WhatSlowsGpusIsAdvice) {
  std::vector<Device> gpus = Gpus(3);
  gpus[1].available_bytes = 100;
  gpus[2].model = "not usable: all of it is another process's";
  gpus[2].memory_bytes = gpus[2].available_bytes = 0;
  const std::vector<Finding> findings =
      ExamineGpus(gpus, {.driver_version = 13000,
                         .runtime_version = 13000,
                         .built_version = 13000,
                         .links = {{0, 1, true, true}, {0, 2, false, false}, {1, 2, false, false}}});
  EXPECT_EQ(Of(findings, "cuda:0").grade, Grade::kGood);
  EXPECT_THAT(Of(findings, "cuda:1").remedy, HasSubstr("nvidia-smi"));
  EXPECT_EQ(Of(findings, "cuda:2").grade, Grade::kAdvice);
  EXPECT_THAT(Of(findings, "cuda:2").found, HasSubstr("another process's"));
  EXPECT_EQ(Of(findings, "GPU links").found, "1 pair over NVLink, 2 pairs by way of the CPU's memory");
  EXPECT_THAT(Of(findings, "GPU links").remedy, AllOf(HasSubstr("GPUs 0-2, 1-2 are copied twice"), HasSubstr("topo")));
  EXPECT_THAT(Of(findings, "locked memory").remedy, HasSubstr("ulimit -l"));
}

TEST(DoctorGpusTest, WhatTheDriverSaysOfAGpuIsTold) {
  CudaSystem system{.driver_version = 13000, .runtime_version = 13000, .built_version = 13000};
  system.readings[0] = {.power_watts = 119.6,
                        .power_limit_watts = 700,
                        .temperature_celsius = 41,
                        .used_bytes = int64_t{3} << 30,
                        .throttled = {{"sw_power_cap", true}, {"hw_thermal_slowdown", false}},
                        .ecc_uncorrected = 0};
  system.readings[1] = {.throttled = {{"hw_thermal_slowdown", true}, {"sync_boost", true}}};
  system.readings[2] = {.ecc_uncorrected = 2};
  const std::vector<Finding> findings = ExamineGpus(Gpus(4), system);
  EXPECT_EQ(Of(findings, "cuda:0").grade, Grade::kGood) << "full power is no fault";
  EXPECT_EQ(Of(findings, "cuda:0").found, "GPU, 900 B of 1000 B free, others hold 3 GiB, 41 °C, 120 of 700 W");
  EXPECT_EQ(Of(findings, "cuda:1").grade, Grade::kAdvice);
  EXPECT_THAT(Of(findings, "cuda:1").found, HasSubstr("free, slowed down (hw_thermal_slowdown)"));
  EXPECT_EQ(Of(findings, "cuda:2").grade, Grade::kAdvice);
  EXPECT_THAT(Of(findings, "cuda:2").found, HasSubstr("2 errors of memory that could not be corrected"));
  EXPECT_EQ(Of(findings, "cuda:3").found, "GPU, 900 B of 1000 B free") << "NVML does not know it";
}

TEST(DoctorFolderTest, AFolderIsMeasured) {
  const ::causeway::testing::TestFolder folder;
  const Finding finding = ExamineOffloadFolder(folder.path(), int64_t{8} << 20);
  EXPECT_NE(finding.grade, Grade::kProblem) << finding.found;
  EXPECT_THAT(finding.found,
              AllOf(HasSubstr(folder.path()), HasSubstr("free"), HasSubstr("GB/s written"), HasSubstr("GB/s read")));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(DoctorFolderTest, MemoryIsNoDisk) {
  if (!std::filesystem::is_directory("/dev/shm")) GTEST_SKIP() << "no tmpfs";
  const Finding finding = ExamineOffloadFolder("/dev/shm", int64_t{4} << 20);
  EXPECT_EQ(finding.grade, Grade::kAdvice);
  EXPECT_THAT(finding.found, HasSubstr("tmpfs"));
  EXPECT_THAT(finding.remedy, HasSubstr("it is in memory"));
}

TEST(DoctorFolderTest, AFolderThatCannotBeWrittenIsAProblem) {
  const ::causeway::testing::TestFolder folder;
  folder.Write("file", "");
  const Finding missing = ExamineOffloadFolder(folder / "missing", kOffloadSampleBytes);
  EXPECT_EQ(missing.grade, Grade::kProblem);
  EXPECT_EQ(missing.remedy, "mkdir -p " + folder / "missing");
  EXPECT_EQ(ExamineOffloadFolder(folder / "file", kOffloadSampleBytes).remedy, "name a folder");
  // A file system of the kernel's own has no room.
  const Finding full = ExamineOffloadFolder("/proc/self", kOffloadSampleBytes);
  EXPECT_EQ(full.grade, Grade::kProblem);
  EXPECT_THAT(full.found, HasSubstr("0 B free"));
  if (geteuid() != 0) {  // root may write anywhere
    std::filesystem::permissions(folder.path(),
                                 std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
    const Finding closed = ExamineOffloadFolder(folder.path(), int64_t{4} << 20);
    std::filesystem::permissions(folder.path(), std::filesystem::perms::owner_all);
    EXPECT_EQ(closed.grade, Grade::kProblem);
    EXPECT_THAT(closed.remedy, HasSubstr("chown"));
  }
}

TEST(DoctorReportTest, TableAndJson) {
  const std::vector<Finding> findings = {{"memory", Grade::kGood, "enough", ""},
                                         {"fit", Grade::kProblem, "one two three four five six", "seven"}};
  EXPECT_EQ(DoctorTable(findings, 28),
            "✓ memory  enough\n"
            "✗ fit     one two three four\n"
            "          five six\n"
            "          → seven\n"
            "\nNot ready: 1 problem.\n");
  const nlohmann::json json = nlohmann::json::parse(DoctorJson(findings));
  EXPECT_EQ(json["ready"], false);
  EXPECT_EQ(json["findings"][1]["grade"], "problem");
}

}  // namespace
}  // namespace causeway
