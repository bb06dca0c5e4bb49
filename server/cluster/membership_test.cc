#include "server/cluster/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "server/startup/fields.h"

namespace causeway {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Environment = std::map<std::string, std::string>;

v1::ClusterConfig Config(int size = 0, int rank = -1, const std::string& rendezvous = "") {
  v1::ClusterConfig config = DefaultConfig().cluster();
  config.set_size(size);
  config.set_rank(rank);
  config.set_rendezvous(rendezvous);
  return config;
}

std::string ErrorOf(const v1::ClusterConfig& config, const Environment& environment) {
  const absl::StatusOr<Membership> read = ReadMembership(config, environment);
  if (read.ok()) return absl::StrCat("none: rank ", read->rank, " of ", read->size, " by ", read->source);
  EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument) << read.status();
  return std::string(read.status().message());
}

// "RANK of SIZE, LOCAL_RANK of LOCAL_SIZE here, HOST:PORT", "(agent)" where the launcher holds the store; "alone" only
// for a Membership that is as it begins.
std::string Read(const v1::ClusterConfig& config, const Environment& environment, std::string* source = nullptr) {
  const absl::StatusOr<Membership> read = ReadMembership(config, environment);
  if (!read.ok()) return read.status().ToString();
  if (source != nullptr) *source = read->source;
  const Membership& m = *read;
  if (m.size == 1 && m.rank == 0 && m.local_rank == 0 && m.local_size == 1 && m.rendezvous_host.empty() &&
      m.rendezvous_port == 0 && !m.agent_store && m.source.empty())
    return "alone";
  return absl::StrCat(m.rank, " of ", m.size, ", ", m.local_rank, " of ", m.local_size, " here, ", m.rendezvous_host,
                      ":", m.rendezvous_port, m.agent_store ? " (agent)" : "");
}

Environment Merge(Environment a, const Environment& b) {
  for (const auto& [name, value] : b) a[name] = value;
  return a;
}
Environment Without(Environment a, const std::string& name) {
  a.erase(name);
  return a;
}

// Two hosts with two processes each.
Environment Torchrun(int rank) {
  return {{"RANK", absl::StrCat(rank)},
          {"WORLD_SIZE", "4"},
          {"LOCAL_RANK", absl::StrCat(rank % 2)},
          {"LOCAL_WORLD_SIZE", "2"},
          {"GROUP_RANK", absl::StrCat(rank / 2)},
          {"GROUP_WORLD_SIZE", "2"},
          {"ROLE_RANK", absl::StrCat(rank)},
          {"ROLE_WORLD_SIZE", "4"},
          {"ROLE_NAME", "default"},
          {"MASTER_ADDR", "10.0.0.1"},
          {"MASTER_PORT", "29400"},
          {"TORCHELASTIC_RESTART_COUNT", "0"},
          {"TORCHELASTIC_MAX_RESTARTS", "0"},
          {"TORCHELASTIC_RUN_ID", "none"},
          {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
}

Environment OpenMpi(int rank) {
  return {{"OMPI_COMM_WORLD_RANK", absl::StrCat(rank)},           {"OMPI_COMM_WORLD_SIZE", "4"},
          {"OMPI_COMM_WORLD_LOCAL_RANK", absl::StrCat(rank % 2)}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
          {"OMPI_COMM_WORLD_NODE_RANK", absl::StrCat(rank % 2)},  {"OMPI_UNIVERSE_SIZE", "4"}};
}

// What every process of a job has, also a batch script and an interactive shell.
Environment SlurmJob() {
  return {{"SLURM_JOB_ID", "200505"},
          {"SLURM_JOB_NUM_NODES", "3"},
          {"SLURM_NNODES", "3"},
          {"SLURM_JOB_NODELIST", "node[02-05,9]"},
          {"SLURM_NODELIST", "node[02-05,9]"},
          {"SLURM_NTASKS", "5"},
          {"SLURM_NPROCS", "5"},
          {"SLURM_TASKS_PER_NODE", "2(x2),1"}};
}

Environment SlurmTask(int rank) {
  return Merge(SlurmJob(), {{"SLURM_STEP_ID", "0"},
                            {"SLURM_STEPID", "0"},
                            {"SLURM_STEP_NODELIST", "node[03-05]"},
                            {"SLURM_STEP_NUM_NODES", "3"},
                            {"SLURM_STEP_NUM_TASKS", "5"},
                            {"SLURM_STEP_TASKS_PER_NODE", "2(x2),1"},
                            {"SLURM_NODEID", absl::StrCat(rank / 2)},
                            {"SLURM_PROCID", absl::StrCat(rank)},
                            {"SLURM_LOCALID", absl::StrCat(rank % 2)}});
}

Environment SlurmBatchScript() {
  return Merge(SlurmJob(),
               {{"SLURM_NODEID", "0"}, {"SLURM_PROCID", "0"}, {"SLURM_LOCALID", "0"}, {"ENVIRONMENT", "BATCH"}});
}

// A shell that salloc gives; its step has the number of interactive steps, and one task.
Environment SlurmShell() {
  return Merge(SlurmBatchScript(), {{"SLURM_STEP_ID", "4294967290"},
                                    {"SLURM_STEP_NODELIST", "node03"},
                                    {"SLURM_STEP_NUM_NODES", "1"},
                                    {"SLURM_STEP_NUM_TASKS", "1"},
                                    {"SLURM_STEP_TASKS_PER_NODE", "1"}});
}

Environment Kubeflow(int rank, const std::string& nodes = "2") {
  return {{"PET_NNODES", nodes},
          {"PET_NPROC_PER_NODE", "auto"},
          {"PET_NODE_RANK", absl::StrCat(rank)},
          {"PET_MASTER_ADDR", "serve-node-0-0.serve"},
          {"PET_MASTER_PORT", "29501"},
          {"JOB_COMPLETION_INDEX", absl::StrCat(rank)}};
}

Environment LeaderWorkerSet(int rank, const std::string& size = "2") {
  return {{"LWS_LEADER_ADDRESS", "serve-0.serve.default"},
          {"LWS_GROUP_SIZE", size},
          {"LWS_WORKER_INDEX", absl::StrCat(rank)}};
}

// PyTorchJob, and scripts.
Environment Script(int rank) {
  return {
      {"RANK", absl::StrCat(rank)}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "serve-master-0"}, {"MASTER_PORT", "23456"}};
}

struct Case {
  std::string what;
  v1::ClusterConfig config;
  Environment environment;
  std::string expected;
};

TEST(Membership, ReadsWhatLaunchersSet) {
  const Environment index0 = {{"JOB_COMPLETION_INDEX", "0"}}, index1 = {{"JOB_COMPLETION_INDEX", "1"}};
  const std::vector<Case> cases = {
      {"no launcher", Config(), {}, "alone"},
      {"torchrun, first", Config(), Torchrun(0), "0 of 4, 0 of 2 here, 10.0.0.1:29400 (agent)"},
      {"torchrun, last", Config(), Torchrun(3), "3 of 4, 1 of 2 here, 10.0.0.1:29400 (agent)"},
      {"torchrun without a store", Config(), Merge(Torchrun(1), {{"TORCHELASTIC_USE_AGENT_STORE", "False"}}),
       "1 of 4, 1 of 2 here, 10.0.0.1:29400"},
      {"torchrun, IPv6", Config(), Merge(Torchrun(1), {{"MASTER_ADDR", "fd00::1"}}),
       "1 of 4, 1 of 2 here, fd00::1:29400 (agent)"},
      {"mpirun, first", Config(), Merge(OpenMpi(0), {{"MASTER_ADDR", "a"}}), "0 of 4, 0 of 2 here, a:29500"},
      {"mpirun, last", Config(), Merge(OpenMpi(3), {{"MASTER_ADDR", "a"}, {"MASTER_PORT", "7"}}),
       "3 of 4, 1 of 2 here, a:7"},
      {"mpirun with a rendezvous", Config(0, -1, "b:8"), OpenMpi(2), "2 of 4, 0 of 2 here, b:8"},
      {"srun, first", Config(), SlurmTask(0), "0 of 5, 0 of 2 here, node03:29500"},
      {"srun, second host", Config(), SlurmTask(3), "3 of 5, 1 of 2 here, node03:29500"},
      {"srun, last host", Config(), SlurmTask(4), "4 of 5, 0 of 1 here, node03:29500"},
      {"srun with a port", Config(), Merge(SlurmTask(1), {{"MASTER_PORT", "12345"}}),
       "1 of 5, 1 of 2 here, node03:12345"},
      {"srun with a host", Config(), Merge(SlurmTask(1), {{"MASTER_ADDR", "node04"}}),
       "1 of 5, 1 of 2 here, node04:29500"},
      {"Kubeflow, first", Config(), Kubeflow(0), "0 of 2, 0 of 1 here, serve-node-0-0.serve:29501"},
      {"Kubeflow, last", Config(), Kubeflow(1), "1 of 2, 0 of 1 here, serve-node-0-0.serve:29501"},
      {"LeaderWorkerSet, first", Config(), LeaderWorkerSet(0), "0 of 2, 0 of 1 here, serve-0.serve.default:29500"},
      {"LeaderWorkerSet, last", Config(), LeaderWorkerSet(1), "1 of 2, 0 of 1 here, serve-0.serve.default:29500"},
      {"Indexed Job, first", Config(2, -1, "serve-0.serve:29500"), index0, "0 of 2, 0 of 1 here, serve-0.serve:29500"},
      {"Indexed Job, last", Config(2, -1, "serve-0.serve:29500"), index1, "1 of 2, 0 of 1 here, serve-0.serve:29500"},
      {"PyTorchJob, first", Config(), Script(0), "0 of 2, 0 of 1 here, serve-master-0:23456"},
      {"PyTorchJob, last", Config(), Script(1), "1 of 2, 0 of 1 here, serve-master-0:23456"},
      {"a script with local ranks", Config(), Merge(Script(1), {{"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "2"}}),
       "1 of 2, 1 of 2 here, serve-master-0:23456"},
  };
  for (const Case& c : cases) EXPECT_EQ(Read(c.config, c.environment), c.expected) << c.what;
}

TEST(Membership, OneProcessIsNoGroup) {
  const std::vector<Case> cases = {
      {"a shell in which salloc was called", Config(), SlurmJob(), ""},
      {"an interactive shell", Config(), SlurmShell(), ""},
      {"a batch script", Config(), SlurmBatchScript(), ""},
      {"srun of one task", Config(), Merge(SlurmShell(), {{"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "1"}}), ""},
      {"srun of one task, with a part of the variables", Config(), {{"SLURM_STEP_NUM_TASKS", "1"}}, ""},
      {"a pod of an Indexed Job", Config(), {{"JOB_COMPLETION_INDEX", "3"}}, ""},
      {"a LeaderWorkerSet of one", Config(), LeaderWorkerSet(0, "1"), ""},
      {"Kubeflow with one node", Config(), Kubeflow(0, "1"), ""},
      {"torchrun of one", Config(), Merge(Torchrun(0), {{"WORLD_SIZE", "1"}, {"LOCAL_WORLD_SIZE", "1"}}), ""},
      {"torchrun of one in each task", Config(),
       Merge(SlurmTask(3), Merge(Torchrun(0), {{"WORLD_SIZE", "1"}, {"LOCAL_WORLD_SIZE", "1"}})), ""},
      {"mpirun of one", Config(),
       Merge(OpenMpi(0), {{"OMPI_COMM_WORLD_SIZE", "1"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "1"}}), ""},
      {"the configuration says so", Config(1), SlurmTask(3), ""},
      {"the configuration says so, with a rank", Config(1, 0, "a:1"), Torchrun(3), ""},
      {"variables that are empty", Config(), {{"RANK", ""}, {"LWS_GROUP_SIZE", ""}, {"PET_NNODES", ""}}, ""},
  };
  for (const Case& c : cases) EXPECT_EQ(Read(c.config, c.environment), "alone") << c.what;
}

TEST(Membership, TheInnermostLauncherIsBelieved) {
  const std::string torchrun3 = "3 of 4, 1 of 2 here, 10.0.0.1:29400 (agent)";
  const std::vector<Case> cases = {
      {"torchrun under srun", Config(), Merge(SlurmTask(1), Torchrun(3)), torchrun3},
      {"torchrun under mpirun", Config(), Merge(OpenMpi(1), Torchrun(3)), torchrun3},
      {"torchrun in a pod of Kubeflow", Config(), Merge(Kubeflow(1), Torchrun(3)), torchrun3},
      {"torchrun in an elastic PyTorchJob", Config(), Merge({{"PET_NNODES", "1:2"}}, Torchrun(3)), torchrun3},
      {"torchrun in a LeaderWorkerSet", Config(), Merge(LeaderWorkerSet(1), Torchrun(3)), torchrun3},
      {"torchrun in an Indexed Job", Config(4), Merge({{"JOB_COMPLETION_INDEX", "1"}}, Torchrun(3)), torchrun3},
      {"mpirun under srun", Config(0, -1, "a:1"), Merge(SlurmTask(1), OpenMpi(3)), "3 of 4, 1 of 2 here, a:1"},
      {"srun in a LeaderWorkerSet", Config(), Merge(LeaderWorkerSet(1), SlurmTask(4)),
       "4 of 5, 0 of 1 here, node03:29500"},
      {"a script in an interactive shell", Config(), Merge(SlurmShell(), Script(1)),
       "1 of 2, 0 of 1 here, serve-master-0:23456"},
      {"a script in a pod by itself", Config(), Merge(LeaderWorkerSet(0, "1"), Script(1)),
       "1 of 2, 0 of 1 here, serve-master-0:23456"},
      {"a script that agrees with srun", Config(),
       Merge(SlurmTask(3), {{"RANK", "3"}, {"WORLD_SIZE", "5"}, {"LOCAL_RANK", "1"}, {"MASTER_ADDR", "node03"}}),
       "3 of 5, 1 of 2 here, node03:29500"},
      {"a script that agrees with LeaderWorkerSet", Config(),
       Merge(LeaderWorkerSet(1), {{"RANK", "1"}, {"WORLD_SIZE", "2"}}),
       "1 of 2, 0 of 1 here, serve-0.serve.default:29500"},
  };
  for (const Case& c : cases) EXPECT_EQ(Read(c.config, c.environment), c.expected) << c.what;
}

TEST(Membership, TheConfigurationGoesBeforeLaunchers) {
  const std::vector<Case> cases = {
      {"by itself", Config(2, 1, "a:1"), {}, "1 of 2, 0 of 1 here, a:1"},
      {"rank 0 where nobody says one", Config(2, -1, "[::1]:9"), {}, "0 of 2, 0 of 1 here, ::1:9"},
      {"with MASTER_ADDR", Config(3, 2), {{"MASTER_ADDR", "a"}}, "2 of 3, 0 of 1 here, a:29500"},
      {"all", Config(2, 1, "a:1"), Torchrun(3), "1 of 2, 0 of 1 here, a:1"},
      {"the size", Config(8), SlurmTask(3), "3 of 8, 1 of 2 here, node03:29500"},
      {"the rank", Config(0, 0), SlurmTask(3), "0 of 5, 1 of 2 here, node03:29500"},
      {"the rendezvous", Config(0, -1, "a:1"), Torchrun(3), "3 of 4, 1 of 2 here, a:1"},
      {"all before a contradiction", Config(2, 1, "a:1"), Merge(SlurmTask(3), {{"RANK", "0"}, {"WORLD_SIZE", "5"}}),
       "1 of 2, 0 of 1 here, a:1"},
      {"all before a half", Config(2, 1, "a:1"), {{"RANK", "0"}}, "1 of 2, 0 of 1 here, a:1"},
  };
  for (const Case& c : cases) EXPECT_EQ(Read(c.config, c.environment), c.expected) << c.what;
}

TEST(Membership, SaysWhatItRead) {
  const std::vector<Case> cases = {
      {"", Config(), Torchrun(1),
       "torchrun: RANK=1 of WORLD_SIZE=4, rendezvous at 10.0.0.1:29400 by MASTER_ADDR=10.0.0.1"},
      {"", Config(), SlurmTask(3),
       "Slurm: SLURM_PROCID=3 of SLURM_STEP_NUM_TASKS=5, rendezvous at node03:29500 by "
       "SLURM_STEP_NODELIST=node[03-05]"},
      {"", Config(8, -1, "[::1]:9"), SlurmTask(3),
       "Slurm: SLURM_PROCID=3 of cluster.size=8, rendezvous at [::1]:9 by cluster.rendezvous"},
      {"",
       Config(2, 1, "a:1"),
       {},
       "configuration: cluster.rank=1 of cluster.size=2, rendezvous at a:1 by cluster.rendezvous"},
  };
  for (const Case& c : cases) {
    std::string source;
    Read(c.config, c.environment, &source);
    EXPECT_EQ(source, c.expected);
  }
}

TEST(Membership, ContradictionsNameBoth) {
  // A script that sets its rank before srun gives all tasks the same one.
  EXPECT_EQ(ErrorOf(Config(), Merge(SlurmTask(3), {{"RANK", "0"}, {"WORLD_SIZE", "5"}})),
            "two launchers contradict each other: Slurm says SLURM_PROCID=3 of SLURM_STEP_NUM_TASKS=5, and script says "
            "RANK=0 of WORLD_SIZE=5. cluster.size and cluster.rank (--cluster-size, --cluster-rank) together go before "
            "both");
  EXPECT_THAT(ErrorOf(Config(), Merge(LeaderWorkerSet(1), {{"RANK", "1"}, {"WORLD_SIZE", "4"}})),
              AllOf(HasSubstr("LWS_WORKER_INDEX=1 of LWS_GROUP_SIZE=2"), HasSubstr("RANK=1 of WORLD_SIZE=4")));
  EXPECT_THAT(ErrorOf(Config(), Merge(LeaderWorkerSet(1, "3"), Kubeflow(1))),
              AllOf(HasSubstr("PET_NODE_RANK=1 of PET_NNODES=2"), HasSubstr("LWS_WORKER_INDEX=1 of LWS_GROUP_SIZE=3")));
  EXPECT_THAT(
      ErrorOf(Config(2), Merge(Kubeflow(1), {{"JOB_COMPLETION_INDEX", "0"}})),
      AllOf(HasSubstr("PET_NODE_RANK=1 of PET_NNODES=2"), HasSubstr("Indexed Job says JOB_COMPLETION_INDEX=0.")));
}

TEST(Membership, HalfALauncherIsRefused) {
  int refused = 0;
  const auto expect_each = [&refused](const Environment& whole, const std::vector<std::string>& needed) {
    for (const std::string& name : needed) {
      const std::string error = ErrorOf(Config(), Without(whole, name));
      EXPECT_THAT(error, HasSubstr(absl::StrCat("and no ", name, ". cluster.size"))) << name;
      EXPECT_THAT(error, ::testing::ContainsRegex("the environment has [A-Z_]+=")) << name;
      ++refused;
    }
  };
  expect_each(Torchrun(1), {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"});
  expect_each(OpenMpi(1), {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                           "OMPI_COMM_WORLD_LOCAL_SIZE"});
  expect_each(SlurmTask(1), {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NODEID",
                             "SLURM_STEP_TASKS_PER_NODE", "SLURM_STEP_NODELIST"});
  expect_each(Kubeflow(1), {"PET_NODE_RANK", "PET_NNODES", "PET_MASTER_ADDR", "PET_MASTER_PORT"});
  expect_each(LeaderWorkerSet(1), {"LWS_WORKER_INDEX", "LWS_GROUP_SIZE", "LWS_LEADER_ADDRESS"});
  expect_each(Script(1), {"RANK", "WORLD_SIZE"});
  EXPECT_EQ(refused, 25);
  EXPECT_EQ(
      ErrorOf(Config(), {{"RANK", "1"}}),
      "A script sets RANK together with WORLD_SIZE, but the environment has RANK=1 and no WORLD_SIZE. cluster.size "
      "and cluster.rank (--cluster-size, --cluster-rank) together take the place of what launchers say");
}

TEST(Membership, WrongValuesAreNamed) {
  for (const std::string text : {"x", "-1", "1.5", " 1", "12345678", "+1"}) {
    EXPECT_EQ(ErrorOf(Config(), Merge(Script(0), {{"RANK", text}})),
              absl::StrCat("environment variable RANK: expected a whole number in [0, 9999999], got \"", text, "\""));
  }
  const std::vector<Case> cases = {
      {"", Config(), Merge(Script(0), {{"RANK", "2"}}),
       "script: expected RANK below WORLD_SIZE, got RANK=2 and WORLD_SIZE=2"},
      {"", Config(), Merge(Torchrun(0), {{"LOCAL_RANK", "2"}}), "got LOCAL_RANK=2 and LOCAL_WORLD_SIZE=2"},
      {"", Config(), Merge(SlurmTask(0), {{"SLURM_LOCALID", "2"}}),
       "got SLURM_LOCALID=2 and SLURM_STEP_TASKS_PER_NODE=2(x2),1"},
      {"", Config(), Merge(SlurmTask(0), {{"SLURM_NODEID", "3"}}),
       "environment variable SLURM_STEP_TASKS_PER_NODE: expected the tasks of node 3"},
      {"", Config(), Merge(SlurmTask(0), {{"SLURM_STEP_NODELIST", "node["}}),
       "environment variable SLURM_STEP_NODELIST: expected a list of hosts"},
      {"", Config(), Merge(Kubeflow(0), {{"PET_NNODES", "1:2"}}),
       "PET_NNODES: expected a whole number in [0, 9999999], got \"1:2\""},
      {"", Config(), Merge(Script(0), {{"WORLD_SIZE", "0"}}), "got RANK=0 and WORLD_SIZE=0"},
      {"", Config(0, 1), {}, "expected a rank below the size, got cluster.rank=1 and cluster.size=1"},
      {"", Config(2, 2, "a:1"), {}, "got cluster.rank=2 and cluster.size=2"},
      {"", Config(2), SlurmTask(3), "got SLURM_PROCID=3 and cluster.size=2"},
      {"", Config(2, -1, "a:1"), {{"JOB_COMPLETION_INDEX", "4"}}, "got JOB_COMPLETION_INDEX=4 and cluster.size=2"},
      {"", Config(), OpenMpi(1),
       "nothing says where the 4 processes meet (Open MPI doesn't): give cluster.rendezvous (--rendezvous HOST:PORT) "
       "or "
       "MASTER_ADDR, the host of rank 0"},
      {"", Config(2, 1), {}, "nothing says where the 2 processes meet: give"},
      {"", Config(2, 1, "a"), {}, "cluster.rendezvous: expected HOST:PORT"},
      {"",
       Config(2, 1, "a:0"),
       {},
       "cluster.rendezvous: expected a port in [1, 65535], which all processes know, got a:0"},
      {"", Config(), Merge(Script(0), {{"MASTER_PORT", "65536"}}),
       "MASTER_PORT: expected a port in [1, 65535], got 65536"},
      {"", Config(), Merge(Kubeflow(0), {{"PET_MASTER_PORT", "0"}}),
       "PET_MASTER_PORT: expected a port in [1, 65535], got 0"},
      // Kubernetes sets this for a Service that is called master.
      {"", Config(), Merge(Script(0), {{"MASTER_PORT", "tcp://10.3.4.5:1"}}), "MASTER_PORT: expected a whole number"},
  };
  for (const Case& c : cases) EXPECT_THAT(ErrorOf(c.config, c.environment), HasSubstr(c.expected));
}

}  // namespace
}  // namespace causeway
