#include "engine/architecture/module_names.h"

#include <algorithm>

#include <re2/re2.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/architecture/spelling.h"

namespace causeway {
namespace {

constexpr char kOfExpressions[] = "*+?[](){}|^$\\";
constexpr int64_t kExpressionBytes = 1 << 20;  // that compiling one may take

}  // namespace

absl::StatusOr<ModuleNames> ModuleNames::Make(const std::vector<std::string>& entries) {
  ModuleNames names;
  for (const std::string& entry : entries) {
    if (entry.find_first_of(kOfExpressions) == std::string::npos) {
      if (entry.find_first_not_of('.') != std::string::npos) names.entries_.push_back(entry);
      continue;
    }
    re2::RE2::Options options(re2::RE2::Quiet);
    options.set_max_mem(kExpressionBytes);
    const auto expression = std::make_shared<re2::RE2>(absl::StrCat("^(?:", entry, ")"), options);
    if (!expression->ok()) {
      return absl::InvalidArgumentError(absl::StrCat("\"", Printable(entry), "\" is no regular expression that can be ",
                                                     "followed: ", expression->error()));
    }
    names.expressions_.push_back(expression);
  }
  return names;
}

bool ModuleNames::Contains(absl::string_view path) const {
  const std::string dotted = absl::StrCat(".", path, ".");
  return std::any_of(entries_.begin(), entries_.end(),
                     [&](absl::string_view entry) {
                       if (absl::StartsWith(path, entry) || absl::EndsWith(path, entry)) return true;
                       while (absl::ConsumePrefix(&entry, ".") || absl::ConsumeSuffix(&entry, ".")) continue;
                       return absl::StrContains(dotted, absl::StrCat(".", entry, "."));
                     }) ||
         std::any_of(expressions_.begin(), expressions_.end(), [&](const auto& expression) {
           return re2::RE2::PartialMatch({path.data(), path.size()}, *expression);
         });
}

}  // namespace causeway
