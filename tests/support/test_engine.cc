#include "tests/support/test_engine.h"

#include <stdexcept>
#include <utility>

#include "engine/base/clock.h"

namespace causeway {

void CollectingSink::OnDelta(GenerationDelta delta) {
  Choice& choice = choices[delta.index];
  choice.text += delta.text;
  choice.prompt.insert(choice.prompt.end(), delta.prompt.begin(), delta.prompt.end());
  for (const SampledToken& token : delta.tokens) {
    choice.tokens.push_back(token.token);
    choice.logprobs.push_back(token.logprob);
    choice.times.push_back(Clock::Real()->Now());
  }
}

void CollectingSink::OnEnd(GenerationEnd ended) {
  end = std::move(ended);
  ++ends;
  ended_.Notify();  // a second end would abort: notifying twice is a programmer's error
}

std::unique_ptr<Engine> MakeTestEngine(const EngineOptions& options) {
  absl::StatusOr<PlacedModel> placed = PlaceModel(options);
  if (!placed.ok()) throw std::runtime_error(placed.status().ToString());
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(*std::move(placed), options, nullptr, nullptr);
  if (!engine.ok()) throw std::runtime_error(engine.status().ToString());
  return *std::move(engine);
}

GenerationRequest GreedyRequest(const std::string& id, std::vector<int32_t> prompt, int64_t tokens) {
  GenerationRequest request;
  request.request_id = id;
  request.prompt = std::move(prompt);
  request.sampling.temperature = 0;
  request.stop.max_tokens = tokens;
  return request;
}

std::vector<std::shared_ptr<CollectingSink>> GenerateAll(Engine& engine, std::vector<GenerationRequest> requests) {
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (GenerationRequest& request : requests) {
    sinks.push_back(std::make_shared<CollectingSink>());
    const absl::StatusOr<RequestHandle> submitted = engine.Submit(std::move(request), sinks.back());
    if (!submitted.ok()) throw std::runtime_error(submitted.status().ToString());
  }
  for (const auto& sink : sinks) sink->Wait();
  return sinks;
}

}  // namespace causeway
