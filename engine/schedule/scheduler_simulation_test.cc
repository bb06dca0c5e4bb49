// Runs seeded random workloads against the fake device. Whatever happens, tokens are those of a sequence that runs
// alone.
#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/base/bounded_queue.h"
#include "engine/base/limits.h"
#include "engine/schedule/fake_device.h"
#include "engine/schedule/scheduler.h"

namespace causeway {
namespace {

struct Workload {
  SchedulerOptions options;
  std::vector<SequenceRequest> requests;
  double arrive = 0, cancel = 0, fail = 0;  // probabilities in each round of the loop
};

Workload MakeWorkload(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto pick = [&](auto... values) {
    const std::common_type_t<decltype(values)...> list[] = {values...};
    return list[random() % sizeof...(values)];
  };
  Workload w;
  w.options.num_blocks = pick(2, 4, 7, 12, 30, 100);
  w.options.max_num_seqs = pick(1, 2, 5, 16);
  w.options.max_num_batched_tokens = w.options.max_num_seqs + pick(0, 1, 7, 40, 600);
  w.options.max_model_len = pick(20, 60, 200, 400);
  w.options.micro_batches = pick(1, 1, 2, 3, 4);
  w.options.steps_in_flight = w.options.micro_batches == 1 ? pick(1, 2, 2, 2, 3) : w.options.micro_batches + 1;
  w.options.prefix_cache = random() % 4 != 0;
  w.arrive = pick(0.1, 0.5, 1.0);
  w.cancel = pick(0.0, 0.0, 0.02, 0.1);
  w.fail = pick(0.0, 0.0, 0.0, 0.03);

  // Prompts are made of few distinct pieces, so that prefixes are often shared.
  const int32_t alphabet = pick(1, 2, 40);
  const int64_t prompt_max = std::min(w.options.max_model_len - 1, w.options.num_blocks * kBlockTokens);
  const uint64_t salts = pick(1, 1, 3);
  const size_t count = 1 + random() % 24;
  while (w.requests.size() < count) {
    SequenceRequest r;
    r.id = w.requests.size() + 1;
    r.priority = static_cast<int32_t>(random() % 3) - 1;
    r.sampling.seed = random() % 3;
    const int64_t prompt = 1 + static_cast<int64_t>(random() % prompt_max) / static_cast<int64_t>(pick(1, 1, 4));
    while (static_cast<int64_t>(r.prompt.size()) < prompt)
      r.prompt.push_back(static_cast<int32_t>(random() % alphabet));
    if (alphabet == 40 && !w.requests.empty() && random() % 2) {  // begins like an earlier one
      const std::vector<int32_t>& other = w.requests[random() % w.requests.size()].prompt;
      std::copy_n(other.begin(), std::min(other.size(), r.prompt.size()) * (random() % 3) / 2, r.prompt.begin());
    }
    r.stop.max_tokens = pick(0, 1, 2, 10, 40);
    r.stop.min_tokens = pick(0, 0, 3);
    if (random() % 2) r.stop.token_ids = {3, 17};
    if (random() % salts != 0) r.cache_salt = "salt";
    if (random() % 8 == 0) r.deadline = absl::FromUnixSeconds(1'000'000) + absl::Milliseconds(random() % 100);
    w.requests.push_back(r);
    if (random() % 5 == 0) {  // n > 1
      const uint64_t leader = r.id;
      for (size_t n = random() % 4; n > 0; --n) {
        r.id = w.requests.size() + 1;
        r.after = leader;
        ++r.sampling.seed;
        w.requests.push_back(r);
      }
    }
  }
  return w;
}

// Follows the events of every sequence.
class Ledger {
 public:
  explicit Ledger(const SchedulerOptions& options) : options_(options) {}

  void Add(const SequenceRequest& request) { entries_[request.id].request = request; }
  bool ended(uint64_t id) const { return entries_.at(id).finished.has_value(); }
  bool all_ended() const {
    return std::all_of(entries_.begin(), entries_.end(), [](const auto& e) { return e.second.finished.has_value(); });
  }

  void Take(const SequenceEvent& event) {
    Entry& e = entries_.at(event.sequence);
    EXPECT_FALSE(e.finished.has_value()) << "sequence " << event.sequence << " has an event after its end";
    if (event.token.has_value()) e.generated.push_back(event.token->token);
    EXPECT_EQ(event.cached_tokens % kBlockTokens, 0);
    EXPECT_LT(event.cached_tokens, static_cast<int64_t>(e.request.prompt.size()));
    EXPECT_EQ(event.status.ok(), event.finished != FinishReason::kError);
    EXPECT_EQ(event.stop_token.has_value(), event.finished == FinishReason::kStop);
    e.finished = event.finished;
  }

  // Call when all have ended.
  void Check() const {
    for (const auto& [id, e] : entries_) {
      SCOPED_TRACE(testing::Message() << "sequence " << id);
      const FakeTruth truth = TruthOf(e.request, options_);
      ASSERT_LE(e.generated.size(), truth.generated.size());
      const std::vector<int32_t> expected(truth.generated.begin(), truth.generated.begin() + e.generated.size());
      EXPECT_EQ(e.generated, expected);
      if (e.finished == FinishReason::kStop || e.finished == FinishReason::kLength) {
        EXPECT_EQ(e.generated.size(), truth.generated.size());
        EXPECT_EQ(e.finished == FinishReason::kStop, truth.stopped);
      }
    }
  }

 private:
  struct Entry {
    SequenceRequest request;
    std::vector<int32_t> generated;
    std::optional<FinishReason> finished;
  };
  const SchedulerOptions options_;
  std::map<uint64_t, Entry> entries_;
};

struct Totals {
  int64_t preemptions = 0, restarts = 0, hits = 0, errors = 0, steps = 0;
};

void Simulate(uint64_t seed, Totals& totals) {
  const Workload w = MakeWorkload(seed);
  std::mt19937_64 random(~seed);
  const auto chance = [&](double p) { return std::uniform_real_distribution<double>(0, 1)(random) < p; };
  FakeClock clock;
  Scheduler scheduler(w.options, &clock);
  FakeDevice device(w.options);
  Ledger ledger(w.options);
  std::deque<StepResult> in_flight;
  size_t added = 0;
  const auto take = [&](const std::vector<SequenceEvent>& events) {
    for (const SequenceEvent& event : events) {
      totals.errors += event.finished == FinishReason::kError;
      ledger.Take(event);
    }
  };

  int64_t work = 0;
  for (const SequenceRequest& r : w.requests) work += static_cast<int64_t>(r.prompt.size()) + w.options.max_model_len;
  for (int64_t round = 0; added < w.requests.size() || !scheduler.idle(); ++round) {
    ASSERT_LT(round, 1000 + 40 * work) << "nothing ends: " << scheduler.Stats().running << " run, "
                                       << scheduler.Stats().waiting << " wait, " << in_flight.size()
                                       << " steps in flight, " << scheduler.Stats().blocks_used << " of "
                                       << w.options.num_blocks << " blocks used, micro-batches "
                                       << w.options.micro_batches;
    while (added < w.requests.size() && chance(w.arrive)) {
      ledger.Add(w.requests[added]);
      device.Add(w.requests[added]);
      ASSERT_TRUE(scheduler.Add(w.requests[added++]).ok());
    }
    clock.Advance(absl::Milliseconds(1));
    take(scheduler.Expire());
    if (added > 0 && chance(w.cancel)) {
      const uint64_t id = 1 + random() % added;
      const bool live = !ledger.ended(id);
      const std::optional<SequenceEvent> event = scheduler.Finish(id, FinishReason::kCancelled);
      ASSERT_EQ(event.has_value(), live);
      if (event.has_value()) take({*event});
    }
    // Sometimes the pipeline is not kept full.
    while (chance(0.9)) {
      const std::optional<StepPlan> plan = scheduler.Next();
      if (!plan.has_value()) break;
      ++totals.steps;
      in_flight.push_back(device.Run(*plan, chance(w.fail)));
      ASSERT_LE(static_cast<int>(in_flight.size()), w.options.steps_in_flight);
      for (const StepSequence& s : plan->sequences)
        ASSERT_FALSE(ledger.ended(s.sequence)) << "an ended sequence is planned";
    }
    if (!in_flight.empty() && (chance(0.7) || static_cast<int>(in_flight.size()) == w.options.steps_in_flight)) {
      const StepResult result = std::move(in_flight.front());
      in_flight.pop_front();
      take(scheduler.Apply(result));
    }
    const SchedulerStats stats = scheduler.Stats();
    ASSERT_LE(stats.running, w.options.max_num_seqs);
    ASSERT_EQ(stats.steps_unapplied, static_cast<int64_t>(in_flight.size()));
    if (testing::Test::HasFailure()) return;
  }
  for (const StepResult& result : in_flight) ASSERT_TRUE(scheduler.Apply(result).empty());
  ASSERT_TRUE(ledger.all_ended());
  ledger.Check();
  const SchedulerStats stats = scheduler.Stats();
  EXPECT_EQ(stats.blocks_used, 0) << "blocks were lost";
  EXPECT_EQ(stats.running + stats.waiting, 0);
  EXPECT_EQ(scheduler.NextDeadline(), absl::InfiniteFuture());
  EXPECT_FALSE(scheduler.Next().has_value());
  EXPECT_LE(stats.prefix_hit_tokens, stats.prefix_query_tokens);
  totals.preemptions += stats.preemptions;
  totals.restarts += device.restarts();
  totals.hits += stats.prefix_hit_tokens;
}

TEST(SchedulerSimulation, TokensAreThoseOfASequenceAlone) {
  Totals totals;
  for (uint64_t seed = 1; seed <= 4000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Simulate(seed, totals);
    if (HasFailure()) return;
  }
  // The workloads must reach what they are meant to reach.
  EXPECT_GT(totals.preemptions, 1000);
  EXPECT_GT(totals.restarts, 1000);
  EXPECT_GT(totals.hits, 100'000);
  EXPECT_GT(totals.errors, 100);
  RecordProperty("steps", std::to_string(totals.steps));
  RecordProperty("preemptions", std::to_string(totals.preemptions));
}

// As in the engine, one thread schedules and another computes; plans and results cross by queues.
TEST(SchedulerSimulation, PlansAndResultsCrossThreads) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Workload w = MakeWorkload(seed);
    Scheduler scheduler(w.options, Clock::Real());
    FakeDevice device(w.options);
    Ledger ledger(w.options);
    for (SequenceRequest request : w.requests) {
      request.deadline = absl::InfiniteFuture();
      ledger.Add(request);
      device.Add(request);
      ASSERT_TRUE(scheduler.Add(request).ok());
    }
    BoundedQueue<StepPlan> plans(w.options.steps_in_flight);
    BoundedQueue<StepResult> results(w.options.steps_in_flight);
    std::thread worker([&] {
      while (std::optional<StepPlan> plan = plans.Pop()) results.Push(device.Run(*plan));
    });
    while (!scheduler.idle()) {
      while (std::optional<StepPlan> plan = scheduler.Next()) plans.Push(*std::move(plan));
      const std::optional<StepResult> result = results.Pop();
      for (const SequenceEvent& event : scheduler.Apply(*result)) ledger.Take(event);
    }
    plans.Close();
    worker.join();
    ASSERT_TRUE(ledger.all_ended());
    ledger.Check();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace causeway
