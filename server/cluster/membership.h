// Which process of those that serve a model together this one is.
#ifndef CAUSEWAY_SERVER_CLUSTER_MEMBERSHIP_H_
#define CAUSEWAY_SERVER_CLUSTER_MEMBERSHIP_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "causeway/v1/config.pb.h"

namespace causeway {

// The port of the rendezvous where nobody says one; torch's default.
inline constexpr int kRendezvousPort = 29500;

struct Membership {
  int rank = 0, size = 1;              // rank 0 leads; size 1: a process alone, with all else as it is here
  int local_rank = 0, local_size = 1;  // among the processes of this host, as far as the launcher says
  std::string rendezvous_host;         // without brackets
  int rendezvous_port = 0;             // in [1, 65535] in a group
  bool agent_store = false;            // the launcher holds the store at the rendezvous: rank 0 connects to it, too
  std::string source;  // what was read, for the log: "torchrun: RANK=1 of WORLD_SIZE=2, rendezvous at h:29500 by
                       // MASTER_ADDR=h"; empty for a process alone
};

// Reads the configuration, with its defaults filled in, and what launchers have set (FindLaunch in launchers.h says
// whom it believes). A field of the configuration goes before a launcher, and where it has both size and rank,
// launchers are not asked, so that `local_rank` and `local_size` are those of a process alone on its host.
//
// The rendezvous is the first that is said of: the configuration's, the launcher's own (the first host of Slurm's step,
// the leader of a LeaderWorkerSet, PET_MASTER_ADDR), MASTER_ADDR; on Slurm, MASTER_ADDR goes before the first host. The
// port is the configuration's, or PET_MASTER_PORT, or MASTER_PORT, or kRendezvousPort.
//
// InvalidArgument: what FindLaunch says; the rank is not below the size; nobody says the rendezvous of a group, or it
// is no address. The messages name the variables or fields, and their values.
absl::StatusOr<Membership> ReadMembership(const v1::ClusterConfig& config,
                                          const std::map<std::string, std::string>& environment);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_MEMBERSHIP_H_
