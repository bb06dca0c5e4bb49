#include "server/cluster/wire_stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/cluster/wire_testing.h"

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

DeviceStats FullDeviceStats() {
  return {.memory = {.weights = 1, .kv_cache = 2, .activations = 3, .activations_peak = 4, .workspace = 5},
          .busy_seconds = 6.5,
          .active_seconds = 7.5,
          .prefill_tokens = 8,
          .decode_tokens = 9,
          .streamed_bytes = 10,
          .collectives = {.calls = 11, .bytes = 12, .seconds = 13.5},
          .cpu_rows = 14,
          .expert_cpu_rows = 15};
}

ExecutorStats FullStats() {
  ExecutorStats stats;
  stats.devices.resize(3);
  stats.devices[0].cpu_rows = 99;  // another process's, of which this one knows nothing
  stats.devices[2] = FullDeviceStats();
  stats.transfers = {{"cuda:0", "cuda:1", 1 << 20}};
  stats.start = {.memory = 0.5, .warm_up = 1.5};
  stats.not_finite = {{"model.norm.weight", 3}};
  stats.experts[4] = {.steps = 1, .busy = 2, .busiest = 3, .tokens = {4, 5}, .expert_bytes = 6};
  return stats;
}

TEST(WireStats, StatsComeBackWithEveryField) {
  const v1::ReplicaStats wire = ToWire(7, FullStats(), {2});
  EXPECT_THAT(testing::UnsetFields(wire), IsEmpty());
  const ExecutorStats stats = FromWire(wire, 3);
  EXPECT_EQ(ToWire(7, stats, {2}).SerializeAsString(), wire.SerializeAsString());
  EXPECT_EQ(stats.devices.size(), 3u);
  EXPECT_EQ(stats.devices[0].cpu_rows, 0);
  EXPECT_EQ(stats.devices[2].collectives.seconds, 13.5);
  EXPECT_THAT(stats.experts.at(4).tokens, ElementsAre(4, 5));
}

TEST(WireStats, DevicesThatAPlanHasNotAreIgnored) {
  v1::ReplicaStats wire = ToWire(7, FullStats(), {2});
  EXPECT_EQ(FromWire(wire, 2).devices.size(), 2u);
  wire.mutable_devices(0)->set_device(-1);
  EXPECT_EQ(FromWire(wire, 1).devices[0].cpu_rows, 0);
}

TEST(WireStats, ADeviceComesBackWithEveryField) {
  const Device device{.kind = DeviceKind::kSimulated,
                      .id = 1,
                      .name = "simulated:1",
                      .model = "a processor",
                      .memory_bytes = 3,
                      .available_bytes = 4,
                      .host_bytes = 5,
                      .at_hand = true,
                      .compute_capability = 90,
                      .index = 2,
                      .process = 6,
                      .host = "node7",
                      .uuid = "00000000-0000-0000-0000-000000000001"};
  v1::ClusterDevice wire = ToWire(device);
  EXPECT_THAT(testing::UnsetFields(wire), IsEmpty());
  const absl::StatusOr<Device> back = FromWire(wire);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(ToWire(*back).SerializeAsString(), wire.SerializeAsString());
  wire.set_kind(3);
  EXPECT_EQ(FromWire(wire).status(), absl::InvalidArgumentError("kind: expected a number from 0 to 2, found 3"));
}

}  // namespace
}  // namespace causeway
