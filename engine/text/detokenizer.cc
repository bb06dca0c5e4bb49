#include "engine/text/detokenizer.h"

#include <optional>
#include <utility>

#include "engine/base/status.h"
#include "engine/text/bridge.h"

namespace causeway {

using text_internal::Ids;
using text_internal::Try;

struct Detokenizer::Impl {
  const text_bridge::TextTokenizer& tokenizer;
  // Says why there is no stream, if there is none: a constructor cannot return it.
  absl::Status status;
  std::optional<rust::Box<text_bridge::Stream>> stream;
};

Detokenizer::Detokenizer(const Tokenizer* tokenizer, absl::Span<const int32_t> prompt_tail, bool skip_special_tokens)
    : impl_(new Impl{*tokenizer->impl_->tokenizer, absl::OkStatus(), std::nullopt}) {
  auto stream = Try([&] { return text_bridge::new_stream(impl_->tokenizer, Ids(prompt_tail), skip_special_tokens); });
  impl_->status = stream.status();
  if (stream.ok()) impl_->stream = *std::move(stream);
}

Detokenizer::~Detokenizer() = default;
Detokenizer::Detokenizer(Detokenizer&&) noexcept = default;
Detokenizer& Detokenizer::operator=(Detokenizer&&) noexcept = default;

absl::StatusOr<std::string> Detokenizer::Append(int32_t token) {
  CAUSEWAY_RETURN_IF_ERROR(impl_->status);
  CAUSEWAY_ASSIGN_OR_RETURN(auto text,
                            Try([&] { return text_bridge::append(**impl_->stream, impl_->tokenizer, token); }));
  return std::string(text);
}

std::string Detokenizer::Flush() {
  if (!impl_->stream) return "";
  // An error here is a panic in a decoder. Append has reported it for the same tokens already.
  auto text = Try([&] { return text_bridge::flush(**impl_->stream, impl_->tokenizer); });
  return text.ok() ? std::string(*text) : "";
}

}  // namespace causeway
