// Replicas whose devices several processes drive: the tokens of one process, whatever is where. The processes are
// stand-ins in this one, with connections of their own; what goes between leader and followers is handed over late.
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "engine/architecture/shard.h"
#include "engine/base/bounded_queue.h"
#include "engine/execution/follower.h"
#include "engine/execution/followers.h"
#include "engine/execution/testing.h"

namespace causeway {
namespace {

using testing::DriveOptions;
using testing::Driver;
using ::testing::HasSubstr;
using testing::kPrompts;
using testing::PlanFor;
using testing::Start;

// Does what it is given in order, each after a random while, on a thread of its own.
class LateThread {
 public:
  explicit LateThread(uint32_t seed) : random_(seed), work_(1024), thread_([this] { Loop(); }) {}
  ~LateThread() {
    work_.Close();
    thread_.join();
  }
  void Do(std::function<void()> work) { work_.Push(std::move(work)); }

 private:
  void Loop() {
    while (std::optional<std::function<void()>> work = work_.Pop()) {
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % 400));
      (*work)();
    }
  }
  std::minstd_rand random_;
  BoundedQueue<std::function<void()>> work_;
  std::thread thread_;
};

// Followers in this process.
class LateFollowers final : public Followers {
 public:
  using MakeFollower = std::function<std::unique_ptr<Follower>(Follower::Events)>;
  explicit LateFollowers(std::vector<MakeFollower> make) : make_(std::move(make)), up_(1) {}
  ~LateFollowers() override {
    for (const auto& follower : followers_) follower->Close();
    down_.clear();
    followers_.clear();
  }

  absl::Status AwaitLoaded(Events events) override {
    events_ = std::move(events);
    for (const MakeFollower& make : make_) {
      followers_.push_back(
          make({.done = [this](uint64_t number, StepPlan plan, StepResult result,
                               bool ends_here) { Done(number, plan, std::move(result), ends_here); },
                .lost = [this](const absl::Status& why) { up_.Do([this, why] { events_.lost(why); }); }}));
      down_.push_back(std::make_unique<LateThread>(static_cast<uint32_t>(down_.size() + 2)));
    }
    return absl::OkStatus();
  }
  absl::Status AwaitWarm() override {
    for (const auto& follower : followers_) {
      if (const absl::Status status = follower->AwaitWarm(); !status.ok()) return status;
    }
    return absl::OkStatus();
  }
  void Run(uint64_t number, bool warm_up, const StepPlan& plan) override {
    if (WantsOutputs(plan)) left_.Set(number, static_cast<int>(followers_.size()));
    for (size_t i = 0; i < followers_.size(); ++i) {
      down_[i]->Do([follower = followers_[i].get(), number, warm_up, plan] { follower->Run(number, warm_up, plan); });
    }
  }
  ExecutorStats Stats() const override {
    ExecutorStats all;
    for (const auto& follower : followers_) {
      ExecutorStats stats = follower->Stats();
      all.devices.resize(stats.devices.size());
      for (size_t i = 0; i < stats.devices.size(); ++i)
        if (stats.devices[i].memory.weights > 0) all.devices[i] = stats.devices[i];
      all.transfers.insert(all.transfers.end(), stats.transfers.begin(), stats.transfers.end());
    }
    return all;
  }

  // As though a process was gone.
  void Kill() {
    followers_.front()->Close();
    up_.Do([this] { events_.lost(absl::UnavailableError("process 1 is gone")); });
  }

 private:
  // How many followers have still to do their part of a step that wants LayerOutputs.
  class Left {
   public:
    void Set(uint64_t number, int count) {
      absl::MutexLock lock(&mutex_);
      left_[number] = count;
    }
    bool LastOf(uint64_t number) {
      absl::MutexLock lock(&mutex_);
      return --left_[number] == 0;
    }

   private:
    absl::Mutex mutex_;
    std::map<uint64_t, int> left_ ABSL_GUARDED_BY(mutex_);
  };

  static bool WantsOutputs(const StepPlan& plan) {
    for (const StepSequence& sequence : plan.sequences)
      if (sequence.local.layer_outputs != nullptr) return true;
    return false;
  }
  void Done(uint64_t number, const StepPlan& plan, StepResult result, bool ends_here) {
    const bool captured = WantsOutputs(plan) && left_.LastOf(number);
    auto shared = std::make_shared<StepResult>(std::move(result));
    up_.Do([this, number, shared, ends_here, captured] {
      if (ends_here) {
        events_.result(number, std::move(*shared));
      } else if (!shared->status.ok()) {
        events_.failed(number, shared->status, shared->device_failure);
      }
      if (captured) events_.captured(number);
    });
  }

  const std::vector<MakeFollower> make_;
  Events events_;
  Left left_;
  LateThread up_;
  std::vector<std::unique_ptr<Follower>> followers_;
  std::vector<std::unique_ptr<LateThread>> down_;
};

// Connections for processes with so many devices each.
std::vector<ProcessShare> Connect(const Plan& plan, const std::vector<int>& devices_of_process) {
  const auto rendezvous = MakeRendezvous("127.0.0.1", 0, /*serve=*/true, absl::Seconds(20));
  EXPECT_TRUE(rendezvous.ok()) << rendezvous.status();
  std::vector<ProcessShare> shares(devices_of_process.size());
  std::vector<std::thread> threads;
  int first = 0;
  for (size_t process = 0; process < shares.size(); ++process) {
    std::vector<int> own;
    for (const int device : DevicesInUse(plan))
      if (device >= first && device < first + devices_of_process[process]) own.push_back(device);
    first += devices_of_process[process];
    threads.emplace_back([&, process, own] {
      absl::StatusOr<ProcessShare> share = ConnectShare(**rendezvous, "test", plan, own, "127.0.0.1");
      EXPECT_TRUE(share.ok()) << share.status();
      shares[process] = *std::move(share);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return shares;
}

struct Group {
  LateFollowers* followers;  // the executor's
  std::unique_ptr<Executor> executor;
};
Group StartProcesses(const TinyCheckpoint& tiny, const Plan& plan, const std::vector<int>& devices_of_process) {
  EXPECT_TRUE(CheckProcesses(plan, devices_of_process).ok()) << CheckProcesses(plan, devices_of_process);
  std::vector<ProcessShare> shares = Connect(plan, devices_of_process);
  std::vector<LateFollowers::MakeFollower> make;
  for (size_t process = 1; process < shares.size(); ++process) {
    auto share = std::make_shared<ProcessShare>(std::move(shares[process]));
    make.push_back([&tiny, &plan, share](Follower::Events events) {
      auto follower = Follower::Load(tiny.spec(), tiny.checkpoint(), plan, std::move(*share), {.cpu_threads = 2},
                                     nullptr, std::move(events));
      if (!follower.ok()) throw std::runtime_error(follower.status().ToString());
      return *std::move(follower);
    });
  }
  auto followers = std::make_unique<LateFollowers>(std::move(make));
  LateFollowers* const seen = followers.get();
  auto executor = MakeLeadingExecutor(tiny.spec(), tiny.checkpoint(), plan, std::move(shares[0]), std::move(followers),
                                      {.cpu_threads = 2}, nullptr);
  if (!executor.ok()) throw std::runtime_error(executor.status().ToString());
  return {seen, *std::move(executor)};
}

constexpr int kLayers = 4;

struct Shape {
  std::vector<int> stage_of_layer;  // kLayers of them
  int tp;
  std::vector<int> devices_of_process;  // the leader's first
  int head = -1;                        // its stage, as tied ones are at the embeddings; -1: the last layer's

  std::string name() const {
    return absl::StrCat("layers on ", absl::StrJoin(stage_of_layer, ","), ", tp ", tp, ", processes ",
                        absl::StrJoin(devices_of_process, "+"));
  }
};
const std::vector<Shape> kShapes = {
    {{0, 0, 1, 1}, 1, {1, 1}},          {{0, 1, 1, 2}, 1, {1, 1, 1}},    {{0, 1, 1, 2}, 1, {2, 1}},
    {{0, 1, 2, 3}, 1, {1, 2, 1}},       {{0, 0, 0, 0}, 2, {1, 1}},       {{0, 0, 0, 0}, 2, {0, 2}},
    {{0, 0, 0, 1}, 2, {2, 2}},          {{0, 0, 1, 1}, 2, {1, 1, 1, 1}}, {{0, 1, 1, 1}, 2, {0, 2, 2}},
    {{0, 1, 0, 1}, 1, {1, 1}},          {{0, 1, 0, 0}, 2, {1, 1, 2}},    {{0, 0, 1, 1}, 1, {0, 1, 1}},
    {{0, 0, 1, 1}, 1, {1, 1}, 0},       {{0, 0, 1, 1}, 2, {2, 1, 1}, 0}, {{0, 0, 1, 1}, 2, {1, 1, 1, 1}, 0},
    {{0, 1, 0, 1}, 2, {1, 1, 1, 1}, 0},
};

Plan PlanOf(const TinyCheckpoint& tiny, const Shape& shape) {
  PlanOptions options;
  options.parallel.tp = shape.tp;
  options.device_map = "custom";
  const auto key = [&shape](int stage) { return std::to_string(stage * shape.tp); };
  options.custom_map["model.embed_tokens"] = key(shape.stage_of_layer.front());
  for (int i = 0; i < kLayers; ++i) options.custom_map[absl::StrCat("model.layers.", i)] = key(shape.stage_of_layer[i]);
  options.custom_map["model.norm"] = key(shape.stage_of_layer.back());
  options.custom_map["lm_head"] = key(shape.head >= 0 ? shape.head : shape.stage_of_layer.back());
  int devices = 0;
  for (const int own : shape.devices_of_process) devices += own;
  Plan plan = PlanFor(tiny.spec(), absl::StrCat("simulated:", devices, "x64MiB"), options);
  for (size_t process = 0, device = 0; process < shape.devices_of_process.size(); ++process)
    for (int i = 0; i < shape.devices_of_process[process]; ++i)
      plan.devices[device++].device.process = static_cast<int>(process);
  return plan;
}

TinyCheckpoint MakeTiny() { return TinyCheckpoint(TinyLlama({{"num_hidden_layers", kLayers}})); }

TEST(ProcessesTest, GiveTheTokensOfOneDevice) {
  const TinyCheckpoint tiny = MakeTiny();
  auto one = Start(tiny, PlanFor(tiny.spec(), "simulated:1x64MiB"));
  SamplingParams sampling{.temperature = 0.9, .top_p = 0.95, .frequency_penalty = 0.8};
  sampling.seed = 77;
  const auto expected = Driver(*one, kPrompts, {}).Run();
  const auto sampled = Driver(*one, kPrompts, {.sampling = sampling}).Run();
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(shape.name());
    const Plan plan = PlanOf(tiny, shape);
    const Group group = StartProcesses(tiny, plan, shape.devices_of_process);
    EXPECT_EQ(Driver(*group.executor, kPrompts, {}).Run(), expected);
    EXPECT_EQ(Driver(*group.executor, kPrompts, {.chunk = 5, .ahead = true}).Run(), expected);
    EXPECT_EQ(Driver(*group.executor, kPrompts, {.chunk = 7, .ahead = true, .sampling = sampling}).Run(), sampled);
    const ExecutorStats stats = group.executor->Stats();
    const ExecutorStats in_one = Start(tiny, plan)->Stats();
    for (const int device : DevicesInUse(plan)) {
      EXPECT_EQ(stats.devices[device].memory.weights, in_one.devices[device].memory.weights) << device;
      EXPECT_EQ(stats.devices[device].memory.kv_cache, plan.devices[device].kv_cache) << device;
      EXPECT_GT(stats.devices[device].busy_seconds, 0) << device;
    }
    int64_t moved = 0;
    for (const TransferStats& transfer : stats.transfers) moved += transfer.bytes;
    EXPECT_EQ(moved > 0, plan.segments.size() > 1);
  }
}

// They are complete when the step's result comes, wherever the layers are.
TEST(ProcessesTest, LayerOutputsAreThereWithTheResult) {
  const TinyCheckpoint tiny = MakeTiny();
  const auto outputs_of = [&tiny](Executor& executor) {
    auto outputs = std::make_shared<LayerOutputs>();
    for (int unit = 0; unit <= kLayers + 1; ++unit) outputs->units.push_back(unit);
    outputs->rows = static_cast<int64_t>(kPrompts[2].size());
    outputs->width = tiny.spec().hidden_size;
    outputs->values = std::make_unique<float[]>(outputs->bytes() / sizeof(float));
    auto start = std::make_shared<SequenceStart>();
    start->sampling.temperature = 0;
    start->tokens = kPrompts[2];
    StepPlan step;
    step.step = 1;
    step.tokens = step.prefill_tokens = outputs->rows;
    step.sequences.push_back({.sequence = 1, .tokens = kPrompts[2], .block_table = {0, 1}, .sample = true});
    step.sequences.front().start = std::move(start);
    step.sequences.front().local.layer_outputs = outputs;
    executor.Run(std::move(step));
    const StepResult result = executor.Wait();
    EXPECT_TRUE(result.status.ok()) << result.status;
    return std::vector<float>(outputs->values.get(), outputs->values.get() + outputs->bytes() / sizeof(float));
  };
  auto one = Start(tiny, PlanFor(tiny.spec(), "simulated:1x64MiB"));
  const std::vector<float> expected = outputs_of(*one);
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(shape.name());
    const Plan plan = PlanOf(tiny, shape);
    const Group group = StartProcesses(tiny, plan, shape.devices_of_process);
    EXPECT_THAT(outputs_of(*group.executor), ::testing::Pointwise(::testing::FloatNear(1e-4), expected));
  }
}

StepPlan OneRow(uint64_t number) {
  StepPlan step;
  step.step = number;
  step.tokens = step.prefill_tokens = 1;
  step.sequences.push_back({.sequence = 9, .tokens = {5}, .block_table = {0}});
  return step;
}

// Steps that fail say why, in whatever process, and the next ones run.
TEST(ProcessesTest, AStepThatFailsEndsAlone) {
  const TinyCheckpoint tiny = MakeTiny();
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(shape.name());
    const Plan plan = PlanOf(tiny, shape);
    const Group group = StartProcesses(tiny, plan, shape.devices_of_process);
    const auto expected = Driver(*group.executor, kPrompts, {.tokens = 3}).Run();
    StepPlan samples = OneRow(10), wrong = OneRow(11);
    samples.sequences.front().sample = true;  // in a slot that no sequence has had: known where it samples
    samples.sequences.front().slot = 3;
    wrong.sequences.front().block_table = {1 << 20};
    const Group fresh = StartProcesses(tiny, plan, shape.devices_of_process);
    fresh.executor->Run(samples);
    fresh.executor->Run(wrong);
    fresh.executor->Run(OneRow(12));
    EXPECT_THAT(fresh.executor->Wait().status.message(), HasSubstr("slot 3 has no sampling parameters"));
    EXPECT_THAT(fresh.executor->Wait().status.message(), HasSubstr("block"));
    EXPECT_TRUE(fresh.executor->Wait().status.ok());
    EXPECT_EQ(Driver(*group.executor, kPrompts, {.tokens = 3}).Run(), expected);
  }
}

// A process that is gone ends every step that is under way, and those to come.
TEST(ProcessesTest, ALostProcessEndsAllSteps) {
  const TinyCheckpoint tiny = MakeTiny();
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(shape.name());
    const Plan plan = PlanOf(tiny, shape);
    const Group group = StartProcesses(tiny, plan, shape.devices_of_process);
    EXPECT_FALSE(Driver(*group.executor, kPrompts, {.tokens = 3}).Run().empty());
    group.followers->Kill();
    for (uint64_t i = 1; i <= 5; ++i) {
      group.executor->Run(OneRow(i));
      const StepResult result = group.executor->Wait();
      EXPECT_EQ(result.step, i);
      EXPECT_EQ(result.status.ok(), result.device_failure.ok());  // or it was faster
    }
    absl::SleepFor(absl::Milliseconds(50));
    group.executor->Run(OneRow(6));
    EXPECT_THAT(group.executor->Wait().device_failure.message(), ::testing::Not(::testing::IsEmpty()));
  }
}

TEST(ProcessesTest, ProcessesHaveWholeGroupsOrPartsOfOne) {
  const TinyCheckpoint tiny = MakeTiny();
  const Plan plan = PlanOf(tiny, {{0, 0, 1, 1}, 2, {4}});
  EXPECT_TRUE(CheckProcesses(plan, {2, 2}).ok());
  EXPECT_TRUE(CheckProcesses(plan, {1, 1, 2}).ok());
  EXPECT_TRUE(CheckProcesses(plan, {0, 4}).ok());
  EXPECT_THAT(CheckProcesses(plan, {1, 3}).message(), HasSubstr("process 1 has 3 devices"));
  EXPECT_THAT(CheckProcesses(plan, {1, 2, 1}).message(), HasSubstr("parts of several groups of 2 ranks"));
}

}  // namespace
}  // namespace causeway
