// The process that leads a group: it gathers the others, tells them what to load, and reaches them for its executors.
#ifndef CAUSEWAY_SERVER_CLUSTER_LEADER_H_
#define CAUSEWAY_SERVER_CLUSTER_LEADER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "causeway/v1/cluster.pb.h"
#include "engine/engine.h"
#include "server/cluster/membership.h"
#include "server/startup/address.h"
#include "server/startup/load_config.h"

namespace causeway {

class ClusterLeader {
 public:
  // Opens the rendezvous, unless a launcher's agent has it, and the port for followers. InvalidArgument: an address
  // that is not loopback without a secret, a secret that cannot be read. Unavailable: the kernel refuses.
  static absl::StatusOr<std::unique_ptr<ClusterLeader>> Start(const LoadedConfig& loaded, const Membership& membership);
  virtual ~ClusterLeader() = default;  // leaves

  // Waits until all others have joined, saying now and then for whom. Returns the devices of all, this process's first.
  // `own` describes this process. DeadlineExceeded names the ranks that did not come in time.
  virtual absl::StatusOr<std::vector<Device>> AwaitJoined(const v1::Join& own) = 0;
  // The most CPU threads of any process.
  virtual int threads() const = 0;

  // Tells the followers what to load. InvalidArgument: the processes cannot share the plan so (CheckProcesses).
  virtual absl::Status Place(const v1::Config& config, const PlacedModel& placed) = 0;
  // EngineOptions::processes, once placed.
  virtual absl::StatusOr<ReplicaProcesses> Processes(int replica, const Plan& plan) = 0;

  // From now on `leaving` is called when a follower was told to stop, on a thread of the leader's, and a follower that
  // is lost is its replicas' affair. Before, it ends this process: a start waits for all in many places.
  // A replica that was lost comes back when all its followers have joined again: `restore` loads it.
  virtual void Serving(std::function<void()> leaving, std::function<absl::Status(int replica)> restore) = 0;
  // A replica cannot compute any more: its followers end, as failed, for their supervisor to start them again.
  virtual void Dismiss(int replica, const absl::Status& why) = 0;
  // Tells the followers to end, and why: with an error, as failed. Then waits a little for them to. To be called before
  // the engine closes its connections to them.
  virtual void Leave(const absl::Status& why) = 0;
};

// What this process says of itself when it joins, but for its rank. `version` is causewayd's.
absl::StatusOr<v1::Join> DescribeProcess(const LoadedConfig& loaded, const char* version, const Checkpoint& checkpoint,
                                         const std::vector<Device>& devices, const EngineOptions& options);

// The shared secret, without the white space around it; "" where none is configured. InvalidArgument: the file cannot
// be read, or is empty.
absl::StatusOr<std::string> ReadSecret(const LoadedConfig& loaded);

// Where the leader listens for followers; port 0: a free one. InvalidArgument: it is no address, or without a secret it
// or the rendezvous is not loopback.
absl::StatusOr<Address> ControlAddress(const LoadedConfig& loaded, const Membership& membership);

// The configuration as others can read it: a device map that came from a file is in it.
v1::Config WithoutFiles(v1::Config config, const PlanOptions& options);

// Where the other processes reach this one for tensors.
std::string OwnAddress(const LoadedConfig& loaded, const Membership& membership);

// How often both sides look, within the time after which a silent process is lost, whether it has come to that.
inline constexpr int kLooks = 50;
inline constexpr int kMessageBytesMax = 1 << 30;  // outputs of layers go in one

// The key of the leader's address at the rendezvous.
inline constexpr char kControlKey[] = "causeway/control";
inline constexpr char kSecretKey[] = "causeway-secret";  // of the call's metadata

// Connections of a replica's devices have a name at the rendezvous.
std::string ConnectionsName(int64_t generation, int replica);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_LEADER_H_
