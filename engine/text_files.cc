#include "engine/text_files.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"

namespace causeway {

TextFiles::TextFiles(std::string folder, std::string chat_template_file)
    : thread_([this, folder = std::move(folder), file = std::move(chat_template_file)] {
        const absl::Status status = ReadFiles(folder, file);
        absl::MutexLock lock(&mutex_);
        status_ = status;
        ended_ = true;
      }) {}

absl::Status TextFiles::Check() const {
  absl::MutexLock lock(&mutex_);
  return status_;
}

absl::StatusOr<TextFiles::Read> TextFiles::Take() {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(&ended_));
  if (!status_.ok()) return status_;
  return std::move(read_);
}

absl::Status TextFiles::ReadFiles(const std::string& folder, const std::string& chat_template_file) {
  const absl::Time start = Clock::Real()->Now();
  // A folder without a tokenizer serves token ids; a broken tokenizer is an error.
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(folder);
  if (!tokenizer.ok() && !absl::IsNotFound(tokenizer.status())) return tokenizer.status();
  if (tokenizer.ok()) {
    read_.tokenizer = *std::move(tokenizer);
    read_.warnings = read_.tokenizer->warnings();
  }
  absl::StatusOr<std::unique_ptr<ChatTemplate>> chat_template = ChatTemplate::Load(folder, chat_template_file);
  if (chat_template.ok()) {
    read_.chat_template = *std::move(chat_template);
  } else if (!chat_template_file.empty()) {
    return chat_template.status();
  } else if (!absl::IsNotFound(chat_template.status())) {
    // The model can do without: prompts need no template.
    read_.chat_template_error = std::string(chat_template.status().message());
    read_.warnings.push_back(
        absl::StrCat("chats are refused, since the model's template cannot be used: ", read_.chat_template_error,
                     "; model.chat_template names another (--chat-template FILE)"));
  }
  read_.seconds = absl::ToDoubleSeconds(Clock::Real()->Now() - start);
  return absl::OkStatus();
}

std::string VocabularyWarning(const Tokenizer& tokenizer, int64_t vocab_size) {
  if (tokenizer.id_bound() <= vocab_size) return "";
  return absl::StrCat("the tokenizer has ids up to ", tokenizer.id_bound() - 1, ", and the model a vocabulary of ",
                      vocab_size, ": texts with a token from ", vocab_size, " on are refused");
}

}  // namespace causeway
