// One golden fixture: a tiny checkpoint, and the results that transformers computed from it (make_golden.py,
// make_quantized.py).
#ifndef CAUSEWAY_TESTS_GOLDEN_GOLDEN_H_
#define CAUSEWAY_TESTS_GOLDEN_GOLDEN_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace causeway {

struct GoldenCase {
  std::vector<int32_t> prompt;
  std::vector<int32_t> tokens;  // 64 greedy ones
  std::vector<float> logits;    // [prompt, vocab]
};

struct Golden {
  std::string name;
  std::string folder;
  std::vector<GoldenCase> cases;
};

// The hidden states of a fixture's last prompt, where make_hidden_states.py was run for it.
struct GoldenStates {
  std::vector<std::vector<float>> hidden_states;  // in the order of transformers: [rows, hidden size] each
  std::vector<float> last_layer;                  // before the final norm
};

// Names of the folders under tests/golden/models, or those of tests/golden/quantized (make_quantized.py), sorted.
std::vector<std::string> GoldenNames(const std::string& set = "models");
absl::StatusOr<Golden> LoadGolden(const std::string& name, const std::string& set = "models");
absl::StatusOr<GoldenStates> LoadGoldenStates(const std::string& name);

// The tensors of a safetensors file, in fp32: name -> values.
absl::StatusOr<std::map<std::string, std::vector<float>>> ReadFloats(const std::string& path);

}  // namespace causeway

#endif  // CAUSEWAY_TESTS_GOLDEN_GOLDEN_H_
