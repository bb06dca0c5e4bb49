// A request while it runs: it turns the scheduler's tokens into deltas of text.
#ifndef CAUSEWAY_ENGINE_REQUEST_H_
#define CAUSEWAY_ENGINE_REQUEST_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/constraint.h"
#include "engine/engine.h"
#include "engine/schedule/scheduler.h"
#include "engine/text/detokenizer.h"
#include "engine/text/stop_matcher.h"

namespace causeway {

// One thread at a time uses it: first the caller's, then that of the loop that has it.
class ActiveRequest {
 public:
  // `tokenizer` may be null (no text) and outlives the request. Its choices are the sequences handle, handle + 1, ...
  // Each choice has its own of `constraints`, unless there are none. The first one's prompt fills `layer_outputs`,
  // unless that is null.
  ActiveRequest(GenerationRequest request, std::shared_ptr<TokenSink> sink, const Tokenizer* tokenizer,
                RequestHandle handle, absl::Time submitted,
                std::vector<std::shared_ptr<GrammarConstraint>> constraints = {},
                std::shared_ptr<LayerOutputs> layer_outputs = nullptr);

  // What the scheduler is to run for choice `index`. The prompt is computed once and shared by the later choices.
  SequenceRequest Sequence(int32_t index, int64_t context_max) const;

  // The first choice before it is added; it borrows from this object.
  SequenceCandidate Candidate() const;

  // Tokens that it may take at most, prompt and all answers together, of which each has `context_max`.
  int64_t TokensMax(int64_t context_max) const;

  // To be called once, when a step has the first sequence of it.
  void Admit(absl::Time now, EngineObserver* observer);
  // Takes one event of one of this request's sequences, and tells the sink and the observer (which may be null).
  // Returns true when the sequence has ended. Where the event does not say so itself, a stop string or an error of the
  // text has ended it.
  bool Take(const SequenceEvent& event, absl::Time now, EngineObserver* observer);
  // The sequences that have not ended.
  std::vector<uint64_t> Live() const;

  bool ended() const { return live_ == 0; }
  bool admitted() const { return admitted_ != absl::InfinitePast(); }
  // Tells the sink and the observer of the end. Call once, when ended().
  void Close(absl::Time now, EngineObserver* observer);

  const std::string& id() const { return request_.request_id; }
  RequestHandle handle() const { return handle_; }
  int32_t choices() const { return request_.n; }
  int32_t priority() const { return request_.priority; }
  absl::Time deadline() const { return request_.deadline; }

 private:
  struct Choice {
    bool ended = false;
    std::unique_ptr<Detokenizer> detokenizer;       // null without a tokenizer
    std::optional<StopMatcher> stops;               // unset without stop strings
    std::shared_ptr<GrammarConstraint> constraint;  // null without a grammar
    absl::Time last_token = absl::InfinitePast();
  };
  // Notes when a token of the choice came, for the latencies.
  void Time(Choice& choice, absl::Time now, EngineObserver* observer);
  void End(int32_t index, FinishReason reason, const std::string& stop_match);
  // Returns the text of one more token, through the detokenizer and the stop strings. Sets `match` when a stop string
  // ended it.
  absl::StatusOr<std::string> Text(Choice& choice, int32_t token, std::optional<std::string>& match);

  GenerationRequest request_;
  std::shared_ptr<TokenSink> sink_;
  const Tokenizer* tokenizer_;
  const RequestHandle handle_;
  const absl::Time submitted_;
  absl::Time admitted_ = absl::InfinitePast(), first_token_ = absl::InfinitePast();
  std::shared_ptr<LayerOutputs> layer_outputs_;
  std::vector<Choice> choices_;
  int live_;
  GenerationEnd end_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_REQUEST_H_
