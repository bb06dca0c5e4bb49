// What the leader knows of the followers that drive devices of one replica.
#ifndef CAUSEWAY_SERVER_CLUSTER_REPLICA_LINKS_H_
#define CAUSEWAY_SERVER_CLUSTER_REPLICA_LINKS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "causeway/v1/cluster.pb.h"
#include "engine/execution/followers.h"
#include "engine/plan/plan.h"
#include "server/cluster/mask_sender.h"

namespace causeway {

// Thread-safe: links' threads bring messages, the executor's make the calls of Followers.
class ReplicaLinks {
 public:
  using Send = std::function<void(int rank, std::shared_ptr<const v1::LeaderMessage>)>;

  // `ranks` are the followers with devices in use. `samples_here`: the last segment's first rank is the leader's own.
  ReplicaLinks(int replica, std::set<int> ranks, bool samples_here, size_t devices, Send send);

  int replica() const { return replica_; }
  const std::set<int>& ranks() const { return ranks_; }

  // From the links.
  void OnMessage(int rank, const v1::FollowerMessage& message);
  void OnGone(int rank, const absl::Status& why);

  // What Followers does (MakeFollowers).
  absl::Status AwaitLoaded(Followers::Events events);
  absl::Status AwaitWarm();
  void Run(uint64_t number, bool warm_up, const StepPlan& plan);
  ExecutorStats Stats() const;
  void Detach();  // no event comes any more

  // Which followers a start still waits for, and how far they are, in words; empty: none.
  std::string Waiting() const;

 private:
  // A step that more than its result is expected of.
  struct Expected {
    std::map<uint64_t, int64_t> sampling;                             // constrained sequences: their token's index
    std::map<uint64_t, std::shared_ptr<LayerOutputs>> layer_outputs;  // by sequence
    size_t parts_left = 0;                                            // of those
  };

  void OnPart(int rank, const v1::PartDone& part);
  void SendToAll(std::shared_ptr<const v1::LeaderMessage> message);

  const int replica_;
  const std::set<int> ranks_;
  const bool samples_here_;
  const size_t devices_;
  const Send send_;

  absl::Mutex events_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);  // held while an event is told
  Followers::Events events_ ABSL_GUARDED_BY(events_mutex_);
  bool attached_ ABSL_GUARDED_BY(events_mutex_) = false;

  mutable absl::Mutex mutex_;
  std::set<int> loaded_ ABSL_GUARDED_BY(mutex_);
  std::map<int, v1::Loading> loading_ ABSL_GUARDED_BY(mutex_);
  std::map<int, absl::Status> warm_ ABSL_GUARDED_BY(mutex_);
  absl::Status lost_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, Expected> expected_ ABSL_GUARDED_BY(mutex_);  // by the step's number
  std::map<int, ExecutorStats> stats_ ABSL_GUARDED_BY(mutex_);
  std::map<int32_t, uint64_t> constrained_;  // by slot: the sequence there, if it has a grammar; Run's alone
  std::unique_ptr<MaskSender> masks_;        // null where the leader samples
};

std::unique_ptr<Followers> MakeFollowers(std::shared_ptr<ReplicaLinks> links);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_REPLICA_LINKS_H_
