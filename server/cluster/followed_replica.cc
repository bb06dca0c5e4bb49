#include "server/cluster/followed_replica.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/device/endpoint.h"
#include "server/cluster/group.h"
#include "server/cluster/leader.h"
#include "server/cluster/wire_rows.h"
#include "server/cluster/wire_stats.h"

namespace causeway {
namespace {

// The units that the first ranks of groups compute, which hand out what all ranks have alike.
std::vector<int> UnitsGathered(const Plan& plan, int process) {
  std::set<int> units;
  for (const Segment& segment : plan.segments) {
    if (plan.devices[segment.device()].device.process != process) continue;
    for (const int unit : segment.units.all()) units.insert(unit);
  }
  return {units.begin(), units.end()};
}

}  // namespace

FollowedReplica::FollowedReplica(int replica, int process, const PlacedModel& placed, Out out)
    : replica_(replica),
      placed_(placed),
      plan_(placed.replicas[replica]),
      out_(std::move(out)),
      devices_(OwnDevices(plan_, process)),
      units_(UnitsGathered(plan_, process)),
      local_parts_{
          .constraint = [this](uint64_t sequence) { return ConstraintOf(sequence); },
          .layer_outputs = [this](uint64_t sequence, std::vector<int> units, int64_t rows,
                                  int64_t width) { return OutputsOf(sequence, std::move(units), rows, width); }} {}

FollowedReplica::~FollowedReplica() { Close(); }

absl::Status FollowedReplica::Load(Rendezvous& rendezvous, int64_t generation, const std::string& address,
                                   const ExecutorOptions& options) {
  CAUSEWAY_ASSIGN_OR_RETURN(ProcessShare share,
                            ConnectShare(rendezvous, ConnectionsName(generation, replica_), plan_, devices_, address));
  const auto progress = [this](const LoadProgress& so_far) {
    auto message = std::make_shared<v1::FollowerMessage>();
    v1::Loading& loading = *message->mutable_loading();
    loading.set_replica(replica_);
    loading.set_bytes_done(so_far.bytes_done);
    loading.set_bytes_total(so_far.bytes_total);
    loading.set_seconds(so_far.seconds);
    out_.send(std::move(message));
  };
  CAUSEWAY_ASSIGN_OR_RETURN(
      std::shared_ptr<Follower> follower,
      Follower::Load(placed_.spec, *placed_.checkpoint, plan_, std::move(share), options, progress,
                     {.done = [this](uint64_t number, StepPlan plan, StepResult result,
                                     bool ends_here) { Done(number, plan, result, ends_here); },
                      .lost = [this](const absl::Status& why) { out_.lost(why); }}));
  {
    absl::MutexLock lock(&mutex_);
    if (closed_) return absl::CancelledError("ended while loading");
    follower_ = follower;
  }
  auto loaded = std::make_shared<v1::FollowerMessage>();
  loaded->mutable_loaded()->set_replica(replica_);
  out_.send(std::move(loaded));
  const absl::Status warmed = follower->AwaitWarm();
  auto warm = std::make_shared<v1::FollowerMessage>();
  warm->mutable_warm()->set_replica(replica_);
  *warm->mutable_warm()->mutable_status() = ToWire(warmed);
  out_.send(std::move(warm));
  return absl::OkStatus();
}

absl::Status FollowedReplica::RunStep(const v1::RunStep& step) {
  CAUSEWAY_ASSIGN_OR_RETURN(StepPlan plan, FromWire(step.plan(), local_parts_));
  std::shared_ptr<Follower> follower;
  {
    absl::MutexLock lock(&mutex_);
    follower = follower_;
  }
  if (follower == nullptr) return absl::InternalError("a step came before the model was loaded");
  follower->Run(step.number(), step.warm_up(), std::move(plan));
  return absl::OkStatus();
}

void FollowedReplica::Deliver(ReceivedMask mask) {
  std::shared_ptr<RemoteConstraint> constraint;
  {
    absl::MutexLock lock(&mutex_);
    if (const auto found = constraints_.find(mask.sequence); found != constraints_.end())
      constraint = found->second.lock();
  }
  if (constraint != nullptr)
    constraint->Deliver(mask.index, mask.state, std::move(mask.allowed), std::move(mask.status));
}

// One for each of a sequence's starts; after a preemption masks come for the new one.
std::shared_ptr<TokenConstraint> FollowedReplica::ConstraintOf(uint64_t sequence) {
  auto constraint = std::make_shared<RemoteConstraint>();
  absl::MutexLock lock(&mutex_);
  std::erase_if(constraints_, [](const auto& entry) { return entry.second.expired(); });
  if (closed_) constraint->Fail(absl::UnavailableError("the leader is gone"));
  constraints_[sequence] = constraint;
  return constraint;
}

std::shared_ptr<LayerOutputs> FollowedReplica::OutputsOf(uint64_t sequence, std::vector<int> units, int64_t rows,
                                                         int64_t width) {
  absl::MutexLock lock(&mutex_);
  if (std::shared_ptr<LayerOutputs> known = outputs_[sequence].lock(); known != nullptr) return known;
  std::erase_if(outputs_, [](const auto& entry) { return entry.second.expired(); });
  auto outputs = std::make_shared<LayerOutputs>();
  std::set_intersection(units.begin(), units.end(), units_.begin(), units_.end(), std::back_inserter(outputs->units));
  outputs->rows = rows;
  outputs->width = width;
  outputs->values = std::make_unique<float[]>(outputs->bytes() / sizeof(float));
  outputs_[sequence] = outputs;
  return outputs;
}

void FollowedReplica::Done(uint64_t number, const StepPlan& plan, const StepResult& result, bool ends_here) {
  auto message = std::make_shared<v1::FollowerMessage>();
  v1::PartDone& part = *message->mutable_part_done();
  bool gathers = false;
  for (const StepSequence& sequence : plan.sequences) {
    if (sequence.local.layer_outputs == nullptr) continue;
    gathers = true;
    if (!result.status.ok()) continue;
    v1::GatheredRows rows = RowsOf(sequence, units_);
    if (rows.rows() > 0) *part.add_layer_outputs() = std::move(rows);
  }
  if (!ends_here && !gathers && result.status.ok()) return;
  part.set_replica(replica_);
  part.set_number(number);
  part.set_ends_here(ends_here);
  *part.mutable_result() = ToWire(result);
  out_.send(std::move(message));
}

v1::ReplicaStats FollowedReplica::Stats() const {
  std::shared_ptr<Follower> follower;
  {
    absl::MutexLock lock(&mutex_);
    follower = follower_;
  }
  return follower == nullptr ? v1::ReplicaStats() : ToWire(replica_, follower->Stats(), devices_);
}

void FollowedReplica::Close() {
  absl::MutexLock lock(&mutex_);
  closed_ = true;
  for (const auto& [sequence, constraint] : constraints_) {
    if (const auto waiting = constraint.lock(); waiting != nullptr)
      waiting->Fail(absl::UnavailableError("the leader is gone"));
  }
  if (follower_ != nullptr) follower_->Close();
}

}  // namespace causeway
