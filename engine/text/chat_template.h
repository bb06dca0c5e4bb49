// A model's chat template. It turns messages into the text of a prompt, as transformers' apply_chat_template does.
#ifndef CAUSEWAY_ENGINE_TEXT_CHAT_TEMPLATE_H_
#define CAUSEWAY_ENGINE_TEXT_CHAT_TEMPLATE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace causeway {

struct ChatMessage {
  std::string role;
  std::string content;
};

// Immutable after Load; any number of threads may use it at once.
class ChatTemplate {
 public:
  // Reads chat_template.jinja in `folder`, else chat_template in tokenizer_config.json (a string, or the one named
  // "default" of a list). `file` takes their place where it is given. NotFound: the folder has none.
  // InvalidArgument, with the line: the template does not parse, or there is no `file`.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Load(const std::string& folder, const std::string& file = "");
  ~ChatTemplate();
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;

  // The result holds the special tokens that the template wrote: encode it with add_special_tokens = false.
  // InvalidArgument: the template calls raise_exception() (the message is the template's own text, its first 2,000
  // bytes), fails otherwise (the message has the line), or takes more work or memory than any sensible template.
  // strftime_now() sees `now`, in the local time zone.
  absl::StatusOr<std::string> Render(absl::Span<const ChatMessage> messages, bool add_generation_prompt,
                                     absl::Time now = absl::Now()) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_TEXT_CHAT_TEMPLATE_H_
