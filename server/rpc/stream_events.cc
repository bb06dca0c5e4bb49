#include "server/rpc/stream_events.h"

#include <utility>

#include "server/rpc/convert.h"

namespace causeway {
namespace {

// What they take on the wire, at most.
constexpr size_t kIdBytes = 5, kLogprobBytes = 14;

}  // namespace

StreamEvents::StreamEvents(const GenerationRequest& request, OutputShape shape)
    : request_id_(request.request_id), shape_(std::move(shape)), open_(static_cast<size_t>(request.n)) {
  accepted_.emplace().set_prompt_tokens(static_cast<int64_t>(request.prompt.size()));
  if (shape_.echo_text.empty() && shape_.echo_ids.empty()) return;
  for (int32_t i = 0; i < request.n; ++i)
    AppendEcho(shape_, Pending(i, shape_.echo_text.size() + shape_.echo_ids.size() * kIdBytes));
}

v1::Delta* StreamEvents::Pending(int32_t index, size_t bytes) {
  Open& open = open_.at(static_cast<size_t>(index));
  if (open.delta == nullptr || open.bytes + bytes > kMergedDeltaBytes) {
    deltas_.emplace_back().set_index(index);  // a deque keeps the others where they are
    open = {&deltas_.back(), 0};
  }
  open.bytes += bytes;
  return open.delta;
}

void StreamEvents::Add(const GenerationDelta& delta) {
  size_t bytes = delta.text.size();
  for (const SampledToken& token : delta.tokens) {
    if (shape_.token_ids) bytes += kIdBytes;
    if (shape_.logprobs) bytes += kLogprobBytes * (1 + token.top_logprobs.size());
  }
  for (const SampledToken& token : delta.prompt) bytes += kLogprobBytes * (1 + token.top_logprobs.size());
  // Tokens whose text is held back tell nothing to a reader who asked for text alone.
  if (bytes > 0) AppendDelta(delta, shape_, Pending(delta.index, bytes));
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
  } else if (!deltas_.empty()) {
    Open& open = open_[static_cast<size_t>(deltas_.front().index())];
    if (open.delta == &deltas_.front()) open = {};
    *out->mutable_delta() = std::move(deltas_.front());
    deltas_.pop_front();
  } else if (finished_.has_value()) {
    *out->mutable_finished() = *std::exchange(finished_, std::nullopt);
  } else {
    return false;
  }
  return true;
}

}  // namespace causeway
