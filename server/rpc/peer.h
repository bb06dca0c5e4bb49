// Where a call comes from.
#ifndef CAUSEWAY_SERVER_RPC_PEER_H_
#define CAUSEWAY_SERVER_RPC_PEER_H_

#include "absl/strings/string_view.h"

namespace causeway {

// `peer` is as gRPC writes it: "ipv4:127.0.0.1:5000", "ipv6:[::1]:5000" (or with %5B and %5D), "unix:...".
bool IsLoopback(absl::string_view peer);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_PEER_H_
