// A process that follows: it joins the leader, loads its part of the model and computes what it is told to.
#ifndef CAUSEWAY_SERVER_CLUSTER_WORKER_H_
#define CAUSEWAY_SERVER_CLUSTER_WORKER_H_

#include <memory>

#include "absl/status/status.h"
#include "server/cluster/membership.h"
#include "server/startup/load_config.h"

namespace causeway {

class ClusterWorker {
 public:
  // `version` is causewayd's.
  static std::unique_ptr<ClusterWorker> Make(const LoadedConfig& loaded, const Membership& membership,
                                             const char* version);
  virtual ~ClusterWorker() = default;

  // Follows until the leader tells it to leave, which is OK. Else says why it cannot go on: Unavailable where the
  // leader is gone or hangs, FailedPrecondition where the processes do not fit together. Call it once. The process
  // should end soon after: threads may still wait for others that are gone.
  virtual absl::Status Run() = 0;
  // Tells the leader that this process was told to stop; the leader ends what runs, and then has it leave. False: there
  // is no leader yet to be told. Any thread.
  virtual bool RequestStop() = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_WORKER_H_
