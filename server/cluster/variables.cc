#include "server/cluster/variables.h"

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace causeway {

const std::string& Variables::Text(absl::string_view name) const {
  static const std::string& unset = *new std::string;
  const auto found = environment_.find(std::string(name));
  return found == environment_.end() ? unset : found->second;
}

std::string Variables::Pair(absl::string_view name) const { return absl::StrCat(name, "=", absl::CEscape(Text(name))); }

absl::StatusOr<int> Variables::Number(absl::string_view name) const {
  const std::string& text = Text(name);
  int number = 0;
  const bool digits = !text.empty() && text.size() <= 7 && absl::c_all_of(text, absl::ascii_isdigit);
  if (!digits || !absl::SimpleAtoi(text, &number)) {
    return absl::InvalidArgumentError(absl::StrCat("environment variable ", name,
                                                   ": expected a whole number in [0, 9999999], got \"",
                                                   absl::CEscape(text.substr(0, 100)), "\""));
  }
  return number;
}

absl::StatusOr<bool> Variables::AllSet(absl::string_view launcher, absl::Span<const absl::string_view> names) const {
  const auto set = absl::c_find_if(names, [this](absl::string_view name) { return Has(name); });
  const auto unset = absl::c_find_if(names, [this](absl::string_view name) { return !Has(name); });
  if (unset == names.end()) return true;
  if (set == names.end()) return false;
  return absl::InvalidArgumentError(absl::StrCat(launcher, " sets ", *set, " together with ", *unset,
                                                 ", but the environment has ", Pair(*set), " and no ", *unset,
                                                 ". cluster.size and cluster.rank (--cluster-size, --cluster-rank) "
                                                 "together take the place of what launchers say"));
}

}  // namespace causeway
