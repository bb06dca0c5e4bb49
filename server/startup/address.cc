#include "server/startup/address.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

struct FreeAddresses {
  void operator()(addrinfo* found) const { freeaddrinfo(found); }
};
using SocketAddresses = std::unique_ptr<addrinfo, FreeAddresses>;

absl::StatusOr<SocketAddresses> Resolve(const Address& address) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (int error = getaddrinfo(address.host.c_str(), absl::StrCat(address.port).c_str(), &hints, &found); error != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the host \"", address.host, "\" is unknown: ", gai_strerror(error)));
  }
  return SocketAddresses(found);
}

// "127.0.0.1", "::1"; none of an unknown host.
std::vector<std::string> NumericHosts(const Address& address) {
  std::vector<std::string> hosts;
  const absl::StatusOr<SocketAddresses> found = Resolve(address);
  if (!found.ok()) return hosts;
  for (const addrinfo* a = found->get(); a != nullptr; a = a->ai_next) {
    char host[NI_MAXHOST];
    if (getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof(host), nullptr, 0, NI_NUMERICHOST) == 0)
      hosts.push_back(host);
  }
  return hosts;
}

// Whether who listens at `host` listens at `other`, too. That of all IPv6 addresses takes IPv4 as well.
bool Includes(absl::string_view host, absl::string_view other) {
  return host == other || host == "::" || (host == "0.0.0.0" && !absl::StrContains(other, ':'));
}

}  // namespace

std::string Address::ToString() const {
  return absl::StrContains(host, ':') ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

absl::StatusOr<Address> ParseAddress(absl::string_view text) {
  const absl::Status wrong = absl::InvalidArgumentError(
      absl::StrCat("expected HOST:PORT with a port in [0, 65535], such as 127.0.0.1:50051 or [::1]:0, got \"",
                   absl::CEscape(text.substr(0, 100)), "\""));
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return wrong;
  absl::string_view host = text.substr(0, colon);
  if (absl::StartsWith(host, "[") && absl::EndsWith(host, "]")) {
    host = host.substr(1, host.size() - 2);
  } else if (absl::StrContains(host, ':')) {
    return wrong;
  }
  Address address;
  if (host.empty() || !absl::SimpleAtoi(text.substr(colon + 1), &address.port) || address.port < 0 ||
      address.port > 65535)
    return wrong;
  address.host = std::string(host);
  return address;
}

bool Overlap(const Address& a, const Address& b) {
  if (a.port == 0 || a.port != b.port) return false;
  const std::vector<std::string> hosts = NumericHosts(a), others = NumericHosts(b);
  return absl::c_any_of(hosts, [&others](const std::string& host) {
    return absl::c_any_of(others,
                          [&host](const std::string& other) { return Includes(host, other) || Includes(other, host); });
  });
}

absl::Status TryListening(const Address& address) {
  CAUSEWAY_ASSIGN_OR_RETURN(const SocketAddresses found, Resolve(address));
  absl::Status status;
  for (const addrinfo* a = found.get(); a != nullptr; a = a->ai_next) {
    const int fd = socket(a->ai_family, a->ai_socktype, a->ai_protocol);
    if (fd < 0) continue;
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, 1) != 0) {
      const int error = errno;
      status = absl::UnavailableError(error == EADDRINUSE
                                          ? absl::StrCat("port ", address.port, " is in use by another program")
                                          : std::strerror(error));
    }
    close(fd);
  }
  return status;
}

std::string ListenFailure(const Address& address) {
  const absl::Status status = TryListening(address);
  return status.ok() ? "the listener could not be opened" : std::string(status.message());
}

bool IsLoopbackHost(const std::string& host) {
  const absl::StatusOr<SocketAddresses> found = Resolve({host, 0});
  if (!found.ok()) return false;
  for (const addrinfo* a = found->get(); a != nullptr; a = a->ai_next) {
    const bool loopback =
        a->ai_family == AF_INET
            ? ntohl(reinterpret_cast<const sockaddr_in*>(a->ai_addr)->sin_addr.s_addr) >> 24 == 127
            : IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(a->ai_addr)->sin6_addr) != 0;
    if (!loopback) return false;
  }
  return true;
}

std::string AddressTowards(const Address& other) {
  const absl::StatusOr<SocketAddresses> found = Resolve(other);
  if (!found.ok()) return "";
  for (const addrinfo* a = found->get(); a != nullptr; a = a->ai_next) {
    // A datagram socket asks for the way and sends nothing.
    const int fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    sockaddr_storage own{};
    socklen_t length = sizeof(own);
    char host[NI_MAXHOST] = {};
    const bool known =
        connect(fd, a->ai_addr, a->ai_addrlen) == 0 &&
        getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length) == 0 &&
        getnameinfo(reinterpret_cast<sockaddr*>(&own), length, host, sizeof(host), nullptr, 0, NI_NUMERICHOST) == 0;
    close(fd);
    if (known) return host;
  }
  return "";
}

}  // namespace causeway
