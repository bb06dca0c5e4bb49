// A model's tokenizer and chat template, read beside other work.
#ifndef CAUSEWAY_ENGINE_TEXT_FILES_H_
#define CAUSEWAY_ENGINE_TEXT_FILES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

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
  // Begins to read on a thread of its own. `chat_template_file` takes the place of the folder's template. Empty: that
  // one.
  explicit TextFiles(std::string folder, std::string chat_template_file = "");
  ~TextFiles() { thread_.join(); }
  TextFiles(const TextFiles&) = delete;
  TextFiles& operator=(const TextFiles&) = delete;

  // Says what is wrong with the files as far as they have been read. Any thread may call it; it does not wait.
  absl::Status Check() const;

  struct Read {
    std::unique_ptr<Tokenizer> tokenizer;         // null where the folder has none
    std::unique_ptr<ChatTemplate> chat_template;  // null where the folder has none that compiles
    std::string chat_template_error;              // why the folder's template does not compile; empty where it does
    std::vector<std::string> warnings;            // what the files ask for and nobody does, a sentence each
    double seconds = 0;                           // how long reading took
  };
  // Waits for the end of reading. To be called once.
  absl::StatusOr<Read> Take();

 private:
  absl::Status ReadFiles(const std::string& folder, const std::string& chat_template_file);

  Read read_;  // belongs to the thread until that has ended
  mutable absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last, since it uses the others
};

// Says that the tokenizer has tokens which a model with so many rows of embeddings lacks. Empty: it has none such.
std::string VocabularyWarning(const Tokenizer& tokenizer, int64_t vocab_size);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_TEXT_FILES_H_
