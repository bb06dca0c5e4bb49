#include "server/cluster/replica_links.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "server/cluster/wire.h"
#include "server/cluster/wire_rows.h"
#include "server/cluster/wire_stats.h"
#include "server/telemetry/log.h"

namespace causeway {
namespace {

class LinkedFollowers final : public Followers {
 public:
  explicit LinkedFollowers(std::shared_ptr<ReplicaLinks> links) : links_(std::move(links)) {}
  ~LinkedFollowers() override { links_->Detach(); }
  absl::Status AwaitLoaded(Events events) override { return links_->AwaitLoaded(std::move(events)); }
  absl::Status AwaitWarm() override { return links_->AwaitWarm(); }
  void Run(uint64_t number, bool warm_up, const StepPlan& plan) override { links_->Run(number, warm_up, plan); }
  ExecutorStats Stats() const override { return links_->Stats(); }

 private:
  const std::shared_ptr<ReplicaLinks> links_;
};

}  // namespace

std::unique_ptr<Followers> MakeFollowers(std::shared_ptr<ReplicaLinks> links) {
  return std::make_unique<LinkedFollowers>(std::move(links));
}

ReplicaLinks::ReplicaLinks(int replica, std::set<int> ranks, bool samples_here, size_t devices, Send send)
    : replica_(replica),
      ranks_(std::move(ranks)),
      samples_here_(samples_here),
      devices_(devices),
      send_(std::move(send)) {
  if (samples_here_) return;
  masks_ = std::make_unique<MaskSender>([this](uint64_t sequence, int64_t index, const TokenMask& mask) {
    auto message = std::make_shared<v1::LeaderMessage>();
    *message->mutable_mask() = ToWire(replica_, sequence, index, mask);
    SendToAll(std::move(message));
  });
}

void ReplicaLinks::SendToAll(std::shared_ptr<const v1::LeaderMessage> message) {
  for (const int rank : ranks_) send_(rank, message);
}

void ReplicaLinks::OnMessage(int rank, const v1::FollowerMessage& message) {
  switch (message.message_case()) {
    case v1::FollowerMessage::kLoading: {
      absl::MutexLock lock(&mutex_);
      loading_[rank] = message.loading();
      return;
    }
    case v1::FollowerMessage::kLoaded: {
      absl::MutexLock lock(&mutex_);
      loaded_.insert(rank);
      return;
    }
    case v1::FollowerMessage::kWarm: {
      absl::MutexLock lock(&mutex_);
      warm_[rank] = FromWire(message.warm().status());
      return;
    }
    case v1::FollowerMessage::kAlive: {
      for (const v1::ReplicaStats& stats : message.alive().replicas()) {
        if (stats.replica() != replica_) continue;
        absl::MutexLock lock(&mutex_);
        stats_[rank] = FromWire(stats, devices_);
      }
      return;
    }
    case v1::FollowerMessage::kPartDone: return OnPart(rank, message.part_done());
    default: return;
  }
}

void ReplicaLinks::OnPart(int rank, const v1::PartDone& part) {
  const uint64_t number = part.number();
  absl::StatusOr<StepResult> read = FromWire(part.result());
  StepResult result = read.ok() ? *std::move(read) : StepResult{.status = read.status()};
  std::map<uint64_t, int64_t> sampling;
  bool captured = false;
  {
    absl::MutexLock lock(&mutex_);
    if (const auto found = expected_.find(number); found != expected_.end()) {
      Expected& expected = found->second;
      if (part.ends_here()) sampling = std::exchange(expected.sampling, {});
      for (const v1::GatheredRows& rows : part.layer_outputs()) {
        const auto outputs = expected.layer_outputs.find(rows.sequence());
        if (outputs == expected.layer_outputs.end()) continue;
        if (const absl::Status copied = CopyRows(rows, *outputs->second); !copied.ok()) result.status.Update(copied);
      }
      captured = expected.parts_left > 0 && --expected.parts_left == 0;
      if (expected.parts_left == 0 && expected.sampling.empty()) expected_.erase(found);
    }
  }
  for (const auto& [sequence, index] : sampling) {
    const auto token = std::find_if(result.tokens.begin(), result.tokens.end(),
                                    [id = sequence](const SampledToken& t) { return t.sequence == id; });
    const bool chosen =
        result.status.ok() && token != result.tokens.end() && token->outcome == SampledToken::Outcome::kToken;
    result.status.Update(masks_->Sampled(sequence, index, chosen ? token->token : 0, chosen));
  }
  absl::MutexLock lock(&events_mutex_);
  if (!attached_) return;
  if (!result.status.ok() && !absl::IsAborted(result.status)) {
    Log(LogLevel::kError, "a step failed", {{"rank", rank}, {"error", std::string(result.status.message())}});
  }
  if (part.ends_here()) {
    events_.result(number, std::move(result));
  } else if (!result.status.ok()) {
    events_.failed(number, std::move(result.status), std::move(result.device_failure));
  }
  if (captured) events_.captured(number);
}

void ReplicaLinks::OnGone(int rank, const absl::Status& why) {
  const absl::Status lost = why.ok() ? absl::UnavailableError(absl::StrCat("rank ", rank, " has left")) : why;
  {
    absl::MutexLock lock(&mutex_);
    lost_.Update(lost);
  }
  absl::MutexLock lock(&events_mutex_);
  if (attached_) events_.lost(lost);
}

absl::Status ReplicaLinks::AwaitLoaded(Followers::Events events) {
  {
    absl::MutexLock lock(&events_mutex_);
    events_ = std::move(events);
    attached_ = true;
  }
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](ReplicaLinks* links) ABSL_EXCLUSIVE_LOCKS_REQUIRED(links->mutex_) {
        return !links->lost_.ok() || links->loaded_.size() == links->ranks_.size();
      },
      this));
  return lost_;
}

absl::Status ReplicaLinks::AwaitWarm() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](ReplicaLinks* links) ABSL_EXCLUSIVE_LOCKS_REQUIRED(links->mutex_) {
        return !links->lost_.ok() || links->warm_.size() == links->ranks_.size();
      },
      this));
  CAUSEWAY_RETURN_IF_ERROR(lost_);
  for (const auto& [rank, status] : warm_) CAUSEWAY_RETURN_IF_ERROR(status);
  return absl::OkStatus();
}

void ReplicaLinks::Run(uint64_t number, bool warm_up, const StepPlan& plan) {
  auto message = std::make_shared<v1::LeaderMessage>();
  v1::RunStep& step = *message->mutable_run_step();
  step.set_replica(replica_);
  step.set_number(number);
  step.set_warm_up(warm_up);
  *step.mutable_plan() = ToWire(plan);
  Expected expected;
  for (const StepSequence& sequence : plan.sequences) {
    if (sequence.local.layer_outputs != nullptr) {
      expected.layer_outputs[sequence.sequence] = sequence.local.layer_outputs;
      expected.parts_left = ranks_.size();
    }
    if (masks_ == nullptr) continue;
    if (sequence.start != nullptr) {
      masks_->Start(sequence.slot, sequence.sequence, sequence.local.constraint);
      constrained_[sequence.slot] = sequence.local.constraint == nullptr ? 0 : sequence.sequence;
    }
    if (sequence.sample && constrained_[sequence.slot] == sequence.sequence)
      expected.sampling[sequence.sequence] = sequence.generated;
  }
  const std::map<uint64_t, int64_t> sampling = expected.sampling;
  if (expected.parts_left > 0 || !sampling.empty()) {
    absl::MutexLock lock(&mutex_);
    expected_[number] = std::move(expected);
  }
  SendToAll(std::move(message));
  for (const auto& [sequence, index] : sampling) masks_->Sampling(sequence, index);
}

ExecutorStats ReplicaLinks::Stats() const {
  ExecutorStats all;
  all.devices.resize(devices_);
  absl::MutexLock lock(&mutex_);
  for (const auto& [rank, stats] : stats_) {
    for (size_t device = 0; device < devices_; ++device)
      if (stats.devices[device].memory.weights > 0) all.devices[device] = stats.devices[device];
    all.transfers.insert(all.transfers.end(), stats.transfers.begin(), stats.transfers.end());
    for (const auto& [layer, load] : stats.experts) all.experts.emplace(layer, load);
    all.not_finite.insert(stats.not_finite.begin(), stats.not_finite.end());
  }
  return all;
}

void ReplicaLinks::Detach() {
  absl::MutexLock lock(&events_mutex_);
  attached_ = false;
  events_ = {};
}

std::string ReplicaLinks::Waiting() const {
  absl::MutexLock lock(&mutex_);
  std::string waiting;
  for (const int rank : ranks_) {
    if (loaded_.contains(rank)) continue;
    const auto progress = loading_.find(rank);
    absl::StrAppend(&waiting, waiting.empty() ? "" : ", ", "rank ", rank);
    if (progress == loading_.end() || progress->second.bytes_total() == 0) continue;
    absl::StrAppend(&waiting, " at ", 100 * progress->second.bytes_done() / progress->second.bytes_total(), "%");
  }
  return waiting;
}

}  // namespace causeway
