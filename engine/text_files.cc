#include "engine/text_files.h"

#include <utility>

#include "absl/time/time.h"
#include "engine/base/clock.h"

namespace causeway {

TextFiles::TextFiles(std::string folder)
    : thread_([this, folder = std::move(folder)] {
        const absl::Status status = ReadFiles(folder);
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

absl::Status TextFiles::ReadFiles(const std::string& folder) {
  const absl::Time start = Clock::Real()->Now();
  // A folder without a tokenizer serves token ids; a broken tokenizer is an error.
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(folder);
  if (!tokenizer.ok() && !absl::IsNotFound(tokenizer.status())) return tokenizer.status();
  absl::StatusOr<std::unique_ptr<ChatTemplate>> chat_template = ChatTemplate::Load(folder);
  if (!chat_template.ok() && !absl::IsNotFound(chat_template.status())) return chat_template.status();
  if (tokenizer.ok()) read_.tokenizer = *std::move(tokenizer);
  if (chat_template.ok()) read_.chat_template = *std::move(chat_template);
  read_.seconds = absl::ToDoubleSeconds(Clock::Real()->Now() - start);
  return absl::OkStatus();
}

}  // namespace causeway
