// Tests what the engine promises under pressure, on the bundled model: too little KV cache, shared prefixes, long
// prompts beside short ones, a split over four devices.
#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/clock.h"
#include "tests/support/test_engine.h"

namespace causeway {
namespace {

const char kModel[] = CAUSEWAY_SOURCE_DIR "/models/kjv";

EngineOptions Options() {
  EngineOptions options;
  options.model = kModel;
  options.devices = "cpu";
  options.dtype = "fp32";
  options.executor.cpu_threads = 2;
  options.plan.max_num_seqs = 32;
  options.plan.kv_cache_tokens = 16384;
  return options;
}

std::vector<int32_t> RandomPrompt(uint64_t seed, int length) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> prompt(length);
  for (int32_t& token : prompt) token = 6 + static_cast<int32_t>(random() % 4090);
  return prompt;
}

std::vector<std::vector<int32_t>> Tokens(const std::vector<std::shared_ptr<CollectingSink>>& sinks) {
  std::vector<std::vector<int32_t>> tokens;
  for (const auto& sink : sinks) tokens.push_back(sink->choices[0].tokens);
  return tokens;
}

// Keeps the sizes and times of steps.
class StepObserver : public EngineObserver {
 public:
  void OnStep(const Step& step) override {
    absl::MutexLock lock(&mutex_);
    steps_.push_back(step);
  }
  void OnAdmitted(double) override {}
  void OnFirstToken(double) override {}
  void OnInterToken(double) override {}
  void OnEnd(const GenerationEnd&, double) override {}
  std::vector<Step> steps() const {
    absl::MutexLock lock(&mutex_);
    return steps_;
  }

 private:
  mutable absl::Mutex mutex_;
  std::vector<Step> steps_;
};

std::unique_ptr<Engine> Make(const EngineOptions& options, EngineObserver* observer) {
  absl::StatusOr<PlacedModel> placed = PlaceModel(options);
  if (!placed.ok()) throw std::runtime_error(placed.status().ToString());
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(*std::move(placed), options, observer, nullptr);
  if (!engine.ok()) throw std::runtime_error(engine.status().ToString());
  return *std::move(engine);
}

TEST(EngineTest, AKvCacheThreeTimesTooSmallPreemptsAndChangesNoToken) {
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < 24; ++i) requests.push_back(GreedyRequest(absl::StrCat(i), RandomPrompt(i, 32), 96));
  EngineOptions options = Options();
  auto roomy = MakeTestEngine(options);
  const auto expected = Tokens(GenerateAll(*roomy, requests));
  EXPECT_EQ(roomy->Stats().scheduler.preemptions, 0);
  options.plan.max_model_len = 512;
  options.plan.kv_cache_tokens = 24 * 128 / 3;
  auto tight = MakeTestEngine(options);
  EXPECT_EQ(Tokens(GenerateAll(*tight, requests)), expected);
  const EngineStats stats = tight->Stats();
  EXPECT_GT(stats.scheduler.preemptions, 0);
  EXPECT_EQ(stats.scheduler.blocks_used, 0);
}

TEST(EngineTest, ASharedPrefixMakesTheFirstTokenFiveTimesFaster) {
  EngineOptions options = Options();
  options.plan.max_num_batched_tokens = 512;
  auto engine = MakeTestEngine(options);
  GenerateAll(*engine, {GreedyRequest("warm", RandomPrompt(99, 300), 4)});
  const std::vector<int32_t> prefix = RandomPrompt(1, 1000);
  const auto ask = [&](const std::string& id, const std::string& salt, int32_t last) {
    GenerationRequest request = GreedyRequest(id, prefix, 2);
    request.prompt.push_back(last);
    request.cache_salt = salt;
    const absl::Time start = Clock::Real()->Now();
    auto sink = GenerateAll(*engine, {request})[0];
    return std::make_pair(sink, absl::ToDoubleSeconds(sink->choices[0].times[0] - start));
  };
  const auto [first, first_seconds] = ask("first", "", 10);
  EXPECT_EQ(first->end.cached_tokens, 0);
  const auto [second, second_seconds] = ask("second", "", 11);
  EXPECT_EQ(second->end.cached_tokens, 992);  // the full blocks of the 1,000
  EXPECT_GE(first_seconds / second_seconds, 5) << first_seconds << " s, then " << second_seconds << " s";
  RecordProperty("first_token_ratio", absl::StrCat(first_seconds / second_seconds));
  const auto [salted, salted_seconds] = ask("salted", "another tenant", 11);
  EXPECT_EQ(salted->end.cached_tokens, 0);
  EXPECT_EQ(salted->choices[0].tokens, second->choices[0].tokens);
}

TEST(EngineTest, ALongPromptDelaysTheOthersByTwoBudgetedStepsAtMost) {
  EngineOptions options = Options();
  options.plan.max_num_batched_tokens = 256;
  StepObserver observer;
  auto engine = Make(options, &observer);
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int i = 0; i < 8; ++i) {
    sinks.push_back(std::make_shared<CollectingSink>());
    ASSERT_TRUE(engine->Submit(GreedyRequest(absl::StrCat(i), RandomPrompt(i, 16), 400), sinks.back()).ok());
  }
  while (engine->Stats().requests_running < 8) absl::SleepFor(absl::Milliseconds(1));
  auto long_sink = std::make_shared<CollectingSink>();
  ASSERT_TRUE(engine->Submit(GreedyRequest("long", RandomPrompt(77, 2000), 8), long_sink).ok());
  long_sink->Wait();
  for (const auto& sink : sinks) sink->Wait();
  std::vector<double> gaps;
  for (const auto& sink : sinks) {
    const std::vector<absl::Time>& times = sink->choices[0].times;
    for (size_t i = 1; i < times.size(); ++i) gaps.push_back(absl::ToDoubleSeconds(times[i] - times[i - 1]));
  }
  double budgeted = 0;
  int full_steps = 0;
  for (const EngineObserver::Step& step : observer.steps()) {
    EXPECT_LE(step.tokens, 256);
    if (step.tokens < 256) continue;
    ++full_steps;
    budgeted = std::max(budgeted, step.seconds);
  }
  EXPECT_GE(full_steps, 7);  // the long prompt took several steps
  std::sort(gaps.begin(), gaps.end());
  const double p99 = gaps[gaps.size() * 99 / 100];
  EXPECT_LE(p99, 2 * budgeted) << "p99 " << p99 << " s, budgeted step " << budgeted << " s";
}

TEST(EngineTest, AFourWaySplitHoldsAndMovesWhatThePlanSays) {
  EngineOptions options = Options();
  options.devices = "simulated:4x64MiB";
  options.plan.kv_cache_tokens = 4096;
  options.plan.max_num_batched_tokens = 128;
  options.prefix_cache = false;
  StepObserver observer;
  auto engine = Make(options, &observer);
  const Plan& plan = engine->model().plan;
  std::set<int> used;
  for (const Segment& segment : plan.segments) used.insert(segment.device());
  EXPECT_EQ(used.size(), 4u);
  std::vector<GenerationRequest> requests;
  for (int i = 0; i < 6; ++i) requests.push_back(GreedyRequest(absl::StrCat(i), RandomPrompt(i, 50 + i), 20));
  GenerateAll(*engine, requests);
  engine->Drain(absl::InfiniteFuture());

  const ExecutorStats stats = engine->Stats().executor;
  for (size_t d = 0; d < plan.devices.size(); ++d) {
    const DevicePlan& planned = plan.devices[d];
    const DeviceMemory& measured = stats.devices[d].memory;
    EXPECT_NEAR(measured.weights, planned.weights, 0.01 * planned.weights + 4096) << planned.device.name;
    EXPECT_NEAR(measured.kv_cache, planned.kv_cache, 0.01 * planned.kv_cache + 4096) << planned.device.name;
    EXPECT_LE(measured.activations_peak + measured.workspace, planned.activations) << planned.device.name;
  }
  // A row's hidden state crosses each boundary once. Only the rows that sample go to the final norm and the head.
  int64_t rows = 0, sampled = 0;
  for (const EngineObserver::Step& step : observer.steps()) rows += step.tokens;
  for (const GenerationRequest& request : requests) sampled += request.stop.max_tokens;
  const ModelSpec& spec = engine->model().spec;
  const int layers = static_cast<int>(spec.layers.size());
  int64_t expected = 0, moved = 0;
  for (size_t s = 1; s < plan.segments.size(); ++s) {
    expected += (plan.segments[s].units.first > layers ? sampled : rows) * spec.hidden_size * 4;
  }
  for (const TransferStats& transfer : stats.transfers) moved += transfer.bytes;
  EXPECT_EQ(moved, expected);
}

TEST(EngineTest, ChoicesShareThePromptAndDifferBySeed) {
  auto engine = MakeTestEngine(Options());
  GenerationRequest request = GreedyRequest("n", RandomPrompt(5, 64), 24);
  request.sampling.temperature = 1;
  request.sampling.seed = 11;
  request.n = 4;
  const auto both = GenerateAll(*engine, {request});
  std::set<std::vector<int32_t>> distinct;
  for (const auto& [index, choice] : both[0]->choices) {
    EXPECT_EQ(choice.tokens.size(), 24u);
    distinct.insert(choice.tokens);
  }
  EXPECT_EQ(distinct.size(), 4u);
  EXPECT_EQ(both[0]->end.generated_tokens, 96);
  // Choice i draws with seed + i: a lone request with that seed gives the same text.
  request.request_id = "alone";
  request.n = 1;
  request.sampling.seed = 13;
  EXPECT_EQ(GenerateAll(*engine, {request})[0]->choices[0].tokens, both[0]->choices[2].tokens);
}

TEST(EngineTest, StopStringsEndAChoiceBeforeTheirText) {
  auto engine = MakeTestEngine(Options());
  const std::vector<int32_t> prompt = *engine->tokenizer()->Encode("In the beginning", true);
  const std::string whole = GenerateAll(*engine, {GreedyRequest("whole", prompt, 40)})[0]->choices[0].text;
  const size_t at = whole.find("the", 5);
  ASSERT_NE(at, std::string::npos) << whole;
  const std::string stop = whole.substr(at, 6);
  GenerationRequest request = GreedyRequest("stopped", prompt, 40);
  request.stop.strings = {"never in this text", stop};
  const auto stopped = GenerateAll(*engine, {request})[0];
  EXPECT_EQ(stopped->choices[0].text, whole.substr(0, whole.find(stop)));
  EXPECT_EQ(stopped->end.choices[0].reason, FinishReason::kStop);
  EXPECT_EQ(stopped->end.choices[0].stop_match, stop);
  request.request_id = "included";
  request.stop.include_stop = true;
  EXPECT_EQ(GenerateAll(*engine, {request})[0]->choices[0].text, whole.substr(0, whole.find(stop)) + stop);
}

TEST(EngineTest, RefusesWhatItCannotRun) {
  EngineOptions options = Options();
  options.queue_max = 1;
  options.plan.max_num_seqs = 1;
  auto engine = MakeTestEngine(options);
  const auto submit = [&](GenerationRequest request) {
    return engine->Submit(std::move(request), std::make_shared<CollectingSink>());
  };
  EXPECT_EQ(submit(GreedyRequest("empty", {}, 4)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(submit(GreedyRequest("outside", {4096}, 4)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(submit(GreedyRequest("long", RandomPrompt(1, 2048), 4)).status().code(),
            absl::StatusCode::kInvalidArgument);

  auto running = std::make_shared<CollectingSink>(), waiting = std::make_shared<CollectingSink>();
  ASSERT_TRUE(engine->Submit(GreedyRequest("running", RandomPrompt(1, 8), 2000), running).ok());
  while (engine->Stats().requests_running < 1) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(submit(GreedyRequest("running", {7}, 4)).status().code(), absl::StatusCode::kAlreadyExists);
  GenerationRequest late = GreedyRequest("waiting", {7}, 4);
  late.deadline = Clock::Real()->Now() + absl::Milliseconds(50);
  ASSERT_TRUE(engine->Submit(late, waiting).ok());
  const absl::Status full = submit(GreedyRequest("third", {7}, 4)).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  waiting->Wait();  // its deadline passes in the queue, so it never starts
  EXPECT_EQ(waiting->end.choices[0].reason, FinishReason::kDeadline);
  EXPECT_EQ(waiting->end.generated_tokens, 0);
  ASSERT_TRUE(engine->Cancel("running").ok());
  running->Wait();
  EXPECT_EQ(running->end.choices[0].reason, FinishReason::kCancelled);
  EXPECT_EQ(engine->Cancel("running").code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(engine->Drain(absl::InfiniteFuture()));
  EXPECT_EQ(submit(GreedyRequest("after", {7}, 4)).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(engine->Stats().scheduler.blocks_used, 0);
}

TEST(EngineTest, ARequestRunsFromItsFirstStepOn) {
  EngineOptions options = Options();
  options.queue_max = 1;
  options.plan.max_num_batched_tokens = 64;
  auto engine = MakeTestEngine(options);
  auto long_prompt = std::make_shared<CollectingSink>(), next = std::make_shared<CollectingSink>();
  ASSERT_TRUE(engine->Submit(GreedyRequest("long", RandomPrompt(1, 2000), 2), long_prompt).ok());
  while (engine->Stats().requests_running < 1) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_LT(engine->Stats().executor.devices[0].prefill_tokens, 2000);
  EXPECT_EQ(engine->Stats().requests_waiting, 0);
  EXPECT_TRUE(engine->Submit(GreedyRequest("next", {7}, 2), next).ok()) << "nothing waits";
  long_prompt->Wait();
  next->Wait();
}

TEST(EngineTest, EveryChoiceOfAnAcceptedRequestRuns) {
  EngineOptions options = Options();
  options.queue_max = 2;
  options.plan.max_num_seqs = 2;
  auto engine = MakeTestEngine(options);
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int i = 0; i < 3; ++i) {
    GenerationRequest request = GreedyRequest(absl::StrCat(i), RandomPrompt(i, 8), 3);
    request.n = 16;
    sinks.push_back(std::make_shared<CollectingSink>());
    while (engine->Stats().requests_waiting == 2) absl::SleepFor(absl::Milliseconds(1));
    ASSERT_TRUE(engine->Submit(std::move(request), sinks.back()).ok());
  }
  for (const auto& sink : sinks) {
    sink->Wait();
    EXPECT_TRUE(sink->end.status.ok()) << sink->end.status;
    EXPECT_EQ(sink->end.generated_tokens, 16 * 3);
    EXPECT_EQ(sink->end.cached_tokens, 0);
  }
}

TEST(EngineTest, ItsEndCancelsWhatRunsAndWhatWaits) {
  EngineOptions options = Options();
  options.plan.max_num_seqs = 1;
  auto running = std::make_shared<CollectingSink>(), waiting = std::make_shared<CollectingSink>(),
       late = std::make_shared<CollectingSink>();
  {
    auto engine = MakeTestEngine(options);
    ASSERT_TRUE(engine->Submit(GreedyRequest("running", RandomPrompt(1, 8), 2000), running).ok());
    ASSERT_TRUE(engine->Submit(GreedyRequest("waiting", RandomPrompt(2, 8), 2000), waiting).ok());
    while (engine->Stats().requests_running < 1) absl::SleepFor(absl::Milliseconds(1));
    ASSERT_TRUE(engine->Submit(GreedyRequest("late", RandomPrompt(3, 8), 2000), late).ok());
  }
  for (const auto& sink : {running, waiting, late}) {
    ASSERT_TRUE(sink->ended());
    EXPECT_EQ(sink->end.choices[0].reason, FinishReason::kCancelled);
    EXPECT_LT(sink->end.generated_tokens, 2000);
  }
}

TEST(EngineTest, AHandleCancelsItsOwnRequestOnly) {
  auto engine = MakeTestEngine(Options());
  auto first = std::make_shared<CollectingSink>(), second = std::make_shared<CollectingSink>();
  const absl::StatusOr<RequestHandle> handle = engine->Submit(GreedyRequest("same", {7}, 1), first);
  ASSERT_TRUE(handle.ok());
  first->Wait();
  ASSERT_TRUE(engine->Submit(GreedyRequest("same", {8}, 30), second).ok());
  engine->Cancel(*handle);
  second->Wait();
  EXPECT_EQ(second->end.choices[0].reason, FinishReason::kLength);
}

}  // namespace
}  // namespace causeway
