#include "engine/weights/row_maxima.h"

#include <algorithm>
#include <set>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

namespace causeway {

bool RowMaxima::Concern(const LinearTarget& target) {
  return target.spec.encoding.kind == WeightEncoding::Kind::kFloat && target.spec.format.kind == WeightKind::kInt8 &&
         target.shard.in_count < target.spec.in_features;
}

LoadTargets RowMaxima::Shares(const LoadTargets& targets) {
  std::set<std::string> filled;
  for (const LinearTarget& linear : targets.linears) {
    if (!Concern(linear) || linear.portion == LinearTarget::kFilled) continue;
    for (const LinearSpec::Part& part : linear.spec.parts) filled.insert(part.weight);
  }
  LoadTargets shares;
  for (const LinearTarget& linear : targets.linears) {
    if (!Concern(linear) || filled.count(linear.spec.parts.front().weight) == 0) continue;
    shares.linears.push_back(linear);
    shares.linears.back().portion = 0;
  }
  return shares;
}

void RowMaxima::Add(const std::string& tensor, int64_t first, const at::Tensor& shares) {
  const at::Tensor largest = shares.to(at::kFloat).abs().view(at::kInt).amax(1).contiguous();
  const int32_t* values = largest.const_data_ptr<int32_t>();
  const size_t end = first + largest.numel();
  absl::MutexLock lock(&mutex_);
  std::vector<int32_t>& bits = bits_[tensor];
  if (bits.size() < end) bits.resize(end);
  for (size_t row = first; row < end; ++row) bits[row] = std::max(bits[row], values[row - first]);
}

at::Tensor RowMaxima::Of(const std::string& tensor, int64_t first, int64_t count) const {
  at::Tensor largest = at::empty({count}, at::kInt);
  absl::MutexLock lock(&mutex_);
  std::copy_n(bits_.at(tensor).begin() + first, count, largest.data_ptr<int32_t>());
  return largest.view(at::kFloat);
}

}  // namespace causeway
