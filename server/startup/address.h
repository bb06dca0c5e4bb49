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

  std::string ToString() const;  // an IPv6 host in brackets
};

// "127.0.0.1:50051", "[::1]:0", "localhost:50051". InvalidArgument: "expected HOST:PORT ..., got ...".
absl::StatusOr<Address> ParseAddress(absl::string_view text);

// Binds the address and lets it go again. Unavailable: the kernel refuses, and why; InvalidArgument: the host is
// unknown.
absl::Status TryListening(const Address& address);

// Why a listener could not be opened there: binds the address once more and says what the kernel answers.
std::string ListenFailure(const Address& address);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_STARTUP_ADDRESS_H_
