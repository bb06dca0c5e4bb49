#include "engine/base/control_group.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class ControlGroupTest : public ::testing::Test {
 protected:
  ControlGroupTest() {
    root_ = (std::filesystem::temp_directory_path() / "causeway-XXXXXX").string();
    if (::mkdtemp(root_.data()) == nullptr) std::abort();
    std::filesystem::create_directories(root_ + "/proc/self");
  }
  ~ControlGroupTest() override { std::filesystem::remove_all(root_); }

  // "1 /sys/fs/cgroup/cpu/a" for each group of the controller `cpu`.
  std::vector<std::string> Groups(const std::string& cgroup, const std::string& mountinfo) {
    std::ofstream(root_ + "/proc/self/cgroup") << cgroup;
    std::ofstream(root_ + "/proc/self/mountinfo") << mountinfo;
    std::vector<std::string> groups;
    for (const ControlGroup& group : ControlGroups(root_, "cpu")) {
      groups.push_back(absl::StrCat(group.version, " ", absl::StripPrefix(group.folder, root_)));
    }
    return groups;
  }
  std::string root_;
};

const char kUnified[] = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

TEST_F(ControlGroupTest, TheGroupAndThoseAroundIt) {
  EXPECT_THAT(Groups("0::/a.slice/b\n", kUnified),
              ElementsAre("2 /sys/fs/cgroup/a.slice/b", "2 /sys/fs/cgroup/a.slice", "2 /sys/fs/cgroup"));
  EXPECT_THAT(Groups("0::/\n", kUnified), ElementsAre("2 /sys/fs/cgroup"));
}

TEST_F(ControlGroupTest, AHierarchyOfVersion1HasItsOwnMountPoint) {
  const std::string mounts =
      "40 30 0:33 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
      "41 30 0:34 / /groups/of\\040processors rw shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct\n";
  EXPECT_THAT(Groups("5:cpuset:/other\n3:cpu,cpuacct:/job\n1:name=systemd:/job\n", mounts),
              ElementsAre("1 /groups/of processors/job", "1 /groups/of processors"));
}

TEST_F(ControlGroupTest, HybridMachinesHaveBoth) {
  const std::string mounts =
      "42 30 0:35 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
      "41 30 0:34 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
  EXPECT_THAT(Groups("3:cpu:/job\n0::/user\n", mounts),
              ElementsAre("1 /sys/fs/cgroup/cpu/job", "1 /sys/fs/cgroup/cpu", "2 /sys/fs/cgroup/unified/user",
                          "2 /sys/fs/cgroup/unified"));
}

TEST_F(ControlGroupTest, AContainersMountBeginsAtItsOwnGroup) {
  const std::string mounts = "41 30 0:34 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n";
  EXPECT_THAT(Groups("3:cpu:/docker/abc\n", mounts), ElementsAre("1 /sys/fs/cgroup/cpu"));
  EXPECT_THAT(Groups("3:cpu:/docker/abc/inner\n", mounts),
              ElementsAre("1 /sys/fs/cgroup/cpu/inner", "1 /sys/fs/cgroup/cpu"));
  // The mount shows neither of them: one is another container's, whose name begins alike, the other is outside the
  // namespace.
  EXPECT_THAT(Groups("3:cpu:/docker/abcd\n", mounts), ElementsAre("1 /sys/fs/cgroup/cpu"));
  EXPECT_THAT(Groups("0::/../x\n", kUnified), ElementsAre("2 /sys/fs/cgroup"));
  // Another group's mount says nothing where one shows the process's own.
  const std::string other = "40 30 0:34 /docker/other /other rw - cgroup cgroup rw,cpu\n";
  EXPECT_THAT(Groups("3:cpu:/docker/abc\n", other + mounts), ElementsAre("1 /sys/fs/cgroup/cpu"));
}

TEST_F(ControlGroupTest, WhatIsNotUnderstoodIsLeftOut) {
  EXPECT_THAT(Groups("", kUnified), IsEmpty());
  EXPECT_THAT(Groups("0::/a\n", ""), IsEmpty());
  EXPECT_THAT(Groups("0::relative\n7:cpu\n:::\n3:cpu:/a\n", kUnified), IsEmpty());
  EXPECT_THAT(Groups("0::/a\n", "29 23 0:26 / /sys/fs/cgroup rw - cgroup2\n- - -\nnothing\n29 23 - cgroup2 x rw\n"),
              IsEmpty());
  EXPECT_THAT(ControlGroups("/nonexistent", "cpu"), IsEmpty());
}

}  // namespace
}  // namespace causeway
