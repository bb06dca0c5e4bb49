#include "server/cluster/slurm.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace causeway {

absl::StatusOr<std::string> FirstHost(absl::string_view nodes) {
  const absl::Status wrong =
      absl::InvalidArgumentError(absl::StrCat("expected a list of hosts such as node[03-05,9], got \"", nodes, "\""));
  std::string host;
  for (absl::string_view rest = nodes; !rest.empty() && rest.front() != ',';) {
    const size_t end = rest.find_first_of(",[]");
    absl::StrAppend(&host, rest.substr(0, end));
    rest.remove_prefix(end == absl::string_view::npos ? rest.size() : end);
    if (rest.empty() || rest.front() == ',') break;
    const size_t close = rest.find(']');
    if (rest.front() == ']' || close == absl::string_view::npos) return wrong;
    const absl::string_view ranges = rest.substr(1, close - 1);
    const absl::string_view first = ranges.substr(0, ranges.find_first_of("-,"));
    if (first.empty()) return wrong;
    absl::StrAppend(&host, first);
    rest.remove_prefix(close + 1);
  }
  if (host.empty()) return wrong;
  return host;
}

absl::StatusOr<int> TasksOnNode(absl::string_view tasks, int node) {
  const absl::Status wrong = absl::InvalidArgumentError(
      absl::StrCat("expected the tasks of node ", node, " and others, such as 2(x3),1, got \"", tasks, "\""));
  int nodes = 0;
  for (absl::string_view part : absl::StrSplit(tasks, ',')) {
    const size_t bracket = part.find("(x");
    int count = 0, times = 1;
    if (!absl::SimpleAtoi(part.substr(0, bracket), &count) || count < 0) return wrong;
    if (bracket != absl::string_view::npos) {
      part.remove_prefix(bracket + 2);
      if (!absl::ConsumeSuffix(&part, ")") || !absl::SimpleAtoi(part, &times) || times < 1) return wrong;
    }
    if (node - nodes < times) return count;
    nodes += times;
  }
  return wrong;
}

}  // namespace causeway
