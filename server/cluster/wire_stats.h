// What processes of a group tell each other of their devices, as messages (cluster.proto), and back.
#ifndef CAUSEWAY_SERVER_CLUSTER_WIRE_STATS_H_
#define CAUSEWAY_SERVER_CLUSTER_WIRE_STATS_H_

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "causeway/v1/cluster.pb.h"
#include "engine/execution/executor.h"
#include "engine/plan/device.h"

namespace causeway {

v1::ClusterDevice ToWire(const Device& device);
// InvalidArgument: of a kind that there is not.
absl::StatusOr<Device> FromWire(const v1::ClusterDevice& wire);

// What the executor of a replica counts for `devices`, indices into its plan's, and all that it counts otherwise.
v1::ReplicaStats ToWire(int replica, const ExecutorStats& stats, const std::vector<int>& devices);
// `devices` is the number of devices in the replica's plan. What the message says of others is ignored.
ExecutorStats FromWire(const v1::ReplicaStats& wire, size_t devices);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_WIRE_STATS_H_
