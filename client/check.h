// What the client refuses before it sends anything, in plainer words than gRPC and protobuf have for it.
#ifndef CAUSEWAY_CLIENT_CHECK_H_
#define CAUSEWAY_CLIENT_CHECK_H_

#include <string>

#include "absl/status/status.h"
#include "causeway/v1/generation.pb.h"

namespace causeway {

// InvalidArgument: the address is not HOST:PORT with a port in [1, 65535]. gRPC itself takes a port modulo 65536, and
// more forms.
absl::Status CheckAddress(const std::string& address);
// Takes an address that CheckAddress accepts.
bool IsLoopback(const std::string& address);
// InvalidArgument names the first text that is not valid UTF-8, and where. protobuf would only print a line of its own.
absl::Status CheckText(const v1::GenerateRequest& request);

}  // namespace causeway

#endif  // CAUSEWAY_CLIENT_CHECK_H_
