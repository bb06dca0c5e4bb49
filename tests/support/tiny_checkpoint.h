// Tiny checkpoints with seeded random weights, written by the test that needs them.
#ifndef CAUSEWAY_TESTS_SUPPORT_TINY_CHECKPOINT_H_
#define CAUSEWAY_TESTS_SUPPORT_TINY_CHECKPOINT_H_

#include <cstdint>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "engine/architecture/spec.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/json.h"

namespace causeway {

// A config.json for WriteTinyCheckpoint; `more` overrides and adds keys.
Json TinyLlama(
    const Json& more = Json::object());  // 4 layers, hidden 64, 4 heads, 2 of keys, vocabulary 96, 256 positions
Json TinyQwen3Moe(const Json& more =
                      Json::object());  // TinyLlama's sizes; 8 experts, 3 for each token, but an MLP in the first layer
Json TinyGpt2(
    const Json& more = Json::object());  // 3 layers, hidden 48, 3 heads, vocabulary 90, 128 positions; tied head

// Writes config.json and model.safetensors. It has every tensor of the architecture, in the config's dtype ("float32"
// where it has none), random by `seed`. Weights are large enough that logits differ clearly from token to token. Aborts
// on any error.
void WriteTinyCheckpoint(const std::string& folder, const Json& config, uint64_t seed = 1);

// A checkpoint in a folder of its own, opened. The destructor removes both.
class TinyCheckpoint {
 public:
  explicit TinyCheckpoint(const Json& config, uint64_t seed = 1, DType compute = DType::kF32);
  ~TinyCheckpoint();
  TinyCheckpoint(const TinyCheckpoint&) = delete;

  const std::string& folder() const { return folder_; }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const ModelSpec& spec() const { return spec_; }

 private:
  std::string folder_;
  std::unique_ptr<Checkpoint> checkpoint_;
  ModelSpec spec_;
};

}  // namespace causeway

#endif  // CAUSEWAY_TESTS_SUPPORT_TINY_CHECKPOINT_H_
