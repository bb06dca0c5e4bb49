// A whole daemon on two GPUs that are not there: it serves, says what they hold, and ends when one of them fails.
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/daemon_process.h"
#include "tests/support/temporary_folder.h"

namespace causeway {
namespace {

using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::SizeIs;

const char kModel[] = CAUSEWAY_SOURCE_DIR "/models/kjv";
const std::string kStandIns = CAUSEWAY_BINARY_DIR "/standin";

class CudaDaemonTest : public ::testing::Test {
 protected:
  CudaDaemonTest()
      : fault_(folder_.path() + "/fault"),
        nvml_(folder_.path() + "/nvml"),
        daemon_(Flags({"--devices", "cuda", "--device-map", "balanced"}), DaemonProcess::kToFile,
                {{"LD_LIBRARY_PATH", kStandIns},
                 {"LD_PRELOAD", kStandIns + "/libcudart.so.13"},
                 {"CAUSEWAY_STANDIN", "2x8GiB"},
                 {"CAUSEWAY_STANDIN_FAULT", fault_},
                 {"CAUSEWAY_STANDIN_NVML", Told(nvml_)}}) {}

  // The first GPU tells all, is slowed down, and others hold a GiB of it; the second supports nothing.
  static std::string Told(const std::string& file) {
    std::ofstream(file) << "0 utilization 87\n0 power 312500\n0 power_limit 700000\n0 temperature 64\n0 reasons 36\n"
                           "0 ecc_corrected 3\n0 ecc_uncorrected 0\n0 others 1073741824\n0 xid 0\n";
    return file;
  }

  // The reference operations alone are computed here: kernels of our own do nothing.
  static std::vector<std::string> Flags(std::vector<std::string> devices) {
    std::vector<std::string> flags = {"--model",
                                      kModel,
                                      "--reference-ops",
                                      "--dtype",
                                      "fp32",
                                      "--max-num-seqs",
                                      "4",
                                      "--max-num-batched-tokens",
                                      "64",
                                      "--kv-cache",
                                      "2048"};
    flags.insert(flags.end(), devices.begin(), devices.end());
    return flags;
  }
  static ProgramResult Generate(const DaemonProcess& daemon) {
    return RunProgram("causeway", {"generate", "--max-tokens", "8", "--temperature", "0", "In the beginning"},
                      {{"CAUSEWAY_SERVER", daemon.grpc()}});
  }

  // A sample of a device's, with more labels where there are some.
  static std::string Of(const std::string& metric, const std::string& device, const std::string& labels = "") {
    return absl::StrCat(metric, "{device=\"", device, "\",device_name=\"Stand-in GPU\"", labels, "}");
  }

  // Each device's memory belongs to somebody.
  static void ExpectMemory(const std::map<std::string, double>& metrics) {
    for (const std::string device : {"cuda:0", "cuda:1"}) {
      std::map<std::string, double> bytes;
      double sum = 0;
      for (const char* owner : {"weights", "kv_cache", "activations", "workspace", "other", "other_processes"}) {
        const std::string place = absl::StrCat(",replica=\"0\",stage=\"", device.substr(5), "\",rank=\"0\"");
        const std::string sample =
            Of("causeway_device_memory_bytes", device, absl::StrCat(place, ",owner=\"", owner, "\""));
        ASSERT_TRUE(metrics.contains(sample)) << sample;
        sum += bytes[owner] = metrics.at(sample);
      }
      EXPECT_GT(bytes["weights"], 1e6) << device;
      EXPECT_GT(bytes["kv_cache"], 1e5) << device;
      EXPECT_GT(bytes["other"], 1e8) << device << ": the context";
      EXPECT_EQ(bytes["other_processes"], device == "cuda:0" ? 1 << 30 : 0);
      EXPECT_EQ(sum, metrics.at(Of("causeway_device_memory_used_bytes", device)));
    }
  }
  void ExpectConditions() const {
    std::map<std::string, double> metrics = daemon_.Metrics();
    const std::string uuid = ",uuid=\"GPU-00000000-0000-0000-0000-00000000000";
    EXPECT_EQ(metrics[Of("causeway_device_info", "cuda:0", uuid + "0\"")], 1);
    EXPECT_EQ(metrics[Of("causeway_device_info", "cuda:1", uuid + "1\"")], 1);
    const std::map<std::string, double> told = {
        {Of("causeway_device_utilization_ratio", "cuda:0"), 0.87},
        {Of("causeway_device_power_watts", "cuda:0"), 312.5},
        {Of("causeway_device_power_limit_watts", "cuda:0"), 700},
        {Of("causeway_device_temperature_celsius", "cuda:0"), 64},
        {Of("causeway_device_throttled", "cuda:0", ",reason=\"sw_thermal_slowdown\""), 1},
        {Of("causeway_device_throttled", "cuda:0", ",reason=\"hw_thermal_slowdown\""), 0},
        {Of("causeway_device_ecc_errors_total", "cuda:0", ",kind=\"corrected\""), 3},
        {Of("causeway_device_ecc_errors_total", "cuda:0", ",kind=\"uncorrected\""), 0},
        {Of("causeway_device_xid_errors_total", "cuda:0"), 0}};
    for (const auto& [sample, value] : told) {
      ASSERT_TRUE(metrics.contains(sample)) << sample;
      EXPECT_EQ(metrics.at(sample), value) << sample;
      std::string other = sample;
      other.replace(other.find("cuda:0"), 6, "cuda:1");
      EXPECT_FALSE(metrics.contains(other)) << other << " is not supported there";
    }
    std::ofstream(nvml_, std::ios::app) << "0 xid 13\n";
    metrics = daemon_.Metrics();
    EXPECT_EQ(metrics[Of("causeway_device_xid_errors_total", "cuda:0")], 1);
    EXPECT_EQ(metrics[Of("causeway_device_last_xid", "cuda:0")], 13);
  }

  const testing::TemporaryFolder folder_{"cuda-daemon"};
  const std::string fault_, nvml_;
  DaemonProcess daemon_;
};

TEST_F(CudaDaemonTest, ServesAndEndsWhenADeviceFails) {
  ASSERT_TRUE(daemon_.WaitUntilServing()) << daemon_.Err();
  DaemonProcess cpu(Flags({"--devices", "cpu"}));
  ASSERT_TRUE(cpu.WaitUntilServing()) << cpu.Err();
  const ProgramResult expected = Generate(cpu), generated = Generate(daemon_);
  EXPECT_EQ(generated.status, 0) << generated.err;
  EXPECT_THAT(expected.out, SizeIs(Gt(10)));
  EXPECT_EQ(generated.out, expected.out);
  ExpectMemory(daemon_.Metrics());
  ExpectConditions();

  std::ofstream(nvml_, std::ios::app) << "0 xid 31\n";
  std::ofstream(fault_) << "an illegal memory access\n";
  EXPECT_NE(Generate(daemon_).status, 0);
  EXPECT_EQ(daemon_.Wait(), 1);
  EXPECT_THAT(daemon_.Err(), HasSubstr("cuda:0 has failed: an illegal memory access was encountered; "
                                       "its last Xid is 31"));
}

}  // namespace
}  // namespace causeway
