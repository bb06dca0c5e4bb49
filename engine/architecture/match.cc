#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/architecture/registry.h"

namespace causeway {
namespace {

constexpr size_t kListedMax = 20;

// "transformer.h.3.attn.bias" -> "transformer.h.#.attn.bias"
std::string WithoutNumbers(const std::string& name) {
  std::vector<std::string> parts = absl::StrSplit(name, '.');
  for (std::string& part : parts) {
    if (!part.empty() && std::all_of(part.begin(), part.end(), absl::ascii_isdigit)) part.assign(1, '#');
  }
  return absl::StrJoin(parts, ".");
}

std::string ShapeText(const std::vector<int64_t>& shape) { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

// Lines "missing: x", the first few of them, for one kind of complaint.
void Append(absl::string_view kind, const std::vector<std::string>& names, std::string* message) {
  for (size_t i = 0; i < std::min(names.size(), kListedMax); ++i) absl::StrAppend(message, "\n  ", kind, ": ", names[i]);
  if (names.size() > kListedMax) absl::StrAppend(message, "\n  ", kind, ": ", names.size() - kListedMax, " more");
}

bool IsWeightDType(DType dtype) { return dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF32; }

}  // namespace

absl::StatusOr<std::map<std::string, const TensorInfo*>> MatchTensors(const ModelSpec& spec, const Checkpoint& checkpoint) {
  std::map<std::string, const Parameter*> expected;
  VisitParameters(spec.modules, [&expected](const std::string& path, const Parameter& parameter) {
    if (!parameter.buffer && parameter.tied_to.empty()) expected[path] = &parameter;
  });
  const std::set<std::string> inert(spec.inert_tensors.begin(), spec.inert_tensors.end());
  // Saved from the model without its head ("h.0.ln_1.weight"), names lack the root's first child.
  const std::string prefix = spec.modules.children.empty() ? "" : spec.modules.children[0].name + ".";

  std::map<std::string, const TensorInfo*> matched;
  std::vector<std::string> extra, wrong;
  for (const auto& [stored, tensor] : checkpoint.tensors()) {
    const std::string prefixed = prefix + stored;
    const std::string& name = expected.count(stored) > 0 ? stored : prefixed;
    const auto parameter = expected.find(name);
    if (parameter == expected.end()) {
      if (inert.count(WithoutNumbers(stored)) == 0 && inert.count(WithoutNumbers(prefixed)) == 0) extra.push_back(Printable(stored));
      continue;
    }
    const auto [place, is_new] = matched.try_emplace(name, &tensor);
    if (!is_new) {
      wrong.push_back(absl::StrCat(name, " is stored twice, as ", place->second->name, " and as ", stored));
      continue;
    }
    if (tensor.shape != parameter->second->shape) {
      wrong.push_back(absl::StrCat(name, " has the shape ", ShapeText(tensor.shape), ", expected ", ShapeText(parameter->second->shape)));
    }
    if (!IsWeightDType(tensor.dtype)) {
      wrong.push_back(absl::StrCat(name, " has the dtype ", DTypeName(tensor.dtype), ", expected bf16, fp16 or fp32"));
    }
  }
  std::vector<std::string> missing;
  for (const auto& [name, parameter] : expected) {
    if (matched.count(name) == 0) missing.push_back(absl::StrCat(name, " ", ShapeText(parameter->shape)));
  }
  if (missing.empty() && extra.empty() && wrong.empty()) return matched;
  std::string message = absl::StrCat("the tensors in ", checkpoint.folder(), " do not fit its config.json (", spec.architecture, "): ",
                                     missing.size(), " missing, ", extra.size(), " unexpected, ", wrong.size(), " wrong");
  Append("missing", missing, &message);
  Append("unexpected", extra, &message);
  Append("wrong", wrong, &message);
  return absl::InvalidArgumentError(message);
}

}  // namespace causeway
