// HOST:PORT.
#ifndef CAUSEWAY_SERVER_STARTUP_ADDRESS_H_
#define CAUSEWAY_SERVER_STARTUP_ADDRESS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace causeway {

struct Address {
  std::string host;  // without brackets
  int port = 0;

  std::string ToString() const;  // puts an IPv6 host in brackets
};

// Parses "127.0.0.1:50051", "[::1]:0", "localhost:50051". InvalidArgument: "expected HOST:PORT ..., got ...".
absl::StatusOr<Address> ParseAddress(absl::string_view text);

// Whether the two cannot both be listened at: their ports are equal, and their hosts are, or one of them includes the
// other's, as 0.0.0.0 does. Port 0 overlaps with none.
bool Overlap(const Address& a, const Address& b);

// Binds the address and lets it go again. Unavailable: the kernel refuses, and why; InvalidArgument: the host is
// unknown.
absl::Status TryListening(const Address& address);

// Says why a listener could not be opened there: binds the address once more and returns what the kernel answers.
std::string ListenFailure(const Address& address);

// Whether the host is this machine alone, under every address that it has. An unknown one is not.
bool IsLoopbackHost(const std::string& host);

// The address of this machine from which it reaches another; empty where it cannot.
std::string AddressTowards(const Address& other);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_STARTUP_ADDRESS_H_
