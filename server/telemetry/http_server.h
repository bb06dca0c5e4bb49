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
    std::function<std::string()> metrics;    // returns the exposition
    std::function<std::string()> not_ready;  // says why it is not ready, or "" when it is
  };
  // Listens at once. Unavailable names the address and why it could not be opened. Any thread calls the handlers, until
  // the server is destroyed.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const Address& address, Handlers handlers);
  virtual ~HttpServer() = default;  // stops listening, and waits for requests that are being answered

  virtual const Address& address() const = 0;  // has the port that was picked
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_TELEMETRY_HTTP_SERVER_H_
