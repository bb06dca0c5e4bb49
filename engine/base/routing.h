// How a mixture of experts chooses among them.
#ifndef CAUSEWAY_ENGINE_BASE_ROUTING_H_
#define CAUSEWAY_ENGINE_BASE_ROUTING_H_

#include <cstdint>

namespace causeway {

enum class RouterScore { kSoftmax, kSigmoid };

// A token's scores are softmax or sigmoid of its router logits, in fp32. It goes to the `experts_per_token` experts of
// the highest score (plus a correction per expert, where there is one, which counts for the choice alone), each
// weighted by its score.
struct RoutingRule {
  int64_t experts_per_token = 0;
  RouterScore score = RouterScore::kSoftmax;
  bool normalize = false;  // the chosen experts' scores divided by their sum
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_ROUTING_H_
