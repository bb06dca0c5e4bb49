#include "engine/architecture/spec.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace causeway {
namespace {

int64_t Count(const Module& module) {
  int64_t count = 0;
  for (const Parameter& parameter : module.parameters)
    count += parameter.buffer || !parameter.tied_to.empty() ? 0 : parameter.parameter_count();
  for (const Module& child : module.children) count += Count(child);
  return count;
}

}  // namespace

std::vector<std::string> StoredTensors(const LinearSpec& linear, const LinearSpec::Part& part) {
  const std::string path(absl::StripSuffix(part.weight, "weight"));  // with its last dot
  switch (linear.encoding.kind) {
    case WeightEncoding::Kind::kFloat: break;
    case WeightEncoding::Kind::kFp8: return {part.weight, absl::StrCat(path, "weight_scale_inv")};
    case WeightEncoding::Kind::kGptq:
    case WeightEncoding::Kind::kAwq: {
      std::vector<std::string> names = {absl::StrCat(path, "qweight"), absl::StrCat(path, "scales"),
                                        absl::StrCat(path, "qzeros")};
      if (linear.format.reordered) names.push_back(absl::StrCat(path, "g_idx"));
      return names;
    }
  }
  return {part.weight};
}

int64_t ModelSpec::parameter_count() const { return Count(modules); }

std::string ModelSpec::title() const {
  const int64_t count = parameter_count();
  const double n = static_cast<double>(count);
  const std::string size = count >= 1'000'000'000 ? absl::StrFormat("%.2f B", n / 1e9)
                           : count >= 1'000'000   ? absl::StrFormat("%.1f M", n / 1e6)
                                                  : absl::StrFormat("%.1f K", n / 1e3);
  return absl::StrCat(architecture, ", ", size, " parameters");
}

}  // namespace causeway
