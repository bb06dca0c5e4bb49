#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/architecture/registry.h"
#include "engine/architecture/spelling.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

constexpr size_t kListedMax = 20;

std::string ShapeText(const std::vector<int64_t>& shape) { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

// Lines "missing: x", the first few of them, for one kind of complaint.
void Append(absl::string_view kind, const std::vector<std::string>& names, std::string* message) {
  for (size_t i = 0; i < std::min(names.size(), kListedMax); ++i)
    absl::StrAppend(message, "\n  ", kind, ": ", names[i]);
  if (names.size() > kListedMax) absl::StrAppend(message, "\n  ", kind, ": ", names.size() - kListedMax, " more");
}

bool IsWeightDType(DType dtype) { return dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF32; }

struct Match {
  std::map<std::string, const Parameter*> expected;  // by canonical name, tied ones too
  std::map<std::string, TensorInfo> stored;          // those of them that the checkpoint holds
  std::vector<std::string> missing, extra, wrong;
};

// Takes in that `tensor` is the parameter `name`, if that is one.
void Identify(const std::string& name, const TensorInfo& tensor, Match& match) {
  const auto parameter = match.expected.find(name);
  // A part of a stack whose other parts are the model's.
  if (parameter == match.expected.end())
    return match.wrong.push_back(absl::StrCat(Printable(tensor.name), " would be ", name, ", which the model lacks"));
  const auto [place, is_new] = match.stored.try_emplace(name, tensor);
  if (!is_new) {
    return match.wrong.push_back(
        absl::StrCat(name, " is stored twice, as ", place->second.name, " and as ", tensor.name));
  }
  if (tensor.shape != parameter->second->shape) {
    match.wrong.push_back(absl::StrCat(name, " has the shape ", ShapeText(tensor.shape), ", expected ",
                                       ShapeText(parameter->second->shape)));
  }
  const DType wanted = parameter->second->dtype;
  if (IsWeightDType(wanted) ? !IsWeightDType(tensor.dtype) : tensor.dtype != wanted) {
    match.wrong.push_back(absl::StrCat(name, " has the dtype ", DTypeName(tensor.dtype), ", expected ",
                                       IsWeightDType(wanted) ? "bf16, fp16 or fp32" : DTypeName(wanted)));
  }
}

// Fills `stored`, `extra` and `wrong`: which stored tensor is which parameter, and whether it fits.
void IdentifyAll(const ModelSpec& spec, const Checkpoint& checkpoint, Match& match) {
  const std::set<std::string> inert(spec.inert_tensors.begin(), spec.inert_tensors.end());
  // Saved from the model without its head ("h.0.ln_1.weight"), names lack the root's first child.
  const std::string prefix = spec.modules.children.empty() ? "" : spec.modules.children[0].name + ".";
  for (const auto& [stored, tensor] : checkpoint.tensors()) {
    const std::string prefixed = prefix + stored;
    if (match.expected.count(stored) > 0 || match.expected.count(prefixed) > 0) {
      Identify(match.expected.count(stored) > 0 ? stored : prefixed, tensor, match);
      continue;
    }
    if (inert.count(WithoutNumbers(stored)) > 0 || inert.count(WithoutNumbers(prefixed)) > 0) continue;
    bool resolved = false;
    for (const std::string& name : {stored, prefixed}) {
      const auto parts = Resolve(spec.spellings, name, tensor);
      if (!parts.ok()) match.wrong.emplace_back(parts.status().message());
      resolved |= !parts.ok() || !parts->empty();
      if (!parts.ok()) continue;
      for (const auto& [canonical, part] : *parts) Identify(canonical, part, match);
    }
    if (!resolved) match.extra.push_back(Printable(stored));
  }
}

absl::StatusOr<bool> AreEqual(const Checkpoint& checkpoint, const TensorInfo& a, const TensorInfo& b) {
  constexpr uint64_t kChunk = uint64_t{4} << 20;
  std::string bytes_a, bytes_b;
  for (uint64_t at = 0; at < a.bytes; at += kChunk) {
    bytes_a.resize(std::min(kChunk, a.bytes - at));
    bytes_b.resize(bytes_a.size());
    CAUSEWAY_RETURN_IF_ERROR(checkpoint.Read(a, at, absl::MakeSpan(&bytes_a[0], bytes_a.size())));
    CAUSEWAY_RETURN_IF_ERROR(checkpoint.Read(b, at, absl::MakeSpan(&bytes_b[0], bytes_b.size())));
    if (bytes_a != bytes_b) return false;
  }
  return true;
}

// A checkpoint may hold either of two tied tensors, or both; if both differ then the config is wrong about the tie, and
// tying would compute another model.
std::string Differ(const std::string& name, const Parameter& parameter) {
  return absl::StrCat(
      name, " differs from ", parameter.tied_to,
      " although config.json ties them; expected equal ones, or tie_word_embeddings: false in config.json");
}

// Leaves one stored tensor for parameters that share their memory, under the name of the source.
void JoinTied(Match& match) {
  for (const auto& [name, parameter] : match.expected) {
    const auto copy = match.stored.find(name);
    if (parameter->tied_to.empty() || copy == match.stored.end()) continue;
    const TensorInfo& source = match.stored.try_emplace(parameter->tied_to, copy->second).first->second;
    if (source.dtype != copy->second.dtype) match.wrong.push_back(Differ(name, *parameter));
    match.stored.erase(name);
  }
}

// Compares what is stored as whole numbers. Of floats zeros alone can be known; the sign of these does not matter.
absl::Status CheckKnown(const std::string& name, const KnownContents& known, const Checkpoint& checkpoint,
                        const TensorInfo& tensor) {
  const bool whole = tensor.dtype == DType::kI32;
  const size_t width = DTypeBytes(tensor.dtype);
  std::string bytes(tensor.bytes, '\0');
  CAUSEWAY_RETURN_IF_ERROR(checkpoint.Read(tensor, 0, absl::MakeSpan(bytes)));
  for (size_t i = 0; i < bytes.size() / width; ++i) {
    uint32_t found = 0;
    std::memcpy(&found, bytes.data() + i * width, width);
    if (!whole) found &= ~(1u << (8 * width - 1));
    if (found == i / known.run) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": expected ", i / known.run, " at ", i, ", as ", known.because, "; found ",
                     whole ? absl::StrCat(static_cast<int32_t>(found)) : "another value"));
  }
  return absl::OkStatus();
}

Match MakeMatch(const ModelSpec& spec, const Checkpoint& checkpoint) {
  Match match;
  VisitParameters(spec.modules, [&match](const std::string& path, const Parameter& parameter) {
    if (parameter.stored()) match.expected[path] = &parameter;
  });
  IdentifyAll(spec, checkpoint, match);
  return match;
}

}  // namespace

absl::Status CheckContents(const ModelSpec& spec, const Checkpoint& checkpoint) {
  const Match match = MakeMatch(spec, checkpoint);
  for (const auto& [name, parameter] : match.expected) {
    const auto stored = match.stored.find(name);
    if (stored == match.stored.end()) continue;
    if (parameter->known.has_value())
      CAUSEWAY_RETURN_IF_ERROR(CheckKnown(name, *parameter->known, checkpoint, stored->second));
    const auto source = match.stored.find(parameter->tied_to);
    if (parameter->tied_to.empty() || source == match.stored.end()) continue;
    CAUSEWAY_ASSIGN_OR_RETURN(const bool equal, AreEqual(checkpoint, source->second, stored->second));
    if (!equal) return absl::InvalidArgumentError(absl::StrCat(checkpoint.folder(), ": ", Differ(name, *parameter)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, TensorInfo>> MatchTensors(const ModelSpec& spec, const Checkpoint& checkpoint,
                                                               std::vector<std::string>* unused) {
  Match match = MakeMatch(spec, checkpoint);
  JoinTied(match);
  for (const auto& [name, parameter] : match.expected) {
    if (parameter->known.has_value()) {
      match.stored.erase(name);
    } else if (parameter->tied_to.empty() && match.stored.count(name) == 0) {
      match.missing.push_back(absl::StrCat(name, " ", ShapeText(parameter->shape)));
    }
  }
  if (match.missing.empty() && match.wrong.empty()) {
    if (unused != nullptr) *unused = std::move(match.extra);
    return std::move(match.stored);
  }
  std::string message = absl::StrCat("the tensors in ", checkpoint.folder(), " do not fit its config.json (",
                                     spec.architecture, "): ", match.missing.size(), " missing, ", match.extra.size(),
                                     " unexpected, ", match.wrong.size(), " wrong");
  Append("missing", match.missing, &message);
  Append("unexpected", match.extra, &message);
  Append("wrong", match.wrong, &message);
  return absl::InvalidArgumentError(message);
}

}  // namespace causeway
