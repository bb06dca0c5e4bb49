#include "server/telemetry/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/telemetry/engine_families.h"

namespace causeway {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

// The bounds that other servers use, with finer low ends: a small model on a fast device answers in microseconds.
const Buckets kFirstToken = {.0002, .0005, .001, .002, .005, .01, .02, .04, .06, .08, .1,  .25, .5,
                             .75,   1,     2.5,  5,    7.5,  10,  20,  40,  80,  160, 640, 2560};
const Buckets kInterToken = {.0002, .0005, .001, .002, .005, .01, .025, .05, .075, .1, .15, .2,
                             .3,    .4,    .5,   .75,  1,    2.5, 5,    7.5, 10,   20, 40,  80};
const Buckets kDuration = {.005, .01, .025, .05, .1, .2, .3, .5,  .8,  1,   1.5, 2,    2.5, 5,
                           10,   15,  20,   30,  40, 50, 60, 120, 240, 480, 960, 1920, 7680};
const Buckets kQueueWait = {.0001, .0005, .001, .005, .01, .025, .05, .1, .25, .5,  .8,  1,   1.5,  2,   2.5,
                            5,     10,    15,   20,   30,  40,   50,  60, 120, 240, 480, 960, 1920, 7680};
const Buckets kStep = {.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30};

// 1, 2, 5, 10, ... up to the first that reaches `max`.
Buckets OneTwoFive(int64_t max) {
  Buckets buckets;
  for (int64_t decade = 1;; decade *= 10) {
    for (int64_t factor : {1, 2, 5}) {
      buckets.push_back(static_cast<double>(decade * factor));
      if (decade * factor >= max) return buckets;
    }
  }
}

prometheus::Counter* Counter(prometheus::Registry& registry, const char* name, const char* help,
                             const prometheus::Labels& labels) {
  return &prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add(labels);
}

prometheus::Histogram* Histogram(prometheus::Registry& registry, const char* name, const char* help,
                                 const prometheus::Labels& labels, const Buckets& buckets) {
  return &prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add(labels, buckets);
}

}  // namespace

absl::string_view OutcomeName(Outcome outcome) {
  switch (outcome) {
    case Outcome::kStop: return "stop";
    case Outcome::kLength: return "length";
    case Outcome::kCancelled: return "cancelled";
    case Outcome::kDeadline: return "deadline";
    case Outcome::kRejected: return "rejected";
    case Outcome::kInvalid: return "invalid";
    default: return "error";
  }
}

// Reads the engine when it is scraped, instead of polling.
class Metrics::EngineCollector : public prometheus::Collectable {
 public:
  explicit EngineCollector(std::string model) : model_(std::move(model)) {}

  void Watch(const Engine* engine) {
    absl::MutexLock lock(&mutex_);
    engine_ = engine;
  }
  std::vector<prometheus::MetricFamily> Collect() const override {
    const GpuReadings gpus = gpus_.Read(Devices());
    absl::MutexLock lock(&mutex_);  // keeps the engine alive while it is read
    std::vector<prometheus::MetricFamily> families;
    if (engine_ != nullptr) families = EngineFamilies(*engine_, model_, gpus);
    families.push_back(LogFamily());
    return families;
  }

 private:
  std::vector<Device> Devices() const {
    absl::MutexLock lock(&mutex_);
    std::vector<Device> devices;
    if (engine_ == nullptr) return devices;
    for (const DevicePlan& planned : engine_->model().plan.devices) devices.push_back(planned.device);
    return devices;
  }

  const std::string model_;
  mutable GpuReader gpus_;
  mutable absl::Mutex mutex_;
  const Engine* engine_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

Metrics::Metrics(const std::string& model, int64_t context_max, const std::string& version, const std::string& build)
    : registry_(std::make_unique<prometheus::Registry>()), collector_(std::make_unique<EngineCollector>(model)) {
  prometheus::Registry& r = *registry_;
  const prometheus::Labels labels = {{"model", model}};
  auto& requests = prometheus::BuildCounter()
                       .Name("causeway_requests_total")
                       .Help("Requests that ended, by outcome; each ends in exactly one.")
                       .Register(r);
  for (Outcome outcome : kOutcomes) {
    outcomes_[outcome] = &requests.Add({{"model", model}, {"outcome", std::string(OutcomeName(outcome))}});
  }
  prompt_tokens_ = Counter(r, "causeway_prompt_tokens_total", "Prompt tokens of the requests that ended.", labels);
  generated_tokens_ =
      Counter(r, "causeway_generated_tokens_total", "Tokens generated for the requests that ended.", labels);
  queue_wait_ =
      Histogram(r, "causeway_queue_wait_seconds", "From a request's arrival to its first step.", labels, kQueueWait);
  first_token_ = Histogram(r, "causeway_time_to_first_token_seconds", "From a request's arrival to its first token.",
                           labels, kFirstToken);
  inter_token_ =
      Histogram(r, "causeway_inter_token_latency_seconds", "Between two tokens of a choice.", labels, kInterToken);
  duration_ =
      Histogram(r, "causeway_request_duration_seconds", "From a request's arrival to its end.", labels, kDuration);
  request_prompt_tokens_ =
      Histogram(r, "causeway_request_prompt_tokens", "Prompt tokens of a request.", labels, OneTwoFive(context_max));
  request_generated_tokens_ = Histogram(r, "causeway_request_generated_tokens", "Tokens generated for a request.",
                                        labels, OneTwoFive(context_max));
  auto& steps = prometheus::BuildHistogram()
                    .Name("causeway_step_duration_seconds")
                    .Help("Of a step on its devices; kind prefill when it read any prompt tokens.")
                    .Register(r);
  prefill_step_ = &steps.Add({{"model", model}, {"kind", "prefill"}}, kStep);
  decode_step_ = &steps.Add({{"model", model}, {"kind", "decode"}}, kStep);
  step_tokens_ = Histogram(r, "causeway_step_tokens", "Tokens computed in a step.", labels, OneTwoFive(16384));
  step_sequences_ = Histogram(r, "causeway_step_sequences", "Sequences in a step.", labels, OneTwoFive(1000));
  prometheus::BuildGauge()
      .Name("causeway_build_info")
      .Help("Always 1; the labels say what runs.")
      .Register(r)
      .Add({{"version", version}, {"build", build}})
      .Set(1);
}

Metrics::~Metrics() = default;

void Metrics::CountOutcome(Outcome outcome) { outcomes_.at(outcome)->Increment(); }

std::map<std::string, int64_t> Metrics::Outcomes() const {
  std::map<std::string, int64_t> counts;
  for (const auto& [outcome, counter] : outcomes_) {
    counts[std::string(OutcomeName(outcome))] = static_cast<int64_t>(counter->Value());
  }
  return counts;
}

int64_t Metrics::prompt_tokens() const { return static_cast<int64_t>(prompt_tokens_->Value()); }
int64_t Metrics::generated_tokens() const { return static_cast<int64_t>(generated_tokens_->Value()); }

void Metrics::OnStep(const Step& step) {
  (step.prefill_tokens > 0 ? prefill_step_ : decode_step_)->Observe(step.seconds);
  step_tokens_->Observe(static_cast<double>(step.tokens));
  step_sequences_->Observe(static_cast<double>(step.sequences));
}

void Metrics::OnAdmitted(double queue_seconds) { queue_wait_->Observe(queue_seconds); }
void Metrics::OnFirstToken(double seconds_since_submit) { first_token_->Observe(seconds_since_submit); }
void Metrics::OnInterToken(double seconds) { inter_token_->Observe(seconds); }

void Metrics::OnEnd(const GenerationEnd& end, double seconds_since_submit) {
  duration_->Observe(seconds_since_submit);
  prompt_tokens_->Increment(static_cast<double>(end.prompt_tokens));
  generated_tokens_->Increment(static_cast<double>(end.generated_tokens));
  request_prompt_tokens_->Observe(static_cast<double>(end.prompt_tokens));
  request_generated_tokens_->Observe(static_cast<double>(end.generated_tokens));
}

void Metrics::WatchEngine(const Engine* engine) { collector_->Watch(engine); }

std::string Metrics::Scrape() const {
  std::vector<prometheus::MetricFamily> families = registry_->Collect();
  for (prometheus::MetricFamily& family : collector_->Collect()) families.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace causeway
