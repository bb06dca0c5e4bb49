#include <unistd.h>

#include <fstream>
#include <iterator>

#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/threads/processors.h"
#include "server/cluster/leader.h"
#include "server/cluster/model_files.h"
#include "server/cluster/wire_stats.h"

namespace causeway {

absl::StatusOr<v1::Join> DescribeProcess(const LoadedConfig& loaded, const char* version, const Checkpoint& checkpoint,
                                         const std::vector<Device>& devices, const EngineOptions& options) {
  v1::Join join;
  join.set_version(version);
  char host[256] = {};
  gethostname(host, sizeof(host) - 1);
  join.set_host(host);
  join.set_address(loaded.config.cluster().address());
  for (const Device& device : devices) *join.add_devices() = ToWire(device);
  CAUSEWAY_ASSIGN_OR_RETURN(*join.mutable_files(), DescribeModel(checkpoint));
  join.set_cpu_threads(ThreadsFor(options.executor.cpu_threads));
  return join;
}

absl::StatusOr<std::string> ReadSecret(const LoadedConfig& loaded) {
  const std::string& path = loaded.config.cluster().secret_file();
  if (path.empty()) return std::string();
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::string secret(absl::StripAsciiWhitespace(text));
  if (!file.is_open() || secret.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(loaded.Where("cluster.secret_file"), ": ", path,
                                                   file.is_open() ? " is empty" : " cannot be read"));
  }
  return secret;
}

absl::StatusOr<Address> ControlAddress(const LoadedConfig& loaded, const Membership& membership) {
  const Address rendezvous{membership.rendezvous_host, membership.rendezvous_port};
  // An agent's store may be on another host.
  Address control{membership.agent_store ? AddressTowards(rendezvous) : rendezvous.host, 0};
  if (const std::string& text = loaded.config.cluster().control(); !text.empty()) {
    absl::StatusOr<Address> parsed = ParseAddress(text);
    if (!parsed.ok())
      return absl::InvalidArgumentError(absl::StrCat(loaded.Where("cluster.control"), ": ", parsed.status().message()));
    control = *parsed;
  }
  if (!loaded.config.cluster().secret_file().empty()) return control;
  for (const Address& address : {rendezvous, control}) {
    if (IsLoopbackHost(address.host)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(loaded.Where("cluster.secret_file"),
                     ": expected the file of a secret, since processes of other hosts can join at ", address.host,
                     ", got none; without one, only loopback is listened on"));
  }
  return control;
}

v1::Config WithoutFiles(v1::Config config, const PlanOptions& options) {
  if (options.device_map == "custom")
    config.mutable_placement()->set_device_map(nlohmann::json(options.custom_map).dump());
  return config;
}

std::string OwnAddress(const LoadedConfig& loaded, const Membership& membership) {
  const std::string& configured = loaded.config.cluster().address();
  return configured.empty() ? AddressTowards({membership.rendezvous_host, membership.rendezvous_port}) : configured;
}

std::string ConnectionsName(int64_t generation, int replica) {
  return absl::StrCat("causeway/generation-", generation, "/replica-", replica);
}

}  // namespace causeway
