#include "engine/model/rotary.h"

#include <cmath>
#include <vector>

#include <ATen/ops/empty.h>

namespace causeway {
namespace {

// Frequencies of dynamic NTK scaling for a text of `length` tokens.
void DynamicFrequencies(const RopeSpec& rope, int64_t length, std::vector<float>& frequencies) {
  const double dim = rope.dim;
  const double stretch = rope.dynamic_factor * length / rope.dynamic_original - (rope.dynamic_factor - 1);
  const double base = rope.theta * std::pow(stretch, dim / (dim - 2));
  for (size_t i = 0; i < frequencies.size(); ++i) frequencies[i] = std::pow(base, -2.0 * i / dim);
}

}  // namespace

RotaryTables MakeRotaryTables(const RopeSpec& rope, int64_t positions, at::Device device) {
  if (rope.dim == 0) return {};
  const int64_t pairs = rope.dim / 2;
  const at::TensorOptions host = at::TensorOptions(at::kFloat);
  RotaryTables tables{at::empty({positions, pairs}, host), at::empty({positions, pairs}, host)};
  float* cos = tables.cos.data_ptr<float>();
  float* sin = tables.sin.data_ptr<float>();
  std::vector<float> frequencies(rope.inv_freq.begin(), rope.inv_freq.end());
  for (int64_t p = 0; p < positions; ++p) {
    if (rope.dynamic_factor > 0 && p >= rope.dynamic_original) DynamicFrequencies(rope, p + 1, frequencies);
    for (int64_t i = 0; i < pairs; ++i) {
      const float angle = static_cast<float>(p) * frequencies[i];
      cos[p * pairs + i] = std::cos(static_cast<double>(angle)) * rope.attention_factor;
      sin[p * pairs + i] = std::sin(static_cast<double>(angle)) * rope.attention_factor;
    }
  }
  return {tables.cos.to(device), tables.sin.to(device)};
}

}  // namespace causeway
