// Environment variables, read with errors that name them. An empty variable counts as unset.
#ifndef CAUSEWAY_SERVER_CLUSTER_VARIABLES_H_
#define CAUSEWAY_SERVER_CLUSTER_VARIABLES_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace causeway {

class Variables {
 public:
  // `environment` outlives this.
  explicit Variables(const std::map<std::string, std::string>& environment) : environment_(environment) {}

  // Returns "" where it is unset.
  const std::string& Text(absl::string_view name) const;
  bool Has(absl::string_view name) const { return !Text(name).empty(); }
  // Returns "NAME=VALUE".
  std::string Pair(absl::string_view name) const;

  // A whole number of at most seven digits. InvalidArgument names the variable, what was expected and what came.
  absl::StatusOr<int> Number(absl::string_view name) const;
  // Whether `names`, which `launcher` sets together, are set. InvalidArgument: some are, and others are not.
  absl::StatusOr<bool> AllSet(absl::string_view launcher, absl::Span<const absl::string_view> names) const;

 private:
  const std::map<std::string, std::string>& environment_;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_VARIABLES_H_
