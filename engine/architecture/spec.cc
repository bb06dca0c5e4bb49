#include "engine/architecture/spec.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace causeway {

std::vector<std::string> StoredTensors(const LinearSpec& linear, const LinearSpec::Part& part) {
  const std::string path(absl::StripSuffix(part.weight, "weight"));  // with its last dot
  switch (linear.encoding.kind) {
    case WeightEncoding::Kind::kFloat: break;
    case WeightEncoding::Kind::kFp8: return {part.weight, absl::StrCat(path, "weight_scale_inv")};
    case WeightEncoding::Kind::kGptq:
    case WeightEncoding::Kind::kAwq: {
      std::vector<std::string> names = {absl::StrCat(path, "qweight"), absl::StrCat(path, "scales"), absl::StrCat(path, "qzeros")};
      if (linear.format.reordered) names.push_back(absl::StrCat(path, "g_idx"));
      return names;
    }
  }
  return {part.weight};
}

int64_t ModelSpec::parameter_count() const {
  int64_t count = 0;
  VisitParameters(modules, [&count](const std::string&, const Parameter& parameter) {
    if (!parameter.buffer && parameter.tied_to.empty()) count += parameter.parameter_count();
  });
  return count;
}

}  // namespace causeway
