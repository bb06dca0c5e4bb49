#include "server/cluster/membership.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "server/cluster/launchers.h"
#include "server/cluster/variables.h"
#include "server/startup/address.h"

namespace causeway {
namespace {

struct Rendezvous {
  Address address;
  std::string by;  // "MASTER_ADDR=host"
};

absl::StatusOr<Rendezvous> FindRendezvous(const v1::ClusterConfig& config, const Variables& variables,
                                          const Launch& launch, int size) {
  Rendezvous rendezvous;
  if (!config.rendezvous().empty()) {
    const absl::StatusOr<Address> address = ParseAddress(config.rendezvous());
    if (!address.ok())
      return absl::InvalidArgumentError(absl::StrCat("cluster.rendezvous: ", address.status().message()));
    if (address->port == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "cluster.rendezvous: expected a port in [1, 65535], which all processes know, got ", config.rendezvous()));
    }
    return Rendezvous{*address, "cluster.rendezvous"};
  }
  const std::string host_by = launch.host.empty() ? "MASTER_ADDR" : launch.host_by;
  rendezvous.address.host = launch.host.empty() ? variables.Text("MASTER_ADDR") : launch.host;
  if (rendezvous.address.host.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("nothing says where the ", size, " processes meet",
                     launch.launcher.empty() ? "" : absl::StrCat(" (", launch.launcher, " doesn't)"),
                     ": give cluster.rendezvous (--rendezvous HOST:PORT) or MASTER_ADDR, the host of rank 0"));
  }
  rendezvous.by = variables.Pair(host_by);
  rendezvous.address.port = kRendezvousPort;
  const std::string port_by = launch.port_by.empty() ? "MASTER_PORT" : launch.port_by;
  if (!variables.Has(port_by)) return rendezvous;
  CAUSEWAY_ASSIGN_OR_RETURN(rendezvous.address.port, variables.Number(port_by));
  if (rendezvous.address.port < 1 || rendezvous.address.port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat("environment variable ", port_by,
                                                   ": expected a port in [1, 65535], got ", rendezvous.address.port));
  }
  return rendezvous;
}

}  // namespace

absl::StatusOr<Membership> ReadMembership(const v1::ClusterConfig& config,
                                          const std::map<std::string, std::string>& environment) {
  const bool has_size = config.size() > 0, has_rank = config.rank() >= 0;
  if (config.size() == 1 && !has_rank) return Membership{};
  const Variables variables(environment);
  std::optional<Launch> found;
  if (!has_size || !has_rank) {
    CAUSEWAY_ASSIGN_OR_RETURN(found, FindLaunch(variables, has_size));
  }
  const Launch launch = found.value_or(Launch{.size = 1});
  const int size = has_size ? static_cast<int>(config.size()) : launch.size;
  const int rank = has_rank ? static_cast<int>(config.rank()) : launch.rank;
  const std::string rank_text =
      has_rank || launch.rank_by.empty() ? absl::StrCat("cluster.rank=", rank) : variables.Pair(launch.rank_by);
  const std::string size_text =
      has_size || launch.size_by.empty() ? absl::StrCat("cluster.size=", size) : variables.Pair(launch.size_by);
  if (rank >= size) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected a rank below the size, got ", rank_text, " and ", size_text));
  }
  if (size == 1) return Membership{};
  CAUSEWAY_ASSIGN_OR_RETURN(const Rendezvous rendezvous, FindRendezvous(config, variables, launch, size));
  Membership membership{.rank = rank,
                        .size = size,
                        .local_rank = launch.local_rank,
                        .local_size = launch.local_size,
                        .rendezvous_host = rendezvous.address.host,
                        .rendezvous_port = rendezvous.address.port};
  membership.agent_store = launch.launcher == "torchrun" && config.rendezvous().empty() &&
                           variables.Text("TORCHELASTIC_USE_AGENT_STORE") == "True";
  membership.source = absl::StrCat(launch.launcher.empty() ? "configuration" : launch.launcher, ": ", rank_text, " of ",
                                   size_text, ", rendezvous at ", rendezvous.address.ToString(), " by ", rendezvous.by);
  return membership;
}

}  // namespace causeway
