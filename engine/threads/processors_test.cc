#include "engine/threads/processors.h"

#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "engine/base/control_group.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;

// The fake machine has 64 processors and the real one fewer. `quota` tells what was read; `count` does only up to what
// the real one has.
class ProcessorsTest : public ::testing::Test {
 protected:
  ProcessorsTest() {
    root_ = (std::filesystem::temp_directory_path() / "causeway-XXXXXX").string();
    if (::mkdtemp(root_.data()) == nullptr) std::abort();
    Write("/sys/devices/system/cpu/online", "0-31,64-95\n");
    Write("/proc/self/mountinfo",
          "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
          "32 31 0:29 / /sys/fs/cgroup/cpu rw shared:7 - cgroup cgroup rw,cpu,cpuacct\n"
          "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  }
  ~ProcessorsTest() override { std::filesystem::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  // The processors of a group of version 2 with this cpu.max.
  Processors WithCpuMax(const std::string& text) {
    Write("/proc/self/cgroup", "0::/\n");
    Write("/sys/fs/cgroup/unified/cpu.max", text);
    return ReadProcessors(root_);
  }
  std::string root_;
};

TEST_F(ProcessorsTest, WithoutAQuotaAffinityBounds) {
  const Processors read = ReadProcessors(root_);
  EXPECT_EQ(read.machine, 64);
  EXPECT_EQ(read.quota, 0);
  EXPECT_EQ(read.count, read.affinity);
  if (read.affinity < 64) {
    EXPECT_EQ(read.bound, ProcessorBound::kAffinity);
    EXPECT_EQ(read.text(), absl::StrCat(read.affinity, " of 64 (affinity or cpuset)"));
  }
}

TEST_F(ProcessorsTest, AffinityIsTheCallingThreads) {
  std::thread([&] {
    cpu_set_t mine, one;
    ASSERT_EQ(sched_getaffinity(0, sizeof mine, &mine), 0);
    CPU_ZERO(&one);
    for (int processor = 0; CPU_COUNT(&one) == 0; ++processor) {
      if (CPU_ISSET(processor, &mine)) CPU_SET(processor, &one);
    }
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    const Processors read = ReadProcessors(root_);
    EXPECT_EQ(read.count, 1);
    EXPECT_EQ(read.affinity, 1);
    EXPECT_EQ(read.text(), "1 of 64 (affinity or cpuset)");
  }).join();
  EXPECT_EQ(ReadProcessors("").count, ThisMachine().count) << "the other thread's affinity is not this one's";
}

TEST_F(ProcessorsTest, TheTightestOfTheGroupsAroundCounts) {
  Write("/proc/self/cgroup", "0::/outer/middle/inner\n");
  Write("/sys/fs/cgroup/unified/outer/middle/inner/cpu.max", "max 100000\n");
  Write("/sys/fs/cgroup/unified/outer/middle/cpu.max", "50000 100000\n");
  Write("/sys/fs/cgroup/unified/outer/cpu.max", "400000 100000\n");
  const Processors read = ReadProcessors(root_);
  EXPECT_EQ(read.quota, 0.5);
  EXPECT_EQ(read.count, 1);
  EXPECT_EQ(read.text(), read.affinity > 1 ? "1 of 64 (control group quota 0.5)" : "1 of 64 (affinity or cpuset)");
}

TEST_F(ProcessorsTest, Version1HasAFileForQuotaAndPeriod) {
  Write("/proc/self/cgroup", "9:cpuset:/\n3:cpu,cpuacct:/job/a\n");
  Write("/sys/fs/cgroup/cpu/job/a/cpu.cfs_quota_us", "-1\n");
  Write("/sys/fs/cgroup/cpu/job/a/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(ReadProcessors(root_).quota, 0);
  Write("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "75000\n");
  Write("/sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "50000\n");
  EXPECT_EQ(ReadProcessors(root_).quota, 1.5);
}

TEST_F(ProcessorsTest, HybridMachinesAreHeldToBoth) {
  Write("/proc/self/cgroup", "3:cpu,cpuacct:/job\n0::/job\n");
  Write("/sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "300000\n");
  Write("/sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(ReadProcessors(root_).quota, 3) << "the unified hierarchy has no cpu.max there";
  Write("/sys/fs/cgroup/unified/job/cpu.max", "200000 100000\n");
  EXPECT_EQ(ReadProcessors(root_).quota, 2);
}

TEST_F(ProcessorsTest, AContainerSeesItsGroupAtTheMountPoint) {
  Write("/proc/self/mountinfo", "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n");
  Write("/proc/self/cgroup", "1:cpu:/docker/abc\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "250000\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(ReadProcessors(root_).quota, 2.5);
  Write("/proc/self/cgroup", "1:cpu:/elsewhere\n");
  EXPECT_EQ(ReadProcessors(root_).quota, 2.5) << "of a path that no mount shows";
}

TEST_F(ProcessorsTest, WhatIsNotUnderstoodIsNoQuota) {
  for (const char* text : {"", "\n", "max", "max 100000\n", "100000\n", "100000 0\n", "0 100000\n", "-5 100000\n",
                           "1e5 100000\n", "100000 100000 7\n", "half of it\n"}) {
    EXPECT_EQ(WithCpuMax(text).quota, 0) << text;
    EXPECT_EQ(WithCpuMax(text).count, ReadProcessors("/nonexistent").affinity) << text;
  }
  for (const char* online : {"", "some\n", "3-1\n", "0-1-2\n", "0-99999999\n"}) {
    Write("/sys/devices/system/cpu/online", online);
    EXPECT_EQ(ReadProcessors(root_).machine, ReadProcessors(root_).affinity) << online;
  }
}

TEST_F(ProcessorsTest, AQuotaIsRoundedUpUnlessNextToNothingIsLeftOfIt) {
  const auto expect = [&](const char* text, int threads) {
    const Processors read = WithCpuMax(text);
    EXPECT_EQ(read.count, std::min(threads, read.affinity)) << text;
    EXPECT_EQ(read.bound == ProcessorBound::kQuota, threads < read.affinity) << text;
  };
  expect("1000 100000\n", 1);
  expect("100000 100000\n", 1);
  expect("102000 100000\n", 1);
  expect("110000 100000\n", 2);
  expect("200000 100000\n", 2);
  expect("250000 100000\n", 3);
  expect("9223372036854775807 1\n", 1 << 16);
}

TEST_F(ProcessorsTest, MoreThreadsThanAtHandAreWarnedOf) {
  const Processors two{.count = 2, .machine = 64, .affinity = 64, .quota = 2, .bound = ProcessorBound::kQuota};
  EXPECT_EQ(ThreadsWarning(0, two), "");
  EXPECT_EQ(ThreadsWarning(2, two), "");
  EXPECT_THAT(ThreadsWarning(3, two),
              HasSubstr("cpu_threads is 3, more than the processors at hand, 2 of 64 (control group quota 2)"));
}

TEST(ThisMachineTest, ZeroThreadsAreAsManyAsAtHand) {
  EXPECT_GE(ProcessorsAtHand(), 1);
  EXPECT_EQ(ThreadsFor(0), ProcessorsAtHand());
  EXPECT_EQ(ThreadsFor(7), 7);
}

// A group of version 1 beside this process's own, with a quota of half a processor. There is no folder where it may not
// be made.
class HalfAProcessor {
 public:
  HalfAProcessor() {
    for (const ControlGroup& group : ControlGroups("", "cpu")) {
      if (group.version != 1) continue;
      const std::string folder = absl::StrCat(group.folder, "/causeway-test-", ::getpid());
      if (::access(absl::StrCat(group.folder, "/cpu.cfs_quota_us").c_str(), F_OK) != 0) return;
      if (::mkdir(folder.c_str(), 0755) != 0) return;
      folder_ = folder;
      std::ofstream(folder_ + "/cpu.cfs_period_us") << 100000;
      std::ofstream(folder_ + "/cpu.cfs_quota_us") << 50000;
      return;
    }
  }
  ~HalfAProcessor() {
    if (!folder_.empty()) ::rmdir(folder_.c_str());
  }
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
};

TEST(ThisMachineTest, AQuotaOfARealGroupIsSeen) {
  const HalfAProcessor group;
  if (group.folder().empty()) {
    std::fprintf(stderr, "not tried on a real group: this machine lets nobody make one of version 1\n");
    return;
  }
  const pid_t child = ::fork();
  if (child == 0) {
    std::ofstream(group.folder() + "/cgroup.procs") << ::getpid() << std::flush;
    const Processors read = ReadProcessors("");
    ::_exit(read.quota == 0.5 && read.count == 1 ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0) << "a child in the group saw another quota";
}

}  // namespace
}  // namespace causeway
