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
        daemon_(Flags({"--devices", "cuda", "--device-map", "balanced"}), DaemonProcess::kToFile,
                {{"LD_LIBRARY_PATH", kStandIns},
                 {"LD_PRELOAD", kStandIns + "/libcudart.so.13"},
                 {"CAUSEWAY_STANDIN", "2x8GiB"},
                 {"CAUSEWAY_STANDIN_FAULT", fault_}}) {}

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

  const testing::TemporaryFolder folder_{"cuda-daemon"};
  const std::string fault_;
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
  const std::map<std::string, double> metrics = daemon_.Metrics();
  for (const char* device : {"cuda:0", "cuda:1"}) {
    for (const char* owner : {"weights", "kv_cache"}) {
      double bytes = 0;
      for (const auto& [name, value] : metrics) {
        if (name.starts_with("causeway_device_memory_bytes{") &&
            name.find(absl::StrCat("device=\"", device, "\"")) != std::string::npos &&
            name.find(absl::StrCat("owner=\"", owner, "\"")) != std::string::npos)
          bytes += value;
      }
      EXPECT_GT(bytes, 0) << device << ", " << owner;
    }
  }

  std::ofstream(fault_) << "an illegal memory access\n";
  EXPECT_NE(Generate(daemon_).status, 0);
  EXPECT_EQ(daemon_.Wait(), 1);
  EXPECT_THAT(daemon_.Err(), HasSubstr("an illegal memory access was encountered"));
}

}  // namespace
}  // namespace causeway
