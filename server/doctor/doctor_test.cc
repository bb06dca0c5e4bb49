#include "server/doctor/doctor.h"

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
  const std::vector<Finding> findings = ExamineMachine(folder_ / "");
  EXPECT_EQ(Of(findings, "huge pages").grade, Grade::kGood);
  EXPECT_EQ(Of(findings, "memory").found, "4 MiB of 8 MiB free");
  EXPECT_THAT(Of(findings, "processor").found, AllOf(HasSubstr("Test CPU 9000"), HasSubstr("kernels")));
}

TEST_F(DoctorTest, WhatSlowsItIsAdvice) {
  Kernel("always madvise [never]\n", "50000 100000\n");
  const std::vector<Finding> findings = ExamineMachine(folder_ / "");
  EXPECT_EQ(Of(findings, "huge pages").grade, Grade::kAdvice);
  EXPECT_THAT(Of(findings, "huge pages").remedy, HasSubstr("echo madvise"));
  EXPECT_EQ(Of(findings, "processor").grade, Grade::kAdvice);
  EXPECT_THAT(Of(findings, "processor").remedy, HasSubstr("--cpu-threads 1"));
  EXPECT_EQ(Worst(findings), Grade::kAdvice);
}

TEST_F(DoctorTest, AModelThatFitsAndOneThatDoesNot) {
  const std::vector<Finding> good = ExamineModel(Options("simulated:1x64MiB"));
  EXPECT_EQ(Worst(good), Grade::kGood);
  EXPECT_THAT(Of(good, "fit").found, AllOf(HasSubstr("simulated:0"), HasSubstr("tokens of KV cache")));
  EXPECT_THAT(Of(good, "disk").found, HasSubstr("model.safetensors"));
  const std::vector<Finding> tight = ExamineModel(Options("simulated:1x64KiB"));
  EXPECT_EQ(Of(tight, "fit").grade, Grade::kProblem);
  EXPECT_THAT(Of(tight, "fit").found, HasSubstr("short"));
  EngineOptions missing = Options("cpu");
  std::filesystem::remove(missing.model + "/model.safetensors");
  EXPECT_EQ(Of(ExamineModel(missing), "model").grade, Grade::kProblem);
}

TEST_F(DoctorTest, AnAddressThatCannotBeBoundIsAProblem) {
  v1::ServerConfig config;
  config.set_listen("127.0.0.1:0");
  config.set_http("203.0.113.7:8090");  // of no machine
  const std::vector<Finding> findings = ExamineAddresses(config);
  EXPECT_EQ(Of(findings, "gRPC address").grade, Grade::kGood);
  EXPECT_EQ(Of(findings, "HTTP address").grade, Grade::kProblem);
  EXPECT_THAT(Of(findings, "HTTP address").remedy, HasSubstr("--http"));
}

TEST(DoctorReportTest, TableAndJson) {
  const std::vector<Finding> findings = {{"memory", Grade::kGood, "enough", ""}, {"fit", Grade::kProblem, "one two three four five six", "seven"}};
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
