#include "server/cluster/leader.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <thread>
#include <utility>

#include <grpcpp/server_builder.h>
#include <openssl/crypto.h>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "causeway/v1/cluster.grpc.pb.h"
#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/device/endpoint.h"
#include "server/cluster/group.h"
#include "server/cluster/link.h"
#include "server/cluster/model_files.h"
#include "server/cluster/replica_links.h"
#include "server/cluster/wire_stats.h"
#include "server/startup/address.h"
#include "server/telemetry/log.h"

namespace causeway {
namespace {

constexpr absl::Duration kSayEvery = absl::Seconds(10);  // whom a start waits for
constexpr int kLooks = 50;                               // within the time after which a silent process is lost
constexpr absl::Duration kLeaveGrace = absl::Seconds(5);
constexpr int kMessageBytesMax = 1 << 30;  // outputs of layers go in one

bool SameSecret(const grpc::ServerContext& context, const std::string& secret) {
  const auto shown = context.client_metadata().find(kSecretKey);
  const grpc::string_ref given = shown == context.client_metadata().end() ? grpc::string_ref() : shown->second;
  return given.size() == secret.size() && CRYPTO_memcmp(given.data(), secret.data(), secret.size()) == 0;
}

class LeaderImpl final : public ClusterLeader, public v1::Cluster::Service {
 public:
  LeaderImpl(const LoadedConfig& loaded, Membership membership, std::string secret)
      : loaded_(loaded), membership_(std::move(membership)), secret_(std::move(secret)) {}

  ~LeaderImpl() override {
    stop_.Notify();
    if (monitor_.joinable()) monitor_.join();
    Leave(absl::OkStatus());
    if (server_ != nullptr) server_->Shutdown(absl::ToChronoTime(absl::Now()));
  }

  absl::Status Open() {
    const Address rendezvous{membership_.rendezvous_host, membership_.rendezvous_port};
    // An agent's store may be on another host.
    Address control{membership_.agent_store ? AddressTowards(rendezvous) : rendezvous.host, 0};
    if (const std::string& text = loaded_.config.cluster().control(); !text.empty()) {
      absl::StatusOr<Address> parsed = ParseAddress(text);
      if (!parsed.ok())
        return absl::InvalidArgumentError(
            absl::StrCat(loaded_.Where("cluster.control"), ": ", parsed.status().message()));
      control = *parsed;
    }
    for (const Address& address : {rendezvous, control}) {
      if (!secret_.empty() || IsLoopbackHost(address.host)) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(loaded_.Where("cluster.secret_file"),
                       ": expected the file of a secret, since processes of other hosts can join at ", address.host,
                       ", got none; without one, only loopback is listened on"));
    }
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
        return absl::DeadlineExceededError(absl::StrCat("waited ", Seconds(now - begun), " for ", Missing()));
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
    *placement.mutable_config() = config;
    placement.set_plan(PlanJson(placed.plan));
    placement.set_cpu_threads(threads_);
    placement.set_generation(kGeneration);
    for (const DevicePlan& device : placed.plan.devices) *placement.add_devices() = ToWire(device.device);
    absl::MutexLock lock(&mutex_);
    for (size_t replica = 0; replica < placed.replicas.size(); ++replica) {
      const Plan& plan = placed.replicas[replica];
      CAUSEWAY_RETURN_IF_ERROR(CheckProcesses(plan, DevicesOfProcesses(plan, membership_.size)));
      std::set<int> ranks;
      for (const int rank : ProcessesInUse(plan))
        if (rank != 0) ranks.insert(rank);
      const bool samples_here = plan.devices[plan.segments.back().device()].device.process == 0;
      replicas_.push_back(std::make_shared<ReplicaLinks>(
          static_cast<int>(replica), std::move(ranks), samples_here, plan.devices.size(),
          [this](int rank, std::shared_ptr<const v1::LeaderMessage> step) { SendTo(rank, std::move(step)); }));
    }
    for (const auto& [rank, link] : links_) link->Send(message);
    for (int rank = 1; rank < membership_.size; ++rank) {
      if (links_.contains(rank)) continue;
      return absl::UnavailableError(absl::StrCat("rank ", rank, " (", joins_[rank].host(), ") is gone"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ReplicaProcesses> Processes(int replica, const Plan& plan) override {
    const std::shared_ptr<ReplicaLinks> links = replicas_[replica];
    ReplicaProcesses processes;
    CAUSEWAY_ASSIGN_OR_RETURN(processes.share, ConnectShare(*rendezvous_, ConnectionsName(kGeneration, replica), plan,
                                                            OwnDevices(plan, 0), OwnAddress()));
    if (!links->ranks().empty()) processes.followers = MakeFollowers(links);
    return processes;
  }

  void Serving(std::function<void()> leaving) override {
    absl::MutexLock lock(&mutex_);
    leaving_ = std::move(leaving);
  }

  void Leave(const absl::Status& why) override {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
    leaving_ = nullptr;
    for (auto& [rank, link] : links_) link->Leave(why);
    mutex_.AwaitWithTimeout(
        absl::Condition(+[](std::map<int, FollowerLink*>* links) { return links->empty(); }, &links_), kLeaveGrace);
  }

  // A follower's stream, on a thread of its own.
  grpc::Status Follow(grpc::ServerContext* context, FollowerLink::Stream* stream) override {
    if (!secret_.empty() && !SameSecret(*context, secret_)) {
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
  static constexpr int64_t kGeneration = 1;

  absl::Duration join_timeout() const { return absl::Seconds(loaded_.config.cluster().join_timeout_seconds()); }
  bool AllJoined() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return static_cast<int>(joins_.size()) == membership_.size;
  }
  static std::string Seconds(absl::Duration duration) { return absl::StrCat(absl::ToInt64Seconds(duration), " s"); }
  std::string Missing() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<int> missing;
    for (int rank = 1; rank < membership_.size; ++rank)
      if (!joins_.contains(rank)) missing.push_back(rank);
    return absl::StrCat(missing.size() == 1 ? "rank " : "ranks ", absl::StrJoin(missing, ", "));
  }
  std::string OwnAddress() const {
    const std::string& configured = loaded_.config.cluster().address();
    return configured.empty() ? AddressTowards({membership_.rendezvous_host, membership_.rendezvous_port}) : configured;
  }

  absl::Status Join(FollowerLink& link) {
    absl::MutexLock lock(&mutex_);
    // A follower may be faster than the leader, which must know its own model first.
    mutex_.Await(absl::Condition(
        +[](LeaderImpl* leader)
             ABSL_EXCLUSIVE_LOCKS_REQUIRED(leader->mutex_) { return leader->files_are_known_ || leader->closing_; },
        this));
    if (closing_) return absl::UnavailableError("the leader ends");
    const int rank = link.rank();
    if (rank < 1 || rank >= membership_.size) {
      return absl::InvalidArgumentError(absl::StrCat("expected a rank in [1, ", membership_.size - 1, "], got ", rank));
    }
    const v1::Join& own = joins_[0];
    if (link.join().version() != own.version()) {
      return absl::FailedPreconditionError(absl::StrCat(link.name(), " is causewayd ", link.join().version(),
                                                        ", and the leader (", own.host(), ") ", own.version()));
    }
    CAUSEWAY_RETURN_IF_ERROR(CompareModels(own.files(), link.join().files(), link.name()));
    if (const auto other = joins_.find(rank); other != joins_.end()) {
      return absl::AlreadyExistsError(absl::StrCat("rank ", rank, " has joined already, from ", other->second.host()));
    }
    joins_[rank] = link.join();
    links_[rank] = &link;
    Log(LogLevel::kInfo, "joined",
        {{"rank", rank},
         {"host", link.join().host()},
         {"devices", link.join().devices_size()},
         {"of", membership_.size}});
    return absl::OkStatus();
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
    bool starting;
    {
      absl::MutexLock lock(&mutex_);
      links_.erase(link.rank());
      // Before it was told what to load it may come again.
      if (replicas_.empty()) joins_.erase(link.rank());
      starting = !replicas_.empty() && leaving_ == nullptr && !closing_;
    }
    if (ended.ok()) return;
    Log(LogLevel::kError, "a follower is lost", {{"error", std::string(ended.message())}});
    if (starting) {
      std::fprintf(stderr, "causewayd: %s while the model was loaded\n", std::string(ended.message()).c_str());
      FlushLog();
      _exit(1);
    }
    for (const auto& replica : ReplicasOf(link.rank())) replica->OnGone(link.rank(), ended);
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
  std::vector<std::shared_ptr<ReplicaLinks>> replicas_;         // written by Place alone
  std::function<void()> leaving_ ABSL_GUARDED_BY(mutex_);

  absl::Notification stop_;
  std::thread monitor_;
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
