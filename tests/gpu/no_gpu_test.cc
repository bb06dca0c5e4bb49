// What the daemon does where there is no driver, or none that shows a GPU.
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/support/daemon_process.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

const char kModel[] = CAUSEWAY_SOURCE_DIR "/models/kjv";
const std::string kStandIns = CAUSEWAY_BINARY_DIR "/standin";
// Stand-ins that show no device, as a driver does in a container that no GPU was handed into.
const std::map<std::string, std::string> kNoDevice = {{"LD_LIBRARY_PATH", kStandIns},
                                                      {"LD_PRELOAD", kStandIns + "/libcudart.so.13"}};

void ExpectServesOnTheCpu(const std::string& devices, const std::map<std::string, std::string>& environment,
                          const std::string& why) {
  SCOPED_TRACE(absl::StrCat("--devices \"", devices, "\""));
  DaemonProcess daemon({"--model", kModel, "--devices", devices, "--kv-cache", "2048", "--max-num-seqs", "4"},
                       DaemonProcess::kToFile, environment);
  ASSERT_TRUE(daemon.WaitUntilServing()) << daemon.Err();
  bool on_cpu = false;
  for (const auto& [sample, value] : daemon.Metrics()) {
    on_cpu |= sample.starts_with("causeway_device_tokens_total{device=\"cpu\"");
    EXPECT_FALSE(sample.starts_with("causeway_device_info")) << sample;
  }
  EXPECT_TRUE(on_cpu);
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Wait(), 0);
  EXPECT_THAT(daemon.Err(), HasSubstr(why));
}

void ExpectRefused(const std::map<std::string, std::string>& environment, const std::string& why) {
  for (const char* devices : {"cuda:0", "cuda"}) {
    const ProgramResult result = RunCausewayd(
        {"serve", "--model", kModel, "--devices", devices, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"},
        environment);
    EXPECT_EQ(result.status, 1);
    EXPECT_THAT(result.err, HasSubstr(absl::StrCat("devices \"", devices, "\": ", why)));
    EXPECT_THAT(result.err, HasSubstr("\"cpu\" or \"simulated:1x4GiB\" run without a GPU"));
  }
}

TEST(NoGpuTest, WithoutADriverTheCpuServesAndCudaIsRefused) {
  if (std::filesystem::exists("/dev/nvidiactl")) GTEST_SKIP() << "there is a driver";
  const std::string why = "no CUDA driver on this machine: libcuda.so.1: cannot open shared object file";
  for (const char* devices : {"auto", ""}) ExpectServesOnTheCpu(devices, {}, why);
  ExpectRefused({}, why);
}

TEST(NoGpuTest, WithADriverThatShowsNoneTheCpuServesAndCudaIsRefused) {
  const std::string why = "the CUDA driver shows no GPU: no CUDA-capable device is detected";
  ExpectServesOnTheCpu("auto", kNoDevice, absl::StrCat("GPUs are left out: ", why));
  ExpectRefused(kNoDevice, why);
}

}  // namespace
}  // namespace causeway
