#include "engine/text/chat_template.h"

#include <utility>
#include <vector>

#include "engine/base/status.h"
#include "engine/text/bridge.h"

namespace causeway {

using text_internal::Bytes;
using text_internal::Try;

struct ChatTemplate::Impl {
  rust::Box<text_bridge::TextTemplate> chat;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Load(const std::string& folder, const std::string& file) {
  CAUSEWAY_ASSIGN_OR_RETURN(auto chat, Try([&] { return text_bridge::load_template(Bytes(folder), Bytes(file)); }));
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::unique_ptr<Impl>(new Impl{std::move(chat)})));
}

absl::StatusOr<std::string> ChatTemplate::Render(absl::Span<const ChatMessage> messages, bool add_generation_prompt,
                                                 absl::Time now) const {
  std::vector<rust::Slice<const uint8_t>> texts;  // role, content, role, content, ...
  texts.reserve(2 * messages.size());
  for (const ChatMessage& message : messages) {
    texts.push_back(Bytes(message.role));
    texts.push_back(Bytes(message.content));
  }
  if (texts.empty()) return absl::InvalidArgumentError("a chat needs at least one message");
  CAUSEWAY_ASSIGN_OR_RETURN(auto text, Try([&] {
                              const rust::Slice<const rust::Slice<const uint8_t>> slice{texts.data(), texts.size()};
                              return text_bridge::render(*impl_->chat, slice, add_generation_prompt,
                                                         absl::ToUnixSeconds(now));
                            }));
  return std::string(text);
}

}  // namespace causeway
