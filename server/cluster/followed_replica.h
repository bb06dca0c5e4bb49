// A follower's part of one replica, between the leader's messages and the engine.
#ifndef CAUSEWAY_SERVER_CLUSTER_FOLLOWED_REPLICA_H_
#define CAUSEWAY_SERVER_CLUSTER_FOLLOWED_REPLICA_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "causeway/v1/cluster.pb.h"
#include "engine/engine.h"
#include "engine/execution/follower.h"
#include "server/cluster/remote_constraint.h"
#include "server/cluster/wire.h"

namespace causeway {

class FollowedReplica {
 public:
  struct Out {
    std::function<void(std::shared_ptr<const v1::FollowerMessage>)> send;  // returns at once; any thread
    std::function<void(const absl::Status&)> lost;                         // the replica cannot go on; any thread
  };
  FollowedReplica(int replica, int process, const PlacedModel& placed, Out out);
  ~FollowedReplica();
  int replica() const { return replica_; }

  // Connects, loads, says so, and then waits for the warm-up step. On a thread of its own.
  absl::Status Load(Rendezvous& rendezvous, int64_t generation, const std::string& address,
                    const ExecutorOptions& options);

  // On the thread that reads the leader's messages.
  absl::Status RunStep(const v1::RunStep& step);
  void Deliver(ReceivedMask mask);

  v1::ReplicaStats Stats() const;  // any thread; empty before it has loaded
  // Whoever waits for the leader or another process waits no more.
  void Close();

 private:
  void Done(uint64_t number, const StepPlan& plan, const StepResult& result, bool ends_here);
  std::shared_ptr<TokenConstraint> ConstraintOf(uint64_t sequence);
  std::shared_ptr<LayerOutputs> OutputsOf(uint64_t sequence, std::vector<int> units, int64_t rows, int64_t width);

  const int replica_;
  const PlacedModel& placed_;
  const Plan& plan_;
  const Out out_;
  const std::vector<int> devices_;  // own ones
  const std::vector<int> units_;    // whose outputs are gathered here
  const LocalParts local_parts_;

  mutable absl::Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<uint64_t, std::weak_ptr<RemoteConstraint>> constraints_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, std::weak_ptr<LayerOutputs>> outputs_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<Follower> follower_ ABSL_GUARDED_BY(mutex_);  // once it has loaded
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_FOLLOWED_REPLICA_H_
