#include "engine/request.h"

#include <algorithm>
#include <utility>

namespace causeway {
namespace {

// This much of the prompt tells a detokenizer how the first generated token joins it.
constexpr size_t kPromptTail = 8;

double Seconds(absl::Duration duration) { return std::max(0.0, absl::ToDoubleSeconds(duration)); }

}  // namespace

ActiveRequest::ActiveRequest(GenerationRequest request, std::shared_ptr<TokenSink> sink, const Tokenizer* tokenizer,
                             RequestHandle handle, absl::Time submitted,
                             std::vector<std::shared_ptr<GrammarConstraint>> constraints,
                             std::shared_ptr<LayerOutputs> layer_outputs)
    : request_(std::move(request)),
      sink_(std::move(sink)),
      tokenizer_(tokenizer),
      handle_(handle),
      submitted_(submitted),
      layer_outputs_(std::move(layer_outputs)),
      choices_(request_.n),
      live_(request_.n) {
  end_.prompt_tokens = static_cast<int64_t>(request_.prompt.size());
  const absl::Span<const int32_t> prompt = request_.prompt;
  const absl::Span<const int32_t> tail = prompt.subspan(prompt.size() - std::min(prompt.size(), kPromptTail));
  for (int32_t i = 0; i < request_.n; ++i) {
    end_.choices.push_back({.index = i});
    if (!constraints.empty()) choices_[i].constraint = std::move(constraints[i]);
    if (tokenizer_ == nullptr) continue;
    choices_[i].detokenizer = std::make_unique<Detokenizer>(tokenizer_, tail, /*skip_special_tokens=*/true);
    if (!request_.stop.strings.empty()) choices_[i].stops.emplace(request_.stop.strings, request_.stop.include_stop);
  }
}

SequenceRequest ActiveRequest::Sequence(int32_t index, int64_t context_max) const {
  SequenceRequest sequence;
  sequence.id = handle_ + index;
  sequence.prompt = request_.prompt;
  sequence.sampling = request_.sampling;
  sequence.sampling.seed += index;
  sequence.sampling.prompt_logprobs =
      request_.sampling.prompt_logprobs && index == 0;  // the other choices have the same prompt
  sequence.constraint = choices_[index].constraint;
  if (index == 0) sequence.layer_outputs = layer_outputs_;
  sequence.stop = request_.stop;
  const int64_t room = context_max - static_cast<int64_t>(request_.prompt.size());
  sequence.stop.max_tokens = request_.stop.max_tokens == 0 ? room : std::min(request_.stop.max_tokens, room);
  sequence.priority = request_.priority;
  sequence.deadline = request_.deadline;
  sequence.cache_salt = request_.cache_salt;
  sequence.after = index == 0 ? 0 : handle_;
  return sequence;
}

SequenceCandidate ActiveRequest::Candidate() const {
  return {.id = handle_,
          .priority = request_.priority,
          .prompt = request_.prompt,
          .cache_salt = request_.cache_salt,
          .computes_all = request_.sampling.prompt_logprobs || layer_outputs_ != nullptr};
}

int64_t ActiveRequest::TokensMax(int64_t context_max) const {
  const auto prompt = static_cast<int64_t>(request_.prompt.size());
  const int64_t room = context_max - prompt, asked = request_.stop.max_tokens;
  return prompt + request_.n * (asked > 0 ? std::min(asked, room) : room);
}

void ActiveRequest::Admit(absl::Time now, EngineObserver* observer) {
  admitted_ = now;
  if (observer != nullptr) observer->OnAdmitted(Seconds(admitted_ - submitted_));
}

bool ActiveRequest::Take(const SequenceEvent& event, absl::Time now, EngineObserver* observer) {
  const auto index = static_cast<int32_t>(event.sequence - handle_);
  Choice& choice = choices_[index];
  // The other choices find the first one's prompt, which says nothing about what was cached before.
  if (index == 0) end_.cached_tokens = event.cached_tokens;

  if (!event.prompt.empty()) sink_->OnDelta({.index = index, .text = "", .tokens = {}, .prompt = event.prompt});
  if (event.token.has_value()) {
    GenerationDelta delta{.index = index, .text = "", .tokens = {*event.token}, .prompt = {}};
    ++end_.generated_tokens;
    absl::Status failed;
    std::optional<std::string> match;
    // The token that stops a sequence is counted and listed. It is part of the text only where that was asked for.
    if (!event.stop_token.has_value() || request_.stop.include_stop) {
      absl::StatusOr<std::string> text = Text(choice, event.token->token, match);
      if (text.ok()) {
        delta.text = *std::move(text);
      } else {
        failed = text.status();
      }
    }
    Time(choice, now, observer);
    sink_->OnDelta(std::move(delta));
    if (!failed.ok()) {
      end_.status = std::move(failed);
      End(index, FinishReason::kError, "");
      return true;
    }
    if (match.has_value()) {
      End(index, FinishReason::kStop, *match);
      return true;
    }
  }
  if (!event.finished.has_value()) return false;
  if (!event.status.ok()) end_.status = event.status;
  std::string stop_token;
  if (event.stop_token.has_value() && tokenizer_ != nullptr) {
    stop_token = tokenizer_->Decode({*event.stop_token}, /*skip_special_tokens=*/true).value_or("");
  }
  // A text that the last token completed was not cut off.
  const bool complete =
      event.finished == FinishReason::kLength && choice.constraint != nullptr && choice.constraint->Complete();
  End(index, complete ? FinishReason::kStop : *event.finished, stop_token);
  return true;
}

void ActiveRequest::Time(Choice& choice, absl::Time now, EngineObserver* observer) {
  const bool first = first_token_ == absl::InfinitePast();
  if (observer != nullptr) {
    if (first) {
      observer->OnFirstToken(Seconds(now - submitted_));
    } else if (choice.last_token != absl::InfinitePast()) {
      observer->OnInterToken(Seconds(now - choice.last_token));
    }
  }
  if (first) first_token_ = now;
  choice.last_token = now;
}

absl::StatusOr<std::string> ActiveRequest::Text(Choice& choice, int32_t token, std::optional<std::string>& match) {
  if (choice.detokenizer == nullptr) return std::string();
  absl::StatusOr<std::string> text = choice.detokenizer->Append(token);
  if (!text.ok() || !choice.stops.has_value()) return text;
  StopMatcher::Out out = choice.stops->Append(*text);
  if (out.stopped) match = std::move(out.match);
  return std::move(out.text);
}

void ActiveRequest::End(int32_t index, FinishReason reason, const std::string& stop_match) {
  Choice& choice = choices_[index];
  choice.ended = true;
  if (choice.constraint != nullptr) choice.constraint->Release();
  --live_;
  ChoiceEnd& end = end_.choices[index];
  end.reason = reason;
  end.stop_match = stop_match;
  if (choice.detokenizer == nullptr) return;
  // The text that was held back is text after all, unless a stop string was found: then the matcher drops it.
  std::string text = choice.detokenizer->Flush();
  if (choice.stops.has_value()) {
    StopMatcher::Out out = choice.stops->Append(text);
    text = out.text + choice.stops->Flush();
    // A choice that was cut off stays cut off, whatever its last characters are.
    if (!out.match.empty() && (reason == FinishReason::kStop || reason == FinishReason::kLength)) {
      end.reason = FinishReason::kStop;
      end.stop_match = out.match;
    }
  }
  if (!text.empty()) sink_->OnDelta({.index = index, .text = std::move(text), .tokens = {}, .prompt = {}});
}

std::vector<uint64_t> ActiveRequest::Live() const {
  std::vector<uint64_t> live;
  for (size_t i = 0; i < choices_.size(); ++i) {
    if (!choices_[i].ended) live.push_back(handle_ + i);
  }
  return live;
}

void ActiveRequest::Close(absl::Time now, EngineObserver* observer) {
  const absl::Time admitted_at = admitted() ? admitted_ : now;
  const absl::Time first_token_at = first_token_ != absl::InfinitePast() ? first_token_ : now;
  end_.queue_seconds = Seconds(admitted_at - submitted_);
  end_.prefill_seconds = admitted() ? Seconds(first_token_at - admitted_at) : 0;
  end_.decode_seconds = Seconds(now - first_token_at);
  // A choice that ended by itself has had its prompt computed.
  const auto by_itself = [](const ChoiceEnd& choice) {
    return choice.reason == FinishReason::kStop || choice.reason == FinishReason::kLength;
  };
  if (std::all_of(end_.choices.begin(), end_.choices.end(), by_itself)) end_.layer_outputs = std::move(layer_outputs_);
  if (observer != nullptr) observer->OnEnd(end_, Seconds(now - submitted_));
  sink_->OnEnd(std::move(end_));
}

}  // namespace causeway
