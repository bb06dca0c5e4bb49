// What launchers tell the processes that they start, by environment variables.
#ifndef CAUSEWAY_SERVER_CLUSTER_LAUNCHERS_H_
#define CAUSEWAY_SERVER_CLUSTER_LAUNCHERS_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/cluster/variables.h"

namespace causeway {

struct Launch {
  std::string launcher;                            // "Slurm"
  std::string rank_by, size_by, host_by, port_by;  // the variables that say so; empty where none does
  int rank = 0;
  int size = 0;  // 0: the launcher doesn't say
  int local_rank = 0, local_size = 1;
  std::string host;  // where rank 0 is reached; empty: the launcher doesn't say
};

// Finds out who started this process as one of a group, or nothing where no launcher did.
//
// torchrun (known by TORCHELASTIC_RUN_ID), Open MPI and Slurm's srun start processes of their own, also inside one
// another and inside a pod: mpirun and torchrun under srun, once a node, are usual. The variables of the outer launcher
// are then still there, and describe the process that started the inner one. So the innermost is believed, in this
// order, and the others are not read.
//
// Kubeflow (PET_*), LeaderWorkerSet and Indexed Jobs describe a pod, and count one process in each. A pod has one
// owner, and one of them inside another is a Kubeflow Trainer on Jobs, where both give the pod one rank. And RANK with
// WORLD_SIZE without torchrun come from scripts and from PyTorchJob, and describe this process like srun or the pod
// does. Those that describe the same process have to agree: if their ranks or sizes differ, that is an InvalidArgument
// with both.
//
// Who counts one process says nothing of a group. So a daemon that is started by hand in an interactive shell of Slurm
// (a step of one task), in a batch script (no step) or in a pod is alone. Indexed Jobs say no size, and many are no
// groups: JOB_COMPLETION_INDEX is read only where `size_is_known` otherwise.
//
// InvalidArgument: a launcher has set only a part of its variables, one is not a number, or its rank is not below its
// size.
absl::StatusOr<std::optional<Launch>> FindLaunch(const Variables& variables, bool size_is_known);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_LAUNCHERS_H_
