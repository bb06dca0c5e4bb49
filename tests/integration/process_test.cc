// Tests what causewayd does with what the system gives it: standard descriptors, signals, files to write.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "causeway/v1/admin.grpc.pb.h"
#include "causeway/v1/generation.grpc.pb.h"
#include "tests/support/daemon_process.h"

namespace causeway {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const char kModel[] = CAUSEWAY_SOURCE_DIR "/models/kjv";

// One request, answered.
absl::Status Ask(const DaemonProcess& daemon) {
  const auto stub = v1::Generation::NewStub(daemon.Channel());
  v1::GenerateRequest request;
  request.set_prompt("In the beginning");
  request.mutable_stop()->set_max_tokens(1);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  v1::GenerateResponse response;
  const grpc::Status status = stub->Generate(&context, request, &response);
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

TEST(StandardError, APipeThatNobodyReadsHoldsNothingUp) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  ::fcntl(ends[1], F_SETPIPE_SZ, 4096);
  DaemonProcess daemon({"--model", kModel, "--devices", "cpu"}, ends[1]);
  ASSERT_TRUE(daemon.WaitUntilServing());
  constexpr int kRequests = 500;  // some 200 bytes of log each
  for (int i = 0; i < kRequests; ++i) ASSERT_TRUE(Ask(daemon).ok()) << i;
  EXPECT_EQ(daemon.Get("/healthz").first, 200);
  EXPECT_EQ(daemon.Metrics()["causeway_log_lines_dropped_total"], 0) << "4 MB may wait";
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Wait(), 0);
  ::close(ends[0]), ::close(ends[1]);
}

TEST(StandardError, APipeWithoutAReaderEndsNothing) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  DaemonProcess daemon({"--model", kModel, "--devices", "cpu"}, ends[1]);
  ::close(ends[0]);
  ASSERT_TRUE(daemon.WaitUntilServing());
  EXPECT_TRUE(Ask(daemon).ok());
  EXPECT_GT(daemon.Metrics()["causeway_log_lines_dropped_total"], 0);
  daemon.Signal(SIGHUP);
  EXPECT_EQ(daemon.Wait(), 0) << "without a file, SIGHUP drains, too";
  ::close(ends[1]);
}

TEST(StandardError, ItMayBeClosedAndInputAndOutputToo) {
  DaemonProcess daemon({"--model", kModel, "--devices", "cpu"}, DaemonProcess::kClosed);
  ASSERT_TRUE(daemon.WaitUntilServing());
  EXPECT_TRUE(Ask(daemon).ok());
  for (const int descriptor : {0, 1, 2}) {
    EXPECT_EQ(fs::read_symlink(absl::StrCat("/proc/", daemon.pid(), "/fd/", descriptor)), "/dev/null") << descriptor;
  }
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Wait(), 0);
}

// On SIGHUP, a file is read again.
class ReadAgain : public ::testing::Test {
 protected:
  ReadAgain() { Write("  queue_limit: 5"); }

  void Write(const std::string& batching) {
    std::ofstream(file_) << "model:\n  path: " << kModel << "\nplacement:\n  devices: cpu\nbatching:\n"
                         << batching << "\n";
  }
  // What the daemon has logged, once that has `text`.
  static std::string ErrWith(const DaemonProcess& daemon, const std::string& text) {
    const absl::Time deadline = absl::Now() + absl::Seconds(20);
    std::string err = daemon.Err();
    while (!absl::StrContains(err, text) && absl::Now() < deadline) err = daemon.Err();
    return err;
  }
  static int64_t QueueLimit(const DaemonProcess& daemon) {
    const auto stub = v1::Admin::NewStub(daemon.Channel());
    grpc::ClientContext context;
    v1::GetStatusResponse response;
    EXPECT_TRUE(stub->GetStatus(&context, {}, &response).ok());
    return response.queue_limit();
  }

  const std::string file_ = (fs::path(::testing::TempDir()) / absl::StrCat("again-", ::getpid(), ".yaml")).string();
};

TEST_F(ReadAgain, TakesWhatCanChangeAndNamesTheRest) {
  DaemonProcess daemon({"--config", file_});
  ASSERT_TRUE(daemon.WaitUntilServing());
  EXPECT_EQ(QueueLimit(daemon), 5);
  Write("  queue_limit: 7\n  max_num_seqs: 3\nlog:\n  level: debug");
  daemon.Signal(SIGHUP);
  const std::string err = ErrWith(daemon, "need a restart");
  EXPECT_THAT(err, HasSubstr("the configuration was read again changed=\"batching.queue_limit, log.level\""));
  EXPECT_THAT(err, HasSubstr("changed fields need a restart fields=batching.max_num_seqs"));
  EXPECT_EQ(QueueLimit(daemon), 7);
  EXPECT_TRUE(Ask(daemon).ok());

  // What is wrong changes nothing.
  Write("  queue_limit: 9\n  max_num_sequences: 3");
  daemon.Signal(SIGHUP);
  EXPECT_THAT(ErrWith(daemon, "stays as it was"),
              HasSubstr(absl::StrCat(file_, ":7: batching.max_num_sequences: no such field")));
  EXPECT_EQ(QueueLimit(daemon), 7);
  EXPECT_TRUE(Ask(daemon).ok());

  // It was no signal to stop: the first of those drains.
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Wait(), 0);
}

TEST(Profile, ShowsWhatTheSchedulerAndEveryDeviceDid) {
  const std::string trace = (fs::path(::testing::TempDir()) / "trace.json").string();
  std::ofstream(trace) << "old";
  {
    DaemonProcess daemon(
        {"--model", kModel, "--devices", "simulated:2x512MiB", "--device-map", "balanced", "--profile", trace});
    ASSERT_TRUE(daemon.WaitUntilServing());
    const auto stub = v1::Generation::NewStub(daemon.Channel());
    v1::GenerateRequest request;
    request.set_prompt("In the beginning");
    request.mutable_stop()->set_max_tokens(20);
    request.mutable_stop()->set_ignore_eos(true);
    grpc::ClientContext context;
    v1::GenerateResponse response;
    ASSERT_TRUE(stub->Generate(&context, request, &response).ok());
    daemon.Signal(SIGTERM);
    ASSERT_EQ(daemon.Wait(), 0);
  }
  std::map<int, std::string> lanes;
  std::map<std::string, std::map<std::string, int>> spans;  // by lane and name
  for (const nlohmann::json& event : nlohmann::json::parse(std::ifstream(trace))) {
    if (event["name"] == "thread_name") lanes[event["tid"]] = event["args"]["name"];
    if (event["ph"] == "X") ++spans[lanes.at(event["tid"])][event["name"]];
  }
  // The prompt's step, and one for each further token; and the warm-up's on devices.
  EXPECT_EQ(spans["scheduler"]["apply"], 20);
  EXPECT_EQ(spans["scheduler"]["deliver"], 20);
  // Device 0 has the embeddings and, since it is tied to them, the head: each step comes back to it.
  EXPECT_EQ(spans["simulated:0"]["step"], 42);
  EXPECT_EQ(spans["simulated:0"]["take over"], 21);
  EXPECT_EQ(spans["simulated:0"]["sample"], 21);
  EXPECT_EQ(spans["simulated:1"]["step"], 21);
  EXPECT_EQ(spans["simulated:1"]["take over"], 21);
  const ProgramResult result = RunCausewayd({"serve", "--model", kModel, "--profile", "/nowhere/trace.json"});
  EXPECT_EQ(result.status, 78);
  EXPECT_THAT(result.err, HasSubstr("--profile: cannot write /nowhere/trace.json: No such file"));
}

}  // namespace
}  // namespace causeway
