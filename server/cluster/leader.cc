#include "server/cluster/leader.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include <grpcpp/server_builder.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "causeway/v1/cluster.grpc.pb.h"
#include "engine/base/bounded_queue.h"
#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/device/endpoint.h"
#include "server/cluster/admission.h"
#include "server/cluster/group.h"
#include "server/cluster/link.h"
#include "server/cluster/replica_links.h"
#include "server/cluster/wire_stats.h"
#include "server/startup/address.h"
#include "server/telemetry/log.h"

namespace causeway {
namespace {

constexpr absl::Duration kSayEvery = absl::Seconds(10);  // whom a start waits for
constexpr absl::Duration kLeaveGrace = absl::Seconds(5);

std::string ShownSecret(const grpc::ServerContext& context) {
  const auto shown = context.client_metadata().find(kSecretKey);
  return shown == context.client_metadata().end() ? "" : std::string(shown->second.data(), shown->second.size());
}

class LeaderImpl final : public ClusterLeader, public v1::Cluster::Service {
 public:
  LeaderImpl(const LoadedConfig& loaded, Membership membership, std::string secret)
      : loaded_(loaded), membership_(std::move(membership)), secret_(std::move(secret)), complete_(membership_.size) {}

  ~LeaderImpl() override {
    stop_.Notify();
    if (monitor_.joinable()) monitor_.join();
    Leave(absl::OkStatus());
    if (server_ != nullptr) server_->Shutdown(absl::ToChronoTime(absl::Now()));
  }

  absl::Status Open() {
    const Address rendezvous{membership_.rendezvous_host, membership_.rendezvous_port};
    CAUSEWAY_ASSIGN_OR_RETURN(Address control, ControlAddress(loaded_, membership_));
    CAUSEWAY_ASSIGN_OR_RETURN(
        rendezvous_, MakeRendezvous(rendezvous.host, rendezvous.port, !membership_.agent_store, join_timeout()));
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(control.ToString(), grpc::InsecureServerCredentials(), &port);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.SetMaxReceiveMessageSize(kMessageBytesMax);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port == 0) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen for followers at ", control.ToString(), ": ", ListenFailure(control)));
    }
    control.port = port;
    control_ = control.ToString();
    const bool every = control.host == "0.0.0.0" || control.host == "::" || control.host == "*";
    CAUSEWAY_RETURN_IF_ERROR(
        rendezvous_->Set(kControlKey, Address{every ? rendezvous.host : control.host, port}.ToString()));
    monitor_ = std::thread([this] { Monitor(); });
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<Device>> AwaitJoined(const v1::Join& own) override {
    absl::MutexLock lock(&mutex_);
    joins_[0] = own;
    files_are_known_ = true;
    const absl::Time begun = Clock::Real()->Now(), end = begun + join_timeout();
    while (static_cast<int>(joins_.size()) < membership_.size) {
      const absl::Time now = Clock::Real()->Now();
      if (now >= end)
        return absl::DeadlineExceededError(
            absl::StrCat("waited ", absl::ToInt64Seconds(now - begun), " s for ", Missing()));
      const auto joined = joins_.size();
      mutex_.AwaitWithTimeout(absl::Condition(this, &LeaderImpl::AllJoined), std::min(kSayEvery, end - now));
      if (joined == joins_.size()) {
        Log(LogLevel::kInfo, "waiting for processes to join",
            {{"missing", Missing()},
             {"seconds", absl::ToDoubleSeconds(Clock::Real()->Now() - begun)},
             {"at", control_}});
      }
    }
    std::vector<ProcessDevices> processes;
    for (const auto& [rank, join] : joins_) {
      ProcessDevices& process = processes.emplace_back();
      process.host = join.host();
      for (const v1::ClusterDevice& wire : join.devices()) {
        CAUSEWAY_ASSIGN_OR_RETURN(process.devices.emplace_back(), FromWire(wire));
      }
      threads_ = std::max(threads_, join.cpu_threads());
    }
    return JoinDevices(processes);
  }

  int threads() const override { return threads_; }

  absl::Status Place(const v1::Config& config, const PlacedModel& placed) override {
    auto message = std::make_shared<v1::LeaderMessage>();
    v1::Placement& placement = *message->mutable_placement();
    *placement.mutable_config() = WithoutFiles(config, placed.plan.options);
    placement.set_plan(PlanJson(placed.plan));
    placement.set_cpu_threads(threads_);
    for (const DevicePlan& device : placed.plan.devices) *placement.add_devices() = ToWire(device.device);
    absl::MutexLock lock(&mutex_);
    placement_ = message;
    for (size_t replica = 0; replica < placed.replicas.size(); ++replica) {
      const Plan& plan = placed.replicas[replica];
      CAUSEWAY_RETURN_IF_ERROR(CheckProcesses(plan, DevicesOfProcesses(plan, membership_.size)));
      replicas_.push_back(LinksOf(static_cast<int>(replica), plan));
    }
    for (const auto& [rank, link] : links_) link->Send(message);
    for (int rank = 1; rank < membership_.size; ++rank) {
      if (links_.contains(rank)) continue;
      return absl::UnavailableError(absl::StrCat("rank ", rank, " (", joins_[rank].host(), ") is gone"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ReplicaProcesses> Processes(int replica, const Plan& plan) override {
    std::shared_ptr<ReplicaLinks> links;
    int64_t generation;
    {
      absl::MutexLock lock(&mutex_);
      if (lost_.contains(replica)) {  // comes back
        replicas_[replica] = LinksOf(replica, plan);
        auto message = std::make_shared<v1::LeaderMessage>(*placement_);
        message->mutable_placement()->set_generation(++generation_);
        for (const int rank : replicas_[replica]->ranks()) {
          const auto link = links_.find(rank);
          if (link == links_.end()) return absl::UnavailableError(absl::StrCat("rank ", rank, " is gone again"));
          link->second->Send(message);
        }
        lost_.erase(replica);
      }
      links = replicas_[replica];
      generation = generation_;
    }
    ReplicaProcesses processes;
    CAUSEWAY_ASSIGN_OR_RETURN(processes.share, ConnectShare(*rendezvous_, ConnectionsName(generation, replica), plan,
                                                            OwnDevices(plan, 0), OwnAddress(loaded_, membership_)));
    if (!links->ranks().empty()) processes.followers = MakeFollowers(links);
    return processes;
  }

  void Serving(std::function<void()> leaving, std::function<absl::Status(int replica)> restore) override {
    restorer_ = std::thread([this, restore = std::move(restore)] { RestoreAll(restore); });
    absl::MutexLock lock(&mutex_);
    leaving_ = std::move(leaving);
  }

  void Dismiss(int replica, const absl::Status& why) override {
    absl::MutexLock lock(&mutex_);
    DismissLocked(replica, why);
  }
  void DismissLocked(int replica, const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!lost_.insert(replica).second) return;
    for (const int rank : replicas_[replica]->ranks())
      if (const auto link = links_.find(rank); link != links_.end()) link->second->Leave(why);
  }

  void Leave(const absl::Status& why) override {
    complete_.Close();
    {
      absl::MutexLock lock(&mutex_);
      closing_ = true;
      leaving_ = nullptr;
      for (auto& [rank, link] : links_) link->Leave(why);
      mutex_.AwaitWithTimeout(
          absl::Condition(+[](std::map<int, FollowerLink*>* links) { return links->empty(); }, &links_), kLeaveGrace);
    }
    if (restorer_.joinable()) restorer_.join();
  }

  // A follower's stream, on a thread of its own.
  grpc::Status Follow(grpc::ServerContext* context, FollowerLink::Stream* stream) override {
    if (!secret_.empty() && !SameSecret(ShownSecret(*context), secret_)) {
      Log(LogLevel::kWarning, "a process that wanted to join has not the secret", {{"peer", context->peer()}});
      return {grpc::StatusCode::UNAUTHENTICATED, "the leader's secret is another (cluster.secret_file)"};
    }
    v1::FollowerMessage first;
    if (!stream->Read(&first) || !first.has_join())
      return {grpc::StatusCode::INVALID_ARGUMENT, "expected a join first"};
    FollowerLink link(first.join(), *context, *stream);
    if (const absl::Status joined = Join(link); !joined.ok()) {
      Log(LogLevel::kWarning, "a process could not join",
          {{"who", link.name()}, {"error", std::string(joined.message())}});
      return {static_cast<grpc::StatusCode>(joined.code()), std::string(joined.message())};
    }
    const absl::Status ended = link.Serve([&](const v1::FollowerMessage& message) { OnMessage(link, message); });
    Forget(link, ended);
    return grpc::Status::OK;
  }

 private:
  std::shared_ptr<ReplicaLinks> LinksOf(int replica, const Plan& plan) {
    std::set<int> ranks;
    for (const int rank : ProcessesInUse(plan))
      if (rank != 0) ranks.insert(rank);
    const bool samples_here = plan.devices[plan.segments.back().device()].device.process == 0;
    return std::make_shared<ReplicaLinks>(
        replica, std::move(ranks), samples_here, plan.devices.size(),
        [this](int rank, std::shared_ptr<const v1::LeaderMessage> step) { SendTo(rank, std::move(step)); });
  }

  absl::Duration join_timeout() const { return absl::Seconds(loaded_.config.cluster().join_timeout_seconds()); }
  bool AllJoined() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return static_cast<int>(joins_.size()) == membership_.size;
  }
  std::string Missing() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<int> missing;
    for (int rank = 1; rank < membership_.size; ++rank)
      if (!joins_.contains(rank)) missing.push_back(rank);
    return absl::StrCat(missing.size() == 1 ? "rank " : "ranks ", absl::StrJoin(missing, ", "));
  }
  absl::Status Join(FollowerLink& link) {
    absl::MutexLock lock(&mutex_);
    // A follower may be faster than the leader, which must know its own model first.
    mutex_.Await(absl::Condition(
        +[](LeaderImpl* leader)
             ABSL_EXCLUSIVE_LOCKS_REQUIRED(leader->mutex_) { return leader->files_are_known_ || leader->closing_; },
        this));
    if (closing_) return absl::UnavailableError("the leader ends");
    CAUSEWAY_RETURN_IF_ERROR(CheckJoin(joins_[0], link.join(), membership_.size));
    const int rank = link.rank();
    if (const auto before = joins_.find(rank); before != joins_.end())
      CAUSEWAY_RETURN_IF_ERROR(MayComeBack(link, before->second));
    joins_[rank] = link.join();
    links_[rank] = &link;
    Log(LogLevel::kInfo, "joined",
        {{"rank", rank},
         {"host", link.join().host()},
         {"devices", link.join().devices_size()},
         {"of", membership_.size}});
    for (const int replica : lost_) {
      const std::set<int>& ranks = replicas_[replica]->ranks();
      if (ranks.contains(rank) &&
          std::all_of(ranks.begin(), ranks.end(), [this](int each) { return links_.contains(each); })) {
        complete_.Push(int{replica});
      }
    }
    return absl::OkStatus();
  }

  // Whether a process of a rank that has joined before may take its place.
  absl::Status MayComeBack(const FollowerLink& link, const v1::Join& before) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const int rank = link.rank();
    int replicas = 0, lost = 0;
    for (size_t replica = 0; replica < replicas_.size(); ++replica) {
      if (!replicas_[replica]->ranks().contains(rank)) continue;
      ++replicas;
      lost += lost_.contains(static_cast<int>(replica));
    }
    if (links_.contains(rank) || lost < replicas || replicas_.empty())
      return absl::AlreadyExistsError(absl::StrCat("rank ", rank, " has joined already, from ", before.host()));
    return CheckReturn(before, link.join(), replicas);
  }

  // Brings back the replicas whose followers have all joined again, one after the other.
  void RestoreAll(const std::function<absl::Status(int)>& restore) {
    while (const std::optional<int> replica = complete_.Pop()) {
      Log(LogLevel::kInfo, "a replica comes back", {{"replica", *replica}});
      const absl::Time begun = Clock::Real()->Now();
      if (const absl::Status status = restore(*replica); status.ok()) {
        Log(LogLevel::kInfo, "a replica serves again",
            {{"replica", *replica}, {"seconds", absl::ToDoubleSeconds(Clock::Real()->Now() - begun)}});
      } else {
        Log(LogLevel::kError, "a replica did not come back",
            {{"replica", *replica}, {"error", std::string(status.message())}});
        absl::MutexLock lock(&mutex_);
        lost_.erase(*replica);
        DismissLocked(*replica, status);
      }
    }
  }

  std::vector<std::shared_ptr<ReplicaLinks>> ReplicasOf(int rank) {
    std::vector<std::shared_ptr<ReplicaLinks>> replicas;
    absl::MutexLock lock(&mutex_);
    for (const auto& replica : replicas_)
      if (replica->ranks().contains(rank)) replicas.push_back(replica);
    return replicas;
  }

  void OnMessage(FollowerLink& link, const v1::FollowerMessage& message) {
    if (message.has_leaving()) {
      Log(LogLevel::kInfo, "a follower was told to stop", {{"rank", link.rank()}});
      absl::MutexLock lock(&mutex_);
      if (leaving_) leaving_();
      return;
    }
    for (const auto& replica : ReplicasOf(link.rank())) replica->OnMessage(link.rank(), message);
  }

  void Forget(FollowerLink& link, const absl::Status& ended) {
    std::vector<std::shared_ptr<ReplicaLinks>> replicas;
    bool starting;
    {
      absl::MutexLock lock(&mutex_);
      links_.erase(link.rank());
      // Before it was told what to load it may come again.
      if (replicas_.empty()) joins_.erase(link.rank());
      for (const auto& replica : replicas_) {
        if (!replica->ranks().contains(link.rank())) continue;
        replicas.push_back(replica);
        if (!ended.ok()) DismissLocked(replica->replica(), ended);
      }
      starting = !ended.ok() && !replicas_.empty() && leaving_ == nullptr && !closing_;
    }
    if (!ended.ok()) Log(LogLevel::kError, "a follower is lost", {{"error", std::string(ended.message())}});
    if (starting) {
      std::fprintf(stderr, "causewayd: %s while the model was loaded\n", std::string(ended.message()).c_str());
      FlushLog();
      _exit(1);
    }
    // Also one that left as it was told to: a start may wait for it.
    for (const auto& replica : replicas) replica->OnGone(link.rank(), ended);
  }

  void SendTo(int rank, std::shared_ptr<const v1::LeaderMessage> message) {
    absl::MutexLock lock(&mutex_);
    if (const auto link = links_.find(rank); link != links_.end()) link->second->Send(std::move(message));
  }

  void Monitor() {
    const absl::Duration every = absl::Seconds(loaded_.config.cluster().heartbeat_seconds()),
                         lost_after = absl::Seconds(loaded_.config.cluster().lost_after_seconds());
    auto alive = std::make_shared<v1::LeaderMessage>();
    alive->mutable_alive();
    absl::Time said = Clock::Real()->Now();
    absl::Time told = absl::InfinitePast();
    while (!stop_.WaitForNotificationWithTimeout(std::min(every, lost_after / kLooks))) {
      absl::MutexLock lock(&mutex_);
      const bool tell = Clock::Real()->Now() - told >= every;
      if (tell) told = Clock::Real()->Now();
      for (const auto& [rank, link] : links_) {
        link->CheckHeard(lost_after);
        if (tell) link->Send(alive);
      }
      if (Clock::Real()->Now() - said < kSayEvery) continue;
      said = Clock::Real()->Now();
      for (size_t replica = 0; replica < replicas_.size(); ++replica) {
        const std::string waiting = replicas_[replica]->Waiting();
        if (!waiting.empty())
          Log(LogLevel::kInfo, "followers are loading", {{"replica", replica}, {"waiting for", waiting}});
      }
    }
  }

  const LoadedConfig& loaded_;
  const Membership membership_;
  const std::string secret_;
  std::unique_ptr<Rendezvous> rendezvous_;
  std::string control_;
  int threads_ = 0;

  mutable absl::Mutex mutex_;
  bool files_are_known_ ABSL_GUARDED_BY(mutex_) = false, closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<int, v1::Join> joins_ ABSL_GUARDED_BY(mutex_);       // by rank, this process's included
  std::map<int, FollowerLink*> links_ ABSL_GUARDED_BY(mutex_);  // by rank
  std::vector<std::shared_ptr<ReplicaLinks>> replicas_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> leaving_ ABSL_GUARDED_BY(mutex_);
  std::set<int> lost_ ABSL_GUARDED_BY(mutex_);  // replicas
  int64_t generation_ ABSL_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<const v1::LeaderMessage> placement_ ABSL_GUARDED_BY(mutex_);

  BoundedQueue<int> complete_;  // lost replicas whose followers have all joined again
  absl::Notification stop_;
  std::thread monitor_, restorer_;
  std::unique_ptr<grpc::Server> server_;  // last, since its threads use the others
};

}  // namespace

absl::StatusOr<std::unique_ptr<ClusterLeader>> ClusterLeader::Start(const LoadedConfig& loaded,
                                                                    const Membership& membership) {
  CAUSEWAY_ASSIGN_OR_RETURN(std::string secret, ReadSecret(loaded));
  auto leader = std::make_unique<LeaderImpl>(loaded, membership, std::move(secret));
  CAUSEWAY_RETURN_IF_ERROR(leader->Open());
  return leader;
}

}  // namespace causeway
