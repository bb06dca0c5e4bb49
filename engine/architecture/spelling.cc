#include "engine/architecture/spelling.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "engine/architecture/parts.h"

namespace causeway {
namespace {

bool IsNumber(const std::string& part) {
  return !part.empty() && std::all_of(part.begin(), part.end(), absl::ascii_isdigit);
}

// The numbers of `name` in the places of # in `pattern`.
std::string WithNumbersOf(const std::string& name, const std::string& pattern) {
  std::vector<std::string> parts = absl::StrSplit(pattern, '.');
  size_t at = 0;
  for (const std::string& part : std::vector<std::string>(absl::StrSplit(name, '.'))) {
    if (!IsNumber(part)) continue;
    at = std::find(parts.begin() + at, parts.end(), "#") - parts.begin();
    if (at == parts.size()) break;
    parts[at++] = part;
  }
  return absl::StrJoin(parts, ".");
}

}  // namespace

std::string WithoutNumbers(const std::string& name) {
  std::vector<std::string> parts = absl::StrSplit(name, '.');
  for (std::string& part : parts) {
    if (IsNumber(part)) part.assign(1, '#');
  }
  return absl::StrJoin(parts, ".");
}

absl::StatusOr<std::vector<std::pair<std::string, TensorInfo>>> Resolve(const std::vector<TensorSpelling>& spellings,
                                                                        const std::string& name,
                                                                        const TensorInfo& tensor) {
  std::vector<std::pair<std::string, TensorInfo>> found;
  const std::string pattern = WithoutNumbers(name);
  const auto spelling = std::find_if(spellings.begin(), spellings.end(),
                                     [&pattern](const TensorSpelling& s) { return s.stored == pattern; });
  if (spelling == spellings.end()) return found;
  std::vector<std::string> canonical;
  for (const std::string& c : spelling->canonical) canonical.push_back(WithNumbersOf(name, c));
  if (canonical[0].find('*') == std::string::npos) {
    found.emplace_back(canonical[0], tensor);
    return found;
  }
  const int64_t parts = static_cast<int64_t>(canonical.size());
  const std::vector<int64_t>& shape = tensor.shape;
  const bool empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
  if (shape.size() < 2 || empty || shape[0] > kExpertsMax || shape[1] % parts != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(tensor.name, " has the shape [", absl::StrJoin(shape, ", "), "], expected a stack [experts, ",
                     parts == 1 ? "" : absl::StrCat(parts, " * "), "rows, ...] of up to ", kExpertsMax, " experts"));
  }
  TensorInfo slice = tensor;
  slice.shape.erase(slice.shape.begin());
  slice.shape[0] /= parts;
  slice.bytes = tensor.bytes / shape[0] / parts;
  for (int64_t i = 0; i < shape[0]; ++i) {
    for (const std::string& part : canonical) {
      slice.name = absl::StrCat(tensor.name, "[", i, "]");
      found.emplace_back(absl::StrReplaceAll(part, {{"*", absl::StrCat(i)}}), slice);
      slice.offset += slice.bytes;
    }
  }
  return found;
}

}  // namespace causeway
