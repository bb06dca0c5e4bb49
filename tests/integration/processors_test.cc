// Tests threads where causewayd may use fewer processors than the machine has.
#include <sched.h>

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/daemon_process.h"

namespace causeway {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

const char kModel[] = CAUSEWAY_SOURCE_DIR "/models/kjv";

// Calls `run` with one processor to run on, as a cpuset would leave it.
template <typename Run>
void OnOneProcessor(const Run& run) {
  std::thread([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    run();
  }).join();
}

ProgramResult RunOnOne(const std::vector<std::string>& arguments) {
  ProgramResult result;
  OnOneProcessor([&] { result = RunCausewayd(arguments); });
  return result;
}

// A machine of one processor says "1." alone.
const char kOne[] = "Processors: 1( of [0-9]+ .affinity or cpuset.)?[.]\n";

TEST(Processors, APlanSaysWhatBoundsThem) {
  ProgramResult result = RunOnOne({"plan", "--model", kModel, "--devices", "cpu"});
  EXPECT_THAT(result.out, ContainsRegex(kOne));
  EXPECT_THAT(result.err, Not(HasSubstr("cpu_threads")));
  result = RunOnOne({"plan", "--model", kModel, "--devices", "cpu", "--cpu-threads", "2"});
  EXPECT_THAT(result.err, HasSubstr("warning: cpu_threads is 2, more than the processors at hand, 1"));
  // A plan for another machine's devices is not bounded by this one's processors.
  result = RunOnOne({"plan", "--model", kModel, "--devices", "2xL4", "--cpu-threads", "2"});
  EXPECT_THAT(result.out, Not(HasSubstr("Processors")));
  EXPECT_THAT(result.err, Not(HasSubstr("cpu_threads")));
}

TEST(Processors, DoctorHasTheSame) {
  const std::vector<std::string> doctor = {"doctor", "--listen", "127.0.0.1:0", "--http", "", "--devices", "cpu"};
  EXPECT_THAT(RunOnOne(doctor).out, ContainsRegex("processors at hand: 1( of [0-9]+ .affinity or cpuset.)?, "));
}

TEST(Processors, BenchHasAsManyThreads) {
  const ProgramResult result = RunOnOne({"bench", "--model", kModel, "--devices", "cpu", "--batch", "1", "--prompt",
                                         "4", "--generate", "2", "--format", "json"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out).at("threads"), 1);
}

TEST(Processors, ServeSaysWhatBoundsThemAndWarns) {
  OnOneProcessor([] {
    DaemonProcess daemon({"--model", kModel, "--devices", "cpu", "--cpu-threads", "2", "--log-format", "json"});
    ASSERT_TRUE(daemon.WaitUntilServing());
    EXPECT_THAT(daemon.Out(), ContainsRegex(kOne));
    EXPECT_THAT(daemon.Err(), ContainsRegex("\"processors\".*\"at_hand\":1.*\"cpu_threads\":2"));
    EXPECT_THAT(daemon.Err(), HasSubstr("cpu_threads is 2, more than the processors at hand, 1"));
  });
}

}  // namespace
}  // namespace causeway
