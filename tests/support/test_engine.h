// Runs the real engine in a test's process: creates it, generates with it, collects the results.
#ifndef CAUSEWAY_TESTS_SUPPORT_TEST_ENGINE_H_
#define CAUSEWAY_TESTS_SUPPORT_TEST_ENGINE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "engine/engine.h"

namespace causeway {

// Collects one request. Wait, then read.
class CollectingSink : public TokenSink {
 public:
  struct Choice {
    std::string text;
    std::vector<int32_t> tokens;
    std::vector<float> logprobs;
    std::vector<absl::Time> times;  // of each token
    std::vector<SampledToken> prompt;
  };

  void OnDelta(GenerationDelta delta) override;
  void OnEnd(GenerationEnd end) override;

  void Wait() { ended_.WaitForNotification(); }
  bool ended() const { return ended_.HasBeenNotified(); }

  // Read after Wait.
  std::map<int, Choice> choices;
  GenerationEnd end;
  int ends = 0;

 private:
  absl::Notification ended_;
};

// Throws std::runtime_error with the error's text, which fails the test that asked.
std::unique_ptr<Engine> MakeTestEngine(const EngineOptions& options);

// A greedy request for exactly `tokens` tokens, which ignores end-of-sequence ids.
GenerationRequest GreedyRequest(const std::string& id, std::vector<int32_t> prompt, int64_t tokens);

// Submits all of them at once and waits for all.
std::vector<std::shared_ptr<CollectingSink>> GenerateAll(Engine& engine, std::vector<GenerationRequest> requests);

}  // namespace causeway

#endif  // CAUSEWAY_TESTS_SUPPORT_TEST_ENGINE_H_
