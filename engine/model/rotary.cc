#include "engine/model/rotary.h"

#include <cmath>
#include <vector>

#include <ATen/ops/empty.h>

#include "engine/architecture/rope.h"

namespace causeway {

RotaryTables MakeRotaryTables(const RopeSpec& rope, int64_t positions) {
  if (rope.dim == 0) return {};
  const int64_t pairs = rope.dim / 2;
  const at::TensorOptions host = at::TensorOptions(at::kFloat);
  RotaryTables tables{at::empty({positions, pairs}, host), at::empty({positions, pairs}, host)};
  float* cos = tables.cos.data_ptr<float>();
  float* sin = tables.sin.data_ptr<float>();
  std::vector<float> frequencies(rope.inv_freq.begin(), rope.inv_freq.end());
  for (int64_t p = 0; p < positions; ++p) {
    if (p >= rope.original && (p == rope.original || rope.dynamic_factor > 0)) {
      const std::vector<double> longer = InvFreqAt(rope, p + 1);
      frequencies.assign(longer.begin(), longer.end());
    }
    for (int64_t i = 0; i < pairs; ++i) {
      const float angle = static_cast<float>(p) * frequencies[i];
      cos[p * pairs + i] = std::cos(static_cast<double>(angle)) * rope.attention_factor;
      sin[p * pairs + i] = std::sin(static_cast<double>(angle)) * rope.attention_factor;
    }
  }
  return tables;
}

}  // namespace causeway
