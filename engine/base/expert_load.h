// How a layer's tokens spread over its experts, counted by the thread that computes and read by any.
#ifndef CAUSEWAY_ENGINE_BASE_EXPERT_LOAD_H_
#define CAUSEWAY_ENGINE_BASE_EXPERT_LOAD_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

namespace causeway {

// Sums over the steps counted. A token counts once for each expert that it went to.
struct ExpertLoad {
  int64_t steps = 0;            // steps in which the layer computed any token
  int64_t busy = 0;             // experts that got a token, added up over the steps: those that were read
  int64_t busiest = 0;          // tokens of each step's busiest expert
  std::vector<int64_t> tokens;  // tokens of each expert
  int64_t expert_bytes = 0;     // bytes of one expert's weights as held, on average
};

class ExpertCounter {
 public:
  ExpertCounter(int64_t experts, int64_t expert_bytes) : expert_bytes_(expert_bytes), tokens_(experts) {}

  // Counts a step in which counts[e] tokens went to expert e. Only one thread may call it.
  void Add(const std::vector<int32_t>& counts) {
    int64_t busy = 0, busiest = 0;
    for (size_t e = 0; e < tokens_.size(); ++e) {
      if (counts[e] == 0) continue;
      Increase(tokens_[e], counts[e]);
      ++busy;
      busiest = std::max<int64_t>(busiest, counts[e]);
    }
    if (busy == 0) return;
    Increase(steps_, 1);
    Increase(busy_, busy);
    Increase(busiest_, busiest);
  }
  // Only the thread that adds may call it.
  void Clear() {
    for (std::atomic<int64_t>* counter : {&steps_, &busy_, &busiest_}) counter->store(0, std::memory_order_relaxed);
    for (std::atomic<int64_t>& counter : tokens_) counter.store(0, std::memory_order_relaxed);
  }
  // Any thread may call it. A step that is being added may be counted in part.
  ExpertLoad Read() const {
    ExpertLoad load{.steps = steps_, .busy = busy_, .busiest = busiest_, .tokens = {}, .expert_bytes = expert_bytes_};
    for (const std::atomic<int64_t>& counter : tokens_) load.tokens.push_back(counter.load(std::memory_order_relaxed));
    return load;
  }

 private:
  // With one writer an addition needs no lock.
  static void Increase(std::atomic<int64_t>& counter, int64_t by) {
    counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }

  const int64_t expert_bytes_;
  std::atomic<int64_t> steps_ = 0, busy_ = 0, busiest_ = 0;
  std::vector<std::atomic<int64_t>> tokens_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_EXPERT_LOAD_H_
