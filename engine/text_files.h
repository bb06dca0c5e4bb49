// A model's tokenizer and chat template, read beside other work.
#ifndef CAUSEWAY_ENGINE_TEXT_FILES_H_
#define CAUSEWAY_ENGINE_TEXT_FILES_H_

#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"

namespace causeway {

// A vocabulary of a hundred thousand tokens takes half a second to read, and weights need not wait for it.
class TextFiles {
 public:
  // Begins to read on a thread of its own.
  explicit TextFiles(std::string folder);
  ~TextFiles() { thread_.join(); }
  TextFiles(const TextFiles&) = delete;
  TextFiles& operator=(const TextFiles&) = delete;

  // Says what is wrong with the files as far as they have been read. Any thread may call it; it does not wait.
  absl::Status Check() const;

  struct Read {
    std::unique_ptr<Tokenizer> tokenizer;         // null where the folder has none
    std::unique_ptr<ChatTemplate> chat_template;  // null where the folder has none
    double seconds = 0;                           // how long reading took
  };
  // Waits for the end of reading. To be called once.
  absl::StatusOr<Read> Take();

 private:
  absl::Status ReadFiles(const std::string& folder);

  Read read_;  // belongs to the thread until that has ended
  mutable absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last, since it uses the others
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_TEXT_FILES_H_
