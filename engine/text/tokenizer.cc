#include "engine/text/tokenizer.h"

#include <utility>

#include "engine/base/status.h"
#include "engine/text/bridge.h"

namespace causeway {

using text_internal::Bytes;
using text_internal::Ids;
using text_internal::Try;

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& folder) {
  CAUSEWAY_ASSIGN_OR_RETURN(auto tokenizer, Try([&] { return text_bridge::load_tokenizer(Bytes(folder)); }));
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::unique_ptr<Impl>(new Impl{std::move(tokenizer)})));
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(absl::string_view text, bool add_special_tokens) const {
  CAUSEWAY_ASSIGN_OR_RETURN(
      auto ids, Try([&] { return text_bridge::encode(*impl_->tokenizer, Bytes(text), add_special_tokens); }));
  return std::vector<int32_t>(ids.begin(), ids.end());
}

absl::StatusOr<std::string> Tokenizer::Decode(absl::Span<const int32_t> ids, bool skip_special_tokens) const {
  CAUSEWAY_ASSIGN_OR_RETURN(auto text,
                            Try([&] { return text_bridge::decode(*impl_->tokenizer, Ids(ids), skip_special_tokens); }));
  return std::string(text);
}

int64_t Tokenizer::vocab_size() const { return text_bridge::vocab_size(*impl_->tokenizer); }

int64_t Tokenizer::longest_token() const { return text_bridge::longest_token(*impl_->tokenizer); }

int64_t Tokenizer::id_bound() const { return text_bridge::id_bound(*impl_->tokenizer); }

std::vector<std::string> Tokenizer::warnings() const {
  const rust::Vec<rust::String> warnings = text_bridge::warnings(*impl_->tokenizer);
  return std::vector<std::string>(warnings.begin(), warnings.end());
}

}  // namespace causeway
