// Why a sequence ended.
#ifndef CAUSEWAY_ENGINE_BATCH_FINISH_H_
#define CAUSEWAY_ENGINE_BATCH_FINISH_H_

namespace causeway {

enum class FinishReason {
  kStop,       // a stop id, an end-of-sequence id, or a stop string
  kLength,     // max_tokens or the context is reached
  kCancelled,  // the client has cancelled
  kDeadline,
  kError,  // the step failed
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BATCH_FINISH_H_
