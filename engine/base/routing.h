// How a mixture of experts chooses among them.
#ifndef CAUSEWAY_ENGINE_BASE_ROUTING_H_
#define CAUSEWAY_ENGINE_BASE_ROUTING_H_

#include <cstdint>

namespace causeway {

enum class RouterScore { kSoftmax, kSigmoid };

// A token's scores are softmax or sigmoid of its router logits, in fp32. The token goes to the `experts_per_token`
// experts of the highest score, and each counts by its score. Where there is a correction for each expert, it is added
// for the choice alone.
struct RoutingRule {
  int64_t experts_per_token = 0;
  RouterScore score = RouterScore::kSoftmax;
  bool normalize = false;  // divide the chosen experts' scores by their sum
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_ROUTING_H_
