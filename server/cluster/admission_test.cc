#include "server/cluster/admission.h"

#include <gmock/gmock.h>

namespace causeway {
namespace {

using ::testing::HasSubstr;

v1::Join Joining(int rank) {
  v1::Join join;
  join.set_rank(rank);
  join.set_version("1.2.3");
  join.set_host(rank == 0 ? "host-a" : "host-b");
  v1::ClusterDevice& device = *join.add_devices();
  device.set_model("a GPU");
  device.set_memory_bytes(1000);
  return join;
}

TEST(AdmissionTest, WhatDiffersIsNamedOnBothSides) {
  EXPECT_TRUE(CheckJoin(Joining(0), Joining(1), 2).ok());
  EXPECT_EQ(CheckJoin(Joining(0), Joining(2), 2).message(), "expected a rank in [1, 1], got 2");
  EXPECT_FALSE(CheckJoin(Joining(0), Joining(0), 2).ok());
  v1::Join newer = Joining(1);
  newer.set_version("1.2.4");
  EXPECT_EQ(CheckJoin(Joining(0), newer, 2).message(),
            "rank 1 (host-b) is causewayd 1.2.4, and the leader (host-a) 1.2.3");
  v1::Join larger = Joining(1);
  larger.add_files()->set_name("model.safetensors");
  EXPECT_THAT(CheckJoin(Joining(0), larger, 2).message(), HasSubstr("model.safetensors"));
}

TEST(AdmissionTest, WhoComesBackHasTheSameDevices) {
  EXPECT_TRUE(CheckReturn(Joining(1), Joining(1), 1).ok());
  EXPECT_THAT(CheckReturn(Joining(1), Joining(1), 2).message(), HasSubstr("had devices of 2 replicas"));
  v1::Join smaller = Joining(1);
  smaller.mutable_devices(0)->set_memory_bytes(999);
  EXPECT_THAT(CheckReturn(Joining(1), smaller, 1).message(), HasSubstr("with other devices"));
  v1::Join more = Joining(1);
  *more.add_devices() = more.devices(0);
  EXPECT_THAT(CheckReturn(Joining(1), more, 1).message(), HasSubstr("with other devices"));
}

TEST(AdmissionTest, SecretsAreAlikeOrNot) {
  EXPECT_TRUE(SameSecret("abc", "abc"));
  EXPECT_FALSE(SameSecret("", "abc"));
  EXPECT_FALSE(SameSecret("abd", "abc"));
  EXPECT_FALSE(SameSecret("abcd", "abc"));
}

}  // namespace
}  // namespace causeway
