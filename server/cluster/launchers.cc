#include "server/cluster/launchers.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "server/cluster/slurm.h"

namespace causeway {
namespace {

using MaybeLaunch = absl::StatusOr<std::optional<Launch>>;

absl::Status CheckBelow(const Variables& variables, const Launch& launch, absl::string_view rank_by, int rank,
                        absl::string_view size_by, int size) {
  if (rank < size) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(launch.launcher, ": expected ", rank_by, " below ", size_by, ", got ",
                                                 variables.Pair(rank_by), " and ", variables.Pair(size_by)));
}

// Reads rank and size, for a launcher whose variables are all set.
absl::StatusOr<Launch> ReadLaunch(const Variables& variables, std::string launcher, std::string rank_by,
                                  std::string size_by) {
  Launch launch{.launcher = std::move(launcher), .rank_by = std::move(rank_by), .size_by = std::move(size_by)};
  CAUSEWAY_ASSIGN_OR_RETURN(launch.rank, variables.Number(launch.rank_by));
  CAUSEWAY_ASSIGN_OR_RETURN(launch.size, variables.Number(launch.size_by));
  CAUSEWAY_RETURN_IF_ERROR(CheckBelow(variables, launch, launch.rank_by, launch.rank, launch.size_by, launch.size));
  return launch;
}

absl::Status ReadLocal(const Variables& variables, absl::string_view rank_by, absl::string_view size_by,
                       Launch* launch) {
  CAUSEWAY_ASSIGN_OR_RETURN(launch->local_rank, variables.Number(rank_by));
  CAUSEWAY_ASSIGN_OR_RETURN(launch->local_size, variables.Number(size_by));
  return CheckBelow(variables, *launch, rank_by, launch->local_rank, size_by, launch->local_size);
}

MaybeLaunch ReadTorchrun(const Variables& variables) {
  CAUSEWAY_ASSIGN_OR_RETURN(const bool set,
                            variables.AllSet("torchrun", {"TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "LOCAL_RANK",
                                                          "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}));
  if (!set) return std::nullopt;
  CAUSEWAY_ASSIGN_OR_RETURN(Launch launch, ReadLaunch(variables, "torchrun", "RANK", "WORLD_SIZE"));
  CAUSEWAY_RETURN_IF_ERROR(ReadLocal(variables, "LOCAL_RANK", "LOCAL_WORLD_SIZE", &launch));
  return launch;
}

MaybeLaunch ReadOpenMpi(const Variables& variables) {
  CAUSEWAY_ASSIGN_OR_RETURN(const bool set,
                            variables.AllSet("Open MPI", {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                                                          "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"}));
  if (!set) return std::nullopt;
  CAUSEWAY_ASSIGN_OR_RETURN(Launch launch,
                            ReadLaunch(variables, "Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"));
  CAUSEWAY_RETURN_IF_ERROR(ReadLocal(variables, "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE", &launch));
  return launch;
}

absl::Status Named(absl::string_view variable, const absl::Status& status) {
  return absl::InvalidArgumentError(absl::StrCat("environment variable ", variable, ": ", status.message()));
}

// The variables of the step, and not of the job: SLURM_NTASKS is what a job was given, also in its batch script and its
// interactive shell, which are single processes.
MaybeLaunch ReadSlurm(const Variables& variables) {
  if (!variables.Has("SLURM_STEP_NUM_TASKS")) {
    // A batch script is no step, and has rank 0.
    if (!variables.Has("SLURM_PROCID") || variables.Text("SLURM_PROCID") == "0") return std::nullopt;
  } else if (variables.Text("SLURM_STEP_NUM_TASKS") == "1") {
    return std::nullopt;
  }
  CAUSEWAY_RETURN_IF_ERROR(variables
                               .AllSet("Slurm", {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID",
                                                 "SLURM_NODEID", "SLURM_STEP_TASKS_PER_NODE", "SLURM_STEP_NODELIST"})
                               .status());
  CAUSEWAY_ASSIGN_OR_RETURN(Launch launch, ReadLaunch(variables, "Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"));
  CAUSEWAY_ASSIGN_OR_RETURN(const int node, variables.Number("SLURM_NODEID"));
  CAUSEWAY_ASSIGN_OR_RETURN(launch.local_rank, variables.Number("SLURM_LOCALID"));
  const absl::StatusOr<int> local_size = TasksOnNode(variables.Text("SLURM_STEP_TASKS_PER_NODE"), node);
  if (!local_size.ok()) return Named("SLURM_STEP_TASKS_PER_NODE", local_size.status());
  launch.local_size = *local_size;
  CAUSEWAY_RETURN_IF_ERROR(CheckBelow(variables, launch, "SLURM_LOCALID", launch.local_rank,
                                      "SLURM_STEP_TASKS_PER_NODE", launch.local_size));
  if (variables.Has("MASTER_ADDR")) return launch;  // which scripts set where the first host is not the right one
  const absl::StatusOr<std::string> host = FirstHost(variables.Text("SLURM_STEP_NODELIST"));
  if (!host.ok()) return Named("SLURM_STEP_NODELIST", host.status());
  launch.host = *host;
  launch.host_by = "SLURM_STEP_NODELIST";
  return launch;
}

MaybeLaunch ReadKubeflow(const Variables& variables) {
  CAUSEWAY_ASSIGN_OR_RETURN(const bool set, variables.AllSet("Kubeflow", {"PET_NODE_RANK", "PET_NNODES",
                                                                          "PET_MASTER_ADDR", "PET_MASTER_PORT"}));
  if (!set) return std::nullopt;
  CAUSEWAY_ASSIGN_OR_RETURN(Launch launch, ReadLaunch(variables, "Kubeflow", "PET_NODE_RANK", "PET_NNODES"));
  launch.host = variables.Text("PET_MASTER_ADDR");
  launch.host_by = "PET_MASTER_ADDR";
  launch.port_by = "PET_MASTER_PORT";
  return launch;
}

MaybeLaunch ReadLeaderWorkerSet(const Variables& variables) {
  CAUSEWAY_ASSIGN_OR_RETURN(const bool set, variables.AllSet("LeaderWorkerSet", {"LWS_WORKER_INDEX", "LWS_GROUP_SIZE",
                                                                                 "LWS_LEADER_ADDRESS"}));
  if (!set) return std::nullopt;
  CAUSEWAY_ASSIGN_OR_RETURN(Launch launch,
                            ReadLaunch(variables, "LeaderWorkerSet", "LWS_WORKER_INDEX", "LWS_GROUP_SIZE"));
  launch.host = variables.Text("LWS_LEADER_ADDRESS");
  launch.host_by = "LWS_LEADER_ADDRESS";
  return launch;
}

MaybeLaunch ReadIndexedJob(const Variables& variables) {
  if (!variables.Has("JOB_COMPLETION_INDEX")) return std::nullopt;
  Launch launch{.launcher = "Indexed Job", .rank_by = "JOB_COMPLETION_INDEX"};
  CAUSEWAY_ASSIGN_OR_RETURN(launch.rank, variables.Number(launch.rank_by));
  return launch;
}

MaybeLaunch ReadScript(const Variables& variables) {
  CAUSEWAY_ASSIGN_OR_RETURN(const bool set, variables.AllSet("A script", {"RANK", "WORLD_SIZE"}));
  if (!set) return std::nullopt;
  CAUSEWAY_ASSIGN_OR_RETURN(Launch launch, ReadLaunch(variables, "script", "RANK", "WORLD_SIZE"));
  if (variables.Has("LOCAL_RANK") && variables.Has("LOCAL_WORLD_SIZE")) {
    CAUSEWAY_RETURN_IF_ERROR(ReadLocal(variables, "LOCAL_RANK", "LOCAL_WORLD_SIZE", &launch));
  }
  return launch;
}

absl::Status CheckAgree(const Variables& variables, const Launch& a, const Launch& b) {
  if (a.rank == b.rank && (a.size == b.size || a.size == 0 || b.size == 0)) return absl::OkStatus();
  const auto said = [&variables](const Launch& launch) {
    return absl::StrCat(launch.launcher, " says ", variables.Pair(launch.rank_by), launch.size_by.empty() ? "" : " of ",
                        launch.size_by.empty() ? "" : variables.Pair(launch.size_by));
  };
  return absl::InvalidArgumentError(
      absl::StrCat("two launchers contradict each other: ", said(a), ", and ", said(b),
                   ". cluster.size and cluster.rank (--cluster-size, --cluster-rank) together go before both"));
}

}  // namespace

absl::StatusOr<std::optional<Launch>> FindLaunch(const Variables& variables, bool size_is_known) {
  if (variables.Has("TORCHELASTIC_RUN_ID")) return ReadTorchrun(variables);
  CAUSEWAY_ASSIGN_OR_RETURN(std::optional<Launch> launch, ReadOpenMpi(variables));
  if (launch.has_value()) return launch;

  std::vector<Launch> found;
  const auto add = [&found](MaybeLaunch read) {
    if (read.ok() && read->has_value() && (*read)->size != 1) found.push_back(**std::move(read));
    return std::move(read).status();
  };
  CAUSEWAY_RETURN_IF_ERROR(add(ReadSlurm(variables)));
  if (found.empty()) {
    CAUSEWAY_RETURN_IF_ERROR(add(ReadKubeflow(variables)));
    CAUSEWAY_RETURN_IF_ERROR(add(ReadLeaderWorkerSet(variables)));
    if (size_is_known) CAUSEWAY_RETURN_IF_ERROR(add(ReadIndexedJob(variables)));
  }
  CAUSEWAY_RETURN_IF_ERROR(add(ReadScript(variables)));
  if (found.empty()) return std::nullopt;
  for (const Launch& other : found) CAUSEWAY_RETURN_IF_ERROR(CheckAgree(variables, found.front(), other));
  return found.front();
}

}  // namespace causeway
