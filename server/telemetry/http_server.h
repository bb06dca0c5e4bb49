// /metrics, /healthz and /readyz over HTTP.
#ifndef CAUSEWAY_SERVER_TELEMETRY_HTTP_SERVER_H_
#define CAUSEWAY_SERVER_TELEMETRY_HTTP_SERVER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/startup/address.h"

namespace causeway {

class HttpServer {
 public:
  struct Handlers {
    std::function<std::string()> metrics;    // the exposition
    std::function<std::string()> not_ready;  // why not, or "" when ready
  };
  // Listens at once. Unavailable names the address and why it could not be opened. Handlers are called by any thread
  // until the server is destroyed.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const Address& address, Handlers handlers);
  virtual ~HttpServer() = default;  // stops listening, waits for requests being answered

  virtual const Address& address() const = 0;  // with the port that was picked
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_TELEMETRY_HTTP_SERVER_H_
