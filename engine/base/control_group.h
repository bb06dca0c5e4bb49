// Where the kernel keeps the limits of this process's control groups.
#ifndef CAUSEWAY_ENGINE_BASE_CONTROL_GROUP_H_
#define CAUSEWAY_ENGINE_BASE_CONTROL_GROUP_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace causeway {

struct ControlGroup {
  int version = 2;     // 1 or 2; the two have different files
  std::string folder;  // where the group's files are
};

// The process's groups for `controller` ("cpu", "memory"): its own and those around it up to the mount point, innermost
// first. The limits of all of them hold. Hybrid machines have groups of both versions, and a folder may lack the
// controller's files or be missing. Where no mount shows the process's group, as in some containers, the mount point is
// taken for it.
//
// Everything is read below `root`: "" is this machine; a test puts a folder there.
std::vector<ControlGroup> ControlGroups(const std::string& root, absl::string_view controller);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_CONTROL_GROUP_H_
