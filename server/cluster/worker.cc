#include "server/cluster/worker.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <grpcpp/create_channel.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "causeway/v1/cluster.grpc.pb.h"
#include "engine/base/bounded_queue.h"
#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/device/endpoint.h"
#include "engine/engine.h"
#include "engine/threads/processors.h"
#include "server/cluster/followed_replica.h"
#include "server/cluster/group.h"
#include "server/cluster/leader.h"
#include "server/cluster/wire.h"
#include "server/cluster/wire_stats.h"
#include "server/startup/address.h"
#include "server/startup/engine_options.h"
#include "server/telemetry/log.h"

namespace causeway {
namespace {

constexpr size_t kOutgoingMax = 4096;  // results of steps in flight, and a heartbeat a second

// The line in which two texts first differ.
std::string FirstDifference(const std::string& ours, const std::string& theirs) {
  size_t at = 0, begin = 0;
  for (; at < ours.size() && at < theirs.size() && ours[at] == theirs[at]; ++at)
    if (ours[at] == '\n') begin = at + 1;
  const auto line = [begin](const std::string& text) { return text.substr(begin, text.find('\n', begin) - begin); };
  return absl::StrCat("here \"", line(ours), "\", at the leader \"", line(theirs), "\"");
}

class WorkerImpl final : public ClusterWorker {
 public:
  WorkerImpl(const LoadedConfig& loaded, Membership membership, const char* version)
      : loaded_(loaded), membership_(std::move(membership)), version_(version), outgoing_(kOutgoingMax) {}

  ~WorkerImpl() override {
    for (const auto& replica : replicas_) replica->Close();
    if (loader_.joinable()) loader_.join();
  }

  absl::Status Run() override {
    CAUSEWAY_ASSIGN_OR_RETURN(options_, MakeEngineOptions(loaded_));
    CAUSEWAY_ASSIGN_OR_RETURN(const FoundDevices found, FindDevices(options_));
    for (const std::string& warning : found.warnings) Log(LogLevel::kWarning, "devices", {{"message", warning}});
    CAUSEWAY_ASSIGN_OR_RETURN(const PlacedModel model, ReadModel(options_, Purpose::kRunning));
    CAUSEWAY_ASSIGN_OR_RETURN(v1::Join join,
                              DescribeProcess(loaded_, version_, *model.checkpoint, found.devices, options_));
    join.set_rank(membership_.rank);
    CAUSEWAY_ASSIGN_OR_RETURN(const std::string secret, ReadSecret(loaded_));
    CAUSEWAY_ASSIGN_OR_RETURN(const std::string leader, FindLeader());

    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
    const auto channel = grpc::CreateCustomChannel(leader, grpc::InsecureChannelCredentials(), arguments);
    const auto stub = v1::Cluster::NewStub(channel);
    grpc::ClientContext context;
    if (!secret.empty()) context.AddMetadata(kSecretKey, secret);
    const auto stream = stub->Follow(&context);
    return Follow(context, *stream, std::move(join));
  }

  bool RequestStop() override {
    if (!joined_) return false;
    auto message = std::make_shared<v1::FollowerMessage>();
    message->mutable_leaving();
    Send(std::move(message));
    return true;
  }

 private:
  using Stream = grpc::ClientReaderWriterInterface<v1::FollowerMessage, v1::LeaderMessage>;

  absl::StatusOr<std::string> FindLeader() {
    const absl::Duration timeout = absl::Seconds(loaded_.config.cluster().join_timeout_seconds());
    Log(LogLevel::kInfo, "looking for the leader",
        {{"rendezvous", absl::StrCat(membership_.rendezvous_host, ":", membership_.rendezvous_port)}});
    CAUSEWAY_ASSIGN_OR_RETURN(rendezvous_, MakeRendezvous(membership_.rendezvous_host, membership_.rendezvous_port,
                                                          /*serve=*/false, timeout));
    return rendezvous_->Get(kControlKey, timeout);
  }

  absl::Status Follow(grpc::ClientContext& context, Stream& stream, v1::Join join) {
    v1::FollowerMessage first;
    *first.mutable_join() = std::move(join);
    stream.Write(first);
    heard_ = absl::ToUnixNanos(Clock::Real()->Now());
    std::thread writer([&] {
      while (std::optional<std::shared_ptr<const v1::FollowerMessage>> message = outgoing_.Pop())
        if (!stream.Write(**message)) return;
    });
    absl::Notification over;
    std::thread heart([&] { Beat(context, over); });
    v1::LeaderMessage message;
    bool left = false;
    while (!left && stream.Read(&message)) {
      heard_ = absl::ToUnixNanos(Clock::Real()->Now());
      joined_ = true;
      left = message.has_leave();
      if (const absl::Status status = Take(message); !status.ok()) Fail(status);
    }
    joined_ = false;
    over.Notify();
    heart.join();
    outgoing_.Close();
    writer.join();
    stream.WritesDone();
    if (left) context.TryCancel();
    const grpc::Status ended = stream.Finish();
    absl::MutexLock lock(&mutex_);
    if (left) {
      const absl::Status why = FromWire(message.leave().why());
      return why.ok() ? why : absl::UnavailableError(absl::StrCat("the leader ends: ", why.message()));
    }
    if (!failed_.ok()) return failed_;
    if (!ended.ok() && ended.error_code() != grpc::StatusCode::UNAVAILABLE &&
        ended.error_code() != grpc::StatusCode::CANCELLED) {
      return absl::Status(static_cast<absl::StatusCode>(ended.error_code()),
                          absl::StrCat("the leader refused: ", ended.error_message()));
    }
    return absl::UnavailableError("the leader is gone: its connection broke");
  }

  absl::Status Take(const v1::LeaderMessage& message) {
    switch (message.message_case()) {
      case v1::LeaderMessage::kPlacement: return Place(message.placement());
      case v1::LeaderMessage::kRunStep: {
        const v1::RunStep& step = message.run_step();
        for (const auto& replica : replicas_)
          if (replica->replica() == step.replica()) return replica->RunStep(step);
        return absl::InternalError(absl::StrCat("a step of replica ", step.replica(), ", which is not here"));
      }
      case v1::LeaderMessage::kMask: {
        CAUSEWAY_ASSIGN_OR_RETURN(ReceivedMask mask, FromWire(message.mask()));
        for (const auto& replica : replicas_)
          if (replica->replica() == mask.replica) replica->Deliver(std::move(mask));
        return absl::OkStatus();
      }
      default: return absl::OkStatus();
    }
  }

  // By the leader's configuration, where it says what is served; files and threads are this process's own.
  absl::Status Place(const v1::Placement& placement) {
    LoadedConfig theirs{placement.config(), {}};
    v1::Config& config = theirs.config;
    config.mutable_model()->set_path(loaded_.config.model().path());
    config.mutable_model()->clear_chat_template();
    config.mutable_execution()->set_cpu_threads(loaded_.config.execution().cpu_threads());
    if (!config.placement().offload_folder().empty() && !loaded_.config.placement().offload_folder().empty())
      config.mutable_placement()->set_offload_folder(loaded_.config.placement().offload_folder());
    CAUSEWAY_ASSIGN_OR_RETURN(options_, MakeEngineOptions(theirs));
    options_.plan_threads = placement.cpu_threads();
    std::vector<Device> devices;
    for (const v1::ClusterDevice& wire : placement.devices()) {
      CAUSEWAY_ASSIGN_OR_RETURN(devices.emplace_back(), FromWire(wire));
    }
    CAUSEWAY_ASSIGN_OR_RETURN(placed_, PlaceModel(options_, devices, Purpose::kRunning));
    if (const std::string plan = PlanJson(placed_.plan); plan != placement.plan()) {
      return absl::FailedPreconditionError(
          absl::StrCat("rank ", membership_.rank, " comes to another plan: ", FirstDifference(plan, placement.plan())));
    }
    for (size_t replica = 0; replica < placed_.replicas.size(); ++replica) {
      if (OwnDevices(placed_.replicas[replica], membership_.rank).empty()) continue;
      replicas_.push_back(std::make_unique<FollowedReplica>(
          static_cast<int>(replica), membership_.rank, placed_,
          FollowedReplica::Out{.send = [this](std::shared_ptr<const v1::FollowerMessage> out) { Send(std::move(out)); },
                               .lost = [this](const absl::Status& why) { Fail(why); }}));
    }
    replicas_made_ = true;
    if (ComputesOnCpu(devices.front().kind) && replicas_.size() > 1) {
      options_.executor.cpu_threads =
          std::max(1, ThreadsFor(options_.executor.cpu_threads) / static_cast<int>(replicas_.size()));
    }
    loader_ = std::thread([this, generation = placement.generation()] {
      for (const auto& replica : replicas_) {
        const absl::Status loaded =
            replica->Load(*rendezvous_, generation, OwnAddress(loaded_, membership_), options_.executor);
        if (!loaded.ok()) return Fail(loaded);
      }
      Log(LogLevel::kInfo, "following", {{"rank", membership_.rank}, {"replicas", replicas_.size()}});
    });
    return absl::OkStatus();
  }

  // Tells the leader each second that this process is there, with what its executors count, and ends the stream when
  // the leader was not heard of.
  void Beat(grpc::ClientContext& context, absl::Notification& over) {
    const absl::Duration every = absl::Seconds(loaded_.config.cluster().heartbeat_seconds()),
                         lost_after = absl::Seconds(loaded_.config.cluster().lost_after_seconds());
    absl::Time told = absl::InfinitePast();
    while (!over.WaitForNotificationWithTimeout(std::min(every, lost_after / kLooks))) {
      const absl::Duration silent = Clock::Real()->Now() - absl::FromUnixNanos(heard_);
      if (silent >= lost_after) {
        Fail(absl::UnavailableError(
            absl::StrFormat("the leader was not heard of for %.1f s", absl::ToDoubleSeconds(silent))));
        context.TryCancel();
        return;
      }
      if (Clock::Real()->Now() - told < every) continue;
      told = Clock::Real()->Now();
      auto alive = std::make_shared<v1::FollowerMessage>();
      alive->mutable_alive();
      if (replicas_made_) {
        for (const auto& replica : replicas_) *alive->mutable_alive()->add_replicas() = replica->Stats();
      }
      Send(std::move(alive));
    }
  }

  void Send(std::shared_ptr<const v1::FollowerMessage> message) { outgoing_.Push(std::move(message)); }

  // The first failure is told to the leader, which ends the stream.
  void Fail(const absl::Status& why) {
    {
      absl::MutexLock lock(&mutex_);
      if (!failed_.ok()) return;
      failed_ = why;
    }
    auto message = std::make_shared<v1::FollowerMessage>();
    *message->mutable_failed()->mutable_status() = ToWire(why);
    Send(std::move(message));
  }

  const LoadedConfig& loaded_;
  const Membership membership_;
  const char* const version_;
  EngineOptions options_;
  std::unique_ptr<Rendezvous> rendezvous_;
  PlacedModel placed_;
  BoundedQueue<std::shared_ptr<const v1::FollowerMessage>> outgoing_;
  std::atomic<int64_t> heard_ = 0;
  std::atomic<bool> joined_ = false, replicas_made_ = false;
  absl::Mutex mutex_;
  absl::Status failed_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<FollowedReplica>> replicas_;  // made by Place; threads that it starts use them
  std::thread loader_;
};

}  // namespace

std::unique_ptr<ClusterWorker> ClusterWorker::Make(const LoadedConfig& loaded, const Membership& membership,
                                                   const char* version) {
  return std::make_unique<WorkerImpl>(loaded, membership, version);
}

}  // namespace causeway
