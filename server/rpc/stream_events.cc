#include "server/rpc/stream_events.h"

#include <utility>

#include "server/rpc/convert.h"

namespace causeway {

StreamEvents::StreamEvents(const GenerationRequest& request, OutputShape shape)
    : request_id_(request.request_id), shape_(std::move(shape)), deltas_(static_cast<size_t>(request.n)) {
  accepted_.emplace().set_prompt_tokens(static_cast<int64_t>(request.prompt.size()));
  if (shape_.echo_text.empty() && shape_.echo_ids.empty()) return;
  for (int32_t i = 0; i < request.n; ++i) AppendEcho(shape_, Pending(i));
}

v1::Delta* StreamEvents::Pending(int32_t index) {
  std::optional<v1::Delta>& delta = deltas_.at(static_cast<size_t>(index));
  if (!delta.has_value()) {
    delta.emplace().set_index(index);
    order_.push_back(index);
  }
  return &*delta;
}

void StreamEvents::Add(const GenerationDelta& delta) {
  // Tokens whose text is held back say nothing to a reader who asked for text alone.
  const bool empty = delta.text.empty() && (delta.tokens.empty() || !(shape_.token_ids || shape_.logprobs));
  if (!empty) AppendDelta(delta, shape_, Pending(delta.index));
}

void StreamEvents::End(const GenerationEnd& end) {
  v1::Finished& finished = finished_.emplace();
  for (const ChoiceEnd& choice : end.choices) {
    v1::ChoiceEnd* out = finished.add_choices();
    out->set_index(choice.index);
    out->set_finish_reason(ToWire(choice.reason));
    out->set_stop_match(choice.stop_match);
  }
  *finished.mutable_usage() = UsageOf(end);
  *finished.mutable_timing() = TimingOf(end);
}

bool StreamEvents::Next(v1::GenerateStreamResponse* out) {
  out->Clear();
  out->set_request_id(request_id_);
  if (accepted_.has_value()) {
    *out->mutable_accepted() = *std::exchange(accepted_, std::nullopt);
  } else if (!order_.empty()) {
    *out->mutable_delta() = *std::exchange(deltas_[static_cast<size_t>(order_.front())], std::nullopt);
    order_.pop_front();
  } else if (finished_.has_value()) {
    *out->mutable_finished() = *std::exchange(finished_, std::nullopt);
  } else {
    return false;
  }
  return true;
}

}  // namespace causeway
