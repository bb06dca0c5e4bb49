// Everything the daemon counts and measures, in Prometheus' terms. Events are recorded as they happen. States (queue,
// cache, memory) are read from the engine when it is scraped.
#ifndef CAUSEWAY_SERVER_TELEMETRY_METRICS_H_
#define CAUSEWAY_SERVER_TELEMETRY_METRICS_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "engine/engine.h"

namespace prometheus {
class Counter;
class Histogram;
class Registry;
}  // namespace prometheus

namespace causeway {

// How a request ended. Each ends in exactly one outcome.
enum class Outcome { kStop, kLength, kCancelled, kDeadline, kRejected, kInvalid, kError };
inline constexpr std::array<Outcome, 7> kOutcomes = {Outcome::kStop,     Outcome::kLength,   Outcome::kCancelled,
                                                     Outcome::kDeadline, Outcome::kRejected, Outcome::kInvalid,
                                                     Outcome::kError};
absl::string_view OutcomeName(Outcome outcome);

// Thread-safe.
class Metrics : public EngineObserver {
 public:
  // `model` is the label of the request metrics. `context_max` bounds the buckets that count tokens.
  Metrics(const std::string& model, int64_t context_max, const std::string& version, const std::string& build);
  ~Metrics() override;

  void CountOutcome(Outcome outcome);
  std::map<std::string, int64_t> Outcomes() const;
  int64_t prompt_tokens() const;
  int64_t generated_tokens() const;

  // Implements EngineObserver.
  void OnStep(const Step& step) override;
  void OnAdmitted(double queue_seconds) override;
  void OnFirstToken(double seconds_since_submit) override;
  void OnInterToken(double seconds) override;
  void OnEnd(const GenerationEnd& end, double seconds_since_submit) override;

  // From now on scrapes also read `engine`, which must stay alive until this is called with null.
  void WatchEngine(const Engine* engine);

  // The text exposition format.
  std::string Scrape() const;

 private:
  class EngineCollector;

  const std::unique_ptr<prometheus::Registry> registry_;
  const std::unique_ptr<EngineCollector> collector_;
  std::map<Outcome, prometheus::Counter*> outcomes_;  // the registry owns what these point to
  prometheus::Counter *prompt_tokens_, *generated_tokens_;
  prometheus::Histogram *queue_wait_, *first_token_, *inter_token_, *duration_, *request_prompt_tokens_,
      *request_generated_tokens_;
  prometheus::Histogram *prefill_step_, *decode_step_, *step_tokens_, *step_sequences_;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_TELEMETRY_METRICS_H_
