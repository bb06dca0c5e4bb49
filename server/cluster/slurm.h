// The short forms in which Slurm writes lists.
#ifndef CAUSEWAY_SERVER_CLUSTER_SLURM_H_
#define CAUSEWAY_SERVER_CLUSTER_SLURM_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace causeway {

// Returns the first host of a list such as SLURM_STEP_NODELIST: "node03" of "node[03-05,9],gpu1", "r1n4" of
// "r[1-2]n[4,6]". InvalidArgument: there is none, or a bracket is not closed.
absl::StatusOr<std::string> FirstHost(absl::string_view nodes);

// Returns the number of tasks of a node, counted from 0, by a list such as SLURM_STEP_TASKS_PER_NODE: "2(x3),1" is 2,
// 2, 2, 1. InvalidArgument: the list is of another form, or has no such node.
absl::StatusOr<int> TasksOnNode(absl::string_view tasks, int node);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_SLURM_H_
