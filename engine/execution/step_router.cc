#include "engine/execution/step_router.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include <ATen/ops/empty.h>

#include "absl/strings/str_cat.h"
#include "engine/base/pipeline.h"
#include "engine/base/status.h"
#include "engine/base/trace.h"
#include "engine/device/device_memory.h"

namespace causeway {
namespace {

constexpr int kOrderTag = 1 << 29;  // others are segments, and the communicators' above

// A group's first rank goes on with a segment of a step, and the others do next.
struct Order {
  uint64_t step = 0, segment = 0;
};

// Before the hidden states of a message, in whole lines of the cache.
struct alignas(64) Head {
  uint64_t step = 0;
  int64_t bytes = 0;  // that follow: all rows, or those that the head is to see
  bool failed = false;
};

}  // namespace

StepRouter::StepRouter(const ModelSpec& spec, const Plan& plan, ProcessShare share, Events events)
    : spec_(spec),
      plan_(plan),
      share_(std::move(share)),
      events_(std::move(events)),
      limits_{spec_.vocab_size, plan_.options.max_num_seqs, plan_.kv_blocks, plan_.options.max_model_len},
      sampler_(plan_.options.max_num_seqs, spec_.vocab_size),
      candidates_(plan_.options.max_num_seqs, spec_.vocab_size,
                  static_cast<int>(plan_.segments.front().devices.size())),
      outgoing_(plan_.segments.size()) {}

StepRouter::~StepRouter() {
  Close();
  for (const auto& incoming : incoming_) incoming->expected.Close();
  for (std::thread& receiver : receivers_) receiver.join();
}

absl::StatusOr<LoadedModel> StepRouter::Load(const Checkpoint& checkpoint, const ExecutorOptions& options,
                                             const StartupCallbacks& callbacks) {
  if (NextOwn(0) == plan_.segments.size()) return LoadedModel();
  CAUSEWAY_ASSIGN_OR_RETURN(workers_, MakeWorkers(spec_, plan_, share_, options, sampler_,
                                                  [this](std::shared_ptr<Step> step) { Advance(std::move(step)); }));
  CAUSEWAY_ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(spec_, plan_, checkpoint, options, callbacks, workers_));
  for (size_t segment = 1; segment < plan_.segments.size(); ++segment) {
    if (!ComesFromOthers(segment)) continue;
    for (size_t rank = 0; rank < plan_.segments[segment].devices.size(); ++rank) {
      if (!share_.has(plan_.segments[segment].devices[rank])) continue;
      incoming_.push_back(std::make_unique<Incoming>(segment, rank));
      receivers_.emplace_back([this, &incoming = *incoming_.back()] { ReceiveAll(incoming); });
    }
  }
  std::set<int> told_by;  // first ranks
  for (size_t segment = 0; segment < plan_.segments.size(); ++segment) {
    const std::vector<int>& devices = plan_.segments[segment].devices;
    if (OwnRanks(segment) == 0 || !IsShared(segment) || share_.has(devices.front())) continue;
    const int own = *std::find_if(devices.begin(), devices.end(), [this](int device) { return share_.has(device); });
    if (told_by.insert(devices.front()).second)
      receivers_.emplace_back([this, first = devices.front(), own] { ReceiveOrder(first, own); });
  }
  return loaded;
}

size_t StepRouter::OwnRanks(size_t segment) const {
  const std::vector<int>& devices = plan_.segments[segment].devices;
  return std::count_if(devices.begin(), devices.end(), [this](int device) { return share_.has(device); });
}

// CheckProcesses sees to it that the own ranks of a segment get their hidden states all from own devices, or none.
bool StepRouter::ComesFromOthers(size_t segment) const {
  return segment > 0 && OwnRanks(segment) > 0 && OwnRanks(segment - 1) < plan_.segments[segment].devices.size();
}

bool StepRouter::IsShared(size_t segment) const {
  const std::vector<int>& devices = plan_.segments[segment].devices;
  if (OwnRanks(segment) == devices.size()) return false;
  return std::count_if(plan_.segments.begin(), plan_.segments.end(),
                       [&](const Segment& other) { return other.device() == devices.front(); }) > 1;
}

size_t StepRouter::NextOwn(size_t segment) const {
  while (segment < plan_.segments.size() && OwnRanks(segment) == 0) ++segment;
  return segment;
}

void StepRouter::Launch(std::shared_ptr<Step> step) {
  step->ranks.resize(plan_.segments.front().devices.size());
  if (step->result.status.ok()) step->candidates = candidates_.Of(step->plan);
  step->segment = NextOwn(0);
  if (step->segment == plan_.segments.size()) return;  // a leader without a device of the replica
  step->start = Step::Clock::now();                    // until the first segment's worker begins it, where that is own
  for (const auto& incoming : incoming_) incoming->expected.Push(std::shared_ptr<Step>(step));
  absl::MutexLock lock(&mutex_);
  Reach(step);
}

// The step stands before its segment, with its hidden states where they come from own devices.
void StepRouter::Reach(const std::shared_ptr<Step>& step) {
  if (!ComesFromOthers(step->segment)) return Enqueue(step);
  const Place place = {step->number, step->segment};
  waiting_[place].step = step;
  TryEnter(place);
}

void StepRouter::TryEnter(Place place) {
  const auto found = waiting_.find(place);
  if (found->second.step == nullptr || found->second.arrived.size() < OwnRanks(place.second)) return;
  Waiting waiting = std::move(found->second);
  waiting_.erase(found);
  for (auto& [rank, message] : waiting.arrived) {
    auto& [failed, hidden] = message;
    if (failed && waiting.step->result.status.ok()) {
      waiting.step->result.status =
          absl::AbortedError(absl::StrCat("step ", waiting.step->plan.step, " failed in another process"));
    }
    waiting.step->ranks[rank].hidden = {std::move(hidden), nullptr};
  }
  Enqueue(waiting.step);
}

// All ranks of a group get steps in one order: in a process the lock sees to it. Between processes, the order of a
// group's only segment is that of steps; where it has several, its first rank's process says which is next.
void StepRouter::Enqueue(const std::shared_ptr<Step>& step) {
  const Place place = {step->number, step->segment};
  if (!IsShared(step->segment)) return EnqueueNow(step);
  if (share_.has(plan_.segments[step->segment].device())) {
    TellOrder(place);
    return EnqueueNow(step);
  }
  ready_[place] = step;
  RunInOrder();
}

void StepRouter::EnqueueNow(const std::shared_ptr<Step>& step) {
  step->ranks_left = static_cast<int>(OwnRanks(step->segment));
  for (const int device : plan_.segments[step->segment].devices)
    if (share_.has(device)) workers_.at(device)->Enqueue(step);
}

void StepRouter::TellOrder(Place place) {
  const std::vector<int>& devices = plan_.segments[place.second].devices;
  const int first = devices.front();
  int process = plan_.devices[first].device.process;
  for (const int device : devices) {  // the first of each other process: those of a process are neighbours
    if (share_.has(device) || plan_.devices[device].device.process == process) continue;
    process = plan_.devices[device].device.process;
    // Where the connection is lost, the ranks find out when they add up.
    (void)CatchTorch("the order of steps", [&] {
      const UncountedScope uncounted;
      const at::Tensor message = at::empty({static_cast<int64_t>(sizeof(Order))}, at::kByte);
      const Order order{place.first, place.second};
      std::memcpy(message.mutable_data_ptr(), &order, sizeof(order));
      told_.push_back(share_.own.at(first)->Send(share_.peers.at(device), kOrderTag, message));
      return absl::OkStatus();
    });
  }
  const size_t most =
      (StepsInFlight(static_cast<int>(plan_.devices.size())) + 1) * plan_.segments.size() * devices.size();
  while (told_.size() > most) told_.pop_front();
}

void StepRouter::RunInOrder() {
  while (!order_.empty()) {
    const auto next = ready_.find(order_.front());
    if (next == ready_.end()) return;
    EnqueueNow(next->second);
    ready_.erase(next);
    order_.pop_front();
  }
}

void StepRouter::ReceiveOrder(int first, int own) {
  while (!closing_) {
    Order order;
    const absl::Status received =
        CatchTorch(absl::StrCat("the connection to ", WhereIs(plan_, first), " is lost"), [&] {
          const UncountedScope uncounted;
          const at::Tensor message = at::empty({static_cast<int64_t>(sizeof(Order))}, at::kByte);
          share_.own.at(own)->Receive(share_.peers.at(first), kOrderTag, message)->Wait();
          std::memcpy(&order, message.const_data_ptr(), sizeof(order));
          return absl::OkStatus();
        });
    if (!received.ok()) return Lose(received);
    absl::MutexLock lock(&mutex_);
    order_.emplace_back(order.step, order.segment);
    RunInOrder();
  }
}

void StepRouter::Lose(const absl::Status& why) {
  if (!closing_.exchange(true)) events_.lost(why);
}

// On the thread of a worker that ran the step's segment, the last of its own ranks.
void StepRouter::Advance(std::shared_ptr<Step> step) {
  const std::vector<int>& from = plan_.segments[step->segment].devices;
  if (step->segment + 1 < plan_.segments.size()) {
    const std::vector<int>& to = plan_.segments[step->segment + 1].devices;
    {
      absl::MutexLock lock(&mutex_);
      for (size_t rank = 0; rank < from.size(); ++rank) {
        const at::Tensor& hidden = step->ranks[rank].hidden.tensor;
        if (hidden.defined() && !step->warm_up) transfers_[{from[rank], to[rank]}] += hidden.nbytes();
      }
    }
    SendOn(*step);
  }
  step->segment = NextOwn(step->segment + 1);
  if (step->segment == plan_.segments.size()) return events_.done(std::move(step));
  absl::MutexLock lock(&mutex_);
  Reach(step);
}

// To the ranks of the next segment that other processes have. A step that has failed goes on as that.
void StepRouter::SendOn(Step& step) {
  const std::vector<int>&from = plan_.segments[step.segment].devices, &to = plan_.segments[step.segment + 1].devices;
  std::deque<std::unique_ptr<Transfer>>& outgoing = outgoing_[step.segment];
  for (size_t rank = 0; rank < from.size(); ++rank) {
    if (!share_.has(from[rank]) || share_.has(to[rank])) continue;
    TraceSpan span("send");
    const at::Tensor hidden = std::exchange(step.ranks[rank].hidden, {}).tensor;
    const int64_t bytes = hidden.defined() ? static_cast<int64_t>(hidden.nbytes()) : 0;
    span.With("bytes", bytes);
    const absl::Status sent = CatchTorch(absl::StrCat("the connection to ", WhereIs(plan_, to[rank]), " is lost"), [&] {
      const UncountedScope uncounted;
      const at::Tensor message = at::empty({static_cast<int64_t>(sizeof(Head)) + bytes}, at::kByte);
      Head head;
      head.step = step.number;
      head.bytes = bytes;
      head.failed = !step.result.status.ok();
      std::memcpy(message.mutable_data_ptr(), &head, sizeof(head));
      const at::Tensor dense = hidden.defined() ? hidden.contiguous() : hidden;
      if (bytes > 0)
        std::memcpy(static_cast<char*>(message.mutable_data_ptr()) + sizeof(head), dense.const_data_ptr(), bytes);
      outgoing.push_back(share_.own.at(from[rank])
                             ->Send(share_.peers.at(to[rank]), static_cast<int>(step.segment) + 1, std::move(message)));
      return absl::OkStatus();
    });
    if (!sent.ok()) Lose(sent);
  }
  // Of as many steps as there can be under way one may still be going out.
  const size_t most = (StepsInFlight(static_cast<int>(plan_.devices.size())) + 1) * from.size();
  while (outgoing.size() > most) outgoing.pop_front();
}

void StepRouter::ReceiveAll(Incoming& incoming) {
  const int device = plan_.segments[incoming.segment].devices[incoming.rank],
            from = plan_.segments[incoming.segment - 1].devices[incoming.rank];
  DeviceWorker& worker = *workers_.at(device);
  while (std::optional<std::shared_ptr<Step>> next = incoming.expected.Pop()) {
    const Step& step = **next;
    bool failed = false;
    at::Tensor hidden;
    const absl::Status received =
        CatchTorch(absl::StrCat("the connection to ", WhereIs(plan_, from), " is lost"), [&]() -> absl::Status {
          const UncountedScope uncounted;
          const int64_t element = static_cast<int64_t>(at::elementSize(worker.activations())),
                        bytes = step.plan.tokens * spec_.hidden_size * element;
          at::Tensor message = at::empty({static_cast<int64_t>(sizeof(Head)) + bytes}, at::kByte);
          share_.own.at(device)->Receive(share_.peers.at(from), static_cast<int>(incoming.segment), message)->Wait();
          const Head& head = *static_cast<const Head*>(message.const_data_ptr());
          if (head.step != step.number)
            return absl::InternalError(absl::StrCat("expected step ", step.number, ", got ", head.step));
          failed = head.failed;
          hidden = message.narrow(0, sizeof(Head), std::min(head.bytes, bytes))
                       .view(worker.activations())
                       .view({-1, spec_.hidden_size});
          return absl::OkStatus();
        });
    if (!received.ok()) return Lose(received);
    absl::MutexLock lock(&mutex_);
    const Place place = {step.number, incoming.segment};
    waiting_[place].arrived[incoming.rank] = {failed, std::move(hidden)};
    TryEnter(place);
  }
}

void StepRouter::BeginWarmUp() {
  for (const auto& [device, worker] : workers_) worker->runtime().ResetActivationsPeak();
}

ExecutorStats StepRouter::Stats() const {
  ExecutorStats stats;
  stats.devices.resize(plan_.devices.size());
  for (const auto& [device, worker] : workers_) {
    stats.devices[device] = worker->stats();
    stats.experts.merge(worker->ExpertLoads());
  }
  absl::MutexLock lock(&mutex_);
  for (const auto& [route, bytes] : transfers_) {
    stats.transfers.push_back({plan_.devices[route.first].device.name, plan_.devices[route.second].device.name, bytes});
  }
  return stats;
}

void StepRouter::Close() {
  closing_ = true;
  for (const auto& [device, endpoint] : share_.own) endpoint->Close();
}

}  // namespace causeway
