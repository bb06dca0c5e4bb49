#include "engine/request.h"

#include <algorithm>
#include <utility>

namespace causeway {
namespace {

// Enough of the prompt for a detokenizer to know how the first generated token joins it.
constexpr size_t kPromptTail = 8;

double Seconds(absl::Duration duration) { return std::max(0.0, absl::ToDoubleSeconds(duration)); }

}  // namespace

ActiveRequest::ActiveRequest(GenerationRequest request, std::shared_ptr<TokenSink> sink, const Tokenizer* tokenizer,
                             uint64_t first_sequence, absl::Time submitted)
    : request_(std::move(request)),
      sink_(std::move(sink)),
      tokenizer_(tokenizer),
      first_sequence_(first_sequence),
      submitted_(submitted),
      choices_(request_.n),
      live_(request_.n) {
  end_.prompt_tokens = static_cast<int64_t>(request_.prompt.size());
  const absl::Span<const int32_t> prompt = request_.prompt;
  const absl::Span<const int32_t> tail = prompt.subspan(prompt.size() - std::min(prompt.size(), kPromptTail));
  for (int32_t i = 0; i < request_.n; ++i) {
    end_.choices.push_back({.index = i});
    if (tokenizer_ == nullptr) continue;
    choices_[i].detokenizer = std::make_unique<Detokenizer>(tokenizer_, tail, /*skip_special_tokens=*/true);
    if (!request_.stop.strings.empty()) choices_[i].stops.emplace(request_.stop.strings, request_.stop.include_stop);
  }
}

SequenceRequest ActiveRequest::Sequence(int32_t index, int64_t context_max) const {
  SequenceRequest sequence;
  sequence.id = first_sequence_ + index;
  sequence.prompt = request_.prompt;
  sequence.sampling = request_.sampling;
  sequence.sampling.seed += index;
  sequence.stop = request_.stop;
  const int64_t room = context_max - static_cast<int64_t>(request_.prompt.size());
  sequence.stop.max_tokens = request_.stop.max_tokens == 0 ? room : std::min(request_.stop.max_tokens, room);
  sequence.priority = request_.priority;
  sequence.deadline = request_.deadline;
  sequence.cache_salt = request_.cache_salt;
  sequence.after = index == 0 ? 0 : first_sequence_;
  return sequence;
}

bool ActiveRequest::Take(const SequenceEvent& event, absl::Time now, EngineObserver* observer) {
  const auto index = static_cast<int32_t>(event.sequence - first_sequence_);
  Choice& choice = choices_[index];
  if (choice.ended) return false;
  if (!admitted() && event.admitted != absl::InfiniteFuture()) {
    admitted_ = event.admitted;
    if (observer != nullptr) observer->OnAdmitted(Seconds(admitted_ - submitted_));
  }
  end_.cached_tokens = std::max(end_.cached_tokens, event.cached_tokens);

  std::optional<std::string> match;
  if (event.token.has_value()) {
    GenerationDelta delta{.index = index, .text = "", .tokens = {*event.token}};
    ++end_.generated_tokens;
    // The token that stops a sequence is counted and listed, but is no part of its text unless that was asked for.
    if (!event.stop_token.has_value() || request_.stop.include_stop) {
      absl::StatusOr<std::string> text = Text(choice, event.token->token, match);
      if (text.ok()) {
        delta.text = *std::move(text);
      } else {
        end_.status = text.status();
        match.emplace();
      }
    }
    Time(choice, now, observer);
    sink_->OnDelta(std::move(delta));
  }
  if (match.has_value()) {
    End(event.sequence, end_.status.ok() ? FinishReason::kStop : FinishReason::kError, *match);
    return !event.finished.has_value();
  }
  if (event.finished.has_value()) {
    if (!event.status.ok()) end_.status = event.status;
    const bool named = event.stop_token.has_value() && tokenizer_ != nullptr;
    End(event.sequence, *event.finished, named ? tokenizer_->IdToToken(*event.stop_token) : "");
  }
  return false;
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

void ActiveRequest::End(uint64_t sequence, FinishReason reason, const std::string& stop_match) {
  const auto index = static_cast<int32_t>(sequence - first_sequence_);
  Choice& choice = choices_[index];
  if (choice.ended) return;
  choice.ended = true;
  --live_;
  // What was held back is text after all, unless a stop string was found: then the matcher swallows it.
  if (choice.detokenizer != nullptr) {
    std::string text = choice.detokenizer->Flush();
    if (choice.stops.has_value()) {
      StopMatcher::Out out = choice.stops->Append(text);
      text = out.text + choice.stops->Flush();
      if (!out.match.empty()) {
        end_.choices[index].stop_match = out.match;
        reason = FinishReason::kStop;
      }
    }
    if (!text.empty()) sink_->OnDelta({.index = index, .text = std::move(text), .tokens = {}});
  }
  end_.choices[index].reason = reason;
  if (end_.choices[index].stop_match.empty()) end_.choices[index].stop_match = stop_match;
}

std::vector<uint64_t> ActiveRequest::Live() const {
  std::vector<uint64_t> live;
  for (size_t i = 0; i < choices_.size(); ++i) {
    if (!choices_[i].ended) live.push_back(first_sequence_ + i);
  }
  return live;
}

void ActiveRequest::Close(absl::Time now, EngineObserver* observer) {
  const absl::Time admitted_at = admitted() ? admitted_ : now;
  const absl::Time first_token_at = first_token_ != absl::InfinitePast() ? first_token_ : now;
  end_.queue_seconds = Seconds(admitted_at - submitted_);
  end_.prefill_seconds = admitted() ? Seconds(first_token_at - admitted_at) : 0;
  end_.decode_seconds = Seconds(now - first_token_at);
  if (observer != nullptr) observer->OnEnd(end_, Seconds(now - submitted_));
  sink_->OnEnd(std::move(end_));
}

}  // namespace causeway
