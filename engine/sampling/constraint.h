// Which tokens a sequence may have: the seam between the sampler and whoever knows grammars.
#ifndef CAUSEWAY_ENGINE_SAMPLING_CONSTRAINT_H_
#define CAUSEWAY_ENGINE_SAMPLING_CONSTRAINT_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace causeway {

struct TokenMask {
  enum class State {
    kTokens,    // `allowed` says which tokens may come
    kComplete,  // nothing may follow: the sequence ends without another token
    kFailed,    // `status` says why; the sequence ends
  };
  State state = State::kTokens;
  absl::Span<const uint32_t> allowed;  // as SampleRow::allowed; the constraint owns it, until Chosen is called
  absl::Status status;
};

// The constraint of one sequence for all its life, preempted or not: each of its tokens is chosen once, in order.
// Thread-safe.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;

  // Returns false while the mask of generated token `index` is not there and such masks have been slow: a step that
  // samples it now would make its other rows wait. Never waits.
  virtual bool Soon(int64_t index) const = 0;
  // Returns the mask of generated token `index`, and waits for it. `index` is that of the first token not chosen yet,
  // or any once the sequence has ended.
  virtual TokenMask Await(int64_t index) = 0;
  // Says which token was chosen at `index`, by the mask. Work on the next mask begins.
  virtual void Chosen(int64_t index, int32_t token) = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_SAMPLING_CONSTRAINT_H_
