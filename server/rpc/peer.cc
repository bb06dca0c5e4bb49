#include "server/rpc/peer.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace causeway {

bool IsLoopback(absl::string_view peer) {
  const std::string plain = absl::StrReplaceAll(peer, {{"%5B", "["}, {"%5D", "]"}, {"%5b", "["}, {"%5d", "]"}});
  absl::string_view address = plain;
  // "unix:" is a socket on this machine, "inproc" is a test in this process.
  if (absl::StartsWith(address, "unix:") || address == "inproc") return true;
  if (absl::ConsumePrefix(&address, "ipv4:")) return absl::StartsWith(address, "127.");
  if (!absl::ConsumePrefix(&address, "ipv6:[")) return false;
  return absl::StartsWith(address, "::1]") || absl::StartsWith(address, "::ffff:127.");
}

}  // namespace causeway
