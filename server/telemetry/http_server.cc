#include "server/telemetry/http_server.h"

#include <thread>

#include <httplib.h>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

// Answers are small and clients few (Prometheus, probes). A connection has a thread from its first moment. So one that
// says nothing must soon be closed, and one that has been answered at once.
constexpr int kThreads = 8;
constexpr int kTimeoutSeconds = 1;

class HttplibServer : public HttpServer {
 public:
  HttplibServer(Address address, Handlers handlers) : address_(std::move(address)), handlers_(std::move(handlers)) {
    server_.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
    server_.set_read_timeout(kTimeoutSeconds)
        .set_write_timeout(kTimeoutSeconds)
        .set_keep_alive_timeout(kTimeoutSeconds);
    server_.set_keep_alive_max_count(1);
    server_.set_payload_max_length(4096);
    // The library's own choice, SO_REUSEPORT, lets two daemons share a port silently.
    server_.set_socket_options([](socket_t socket) {
      const int on = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    });
    server_.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(handlers_.metrics(), "text/plain; version=0.0.4; charset=utf-8");
    });
    server_.Get("/healthz", [](const httplib::Request&, httplib::Response& response) {
      response.set_content("ok\n", "text/plain");
    });
    server_.Get("/readyz", [this](const httplib::Request&, httplib::Response& response) {
      const std::string why = handlers_.not_ready();
      response.status = why.empty() ? 200 : 503;
      response.set_content(why.empty() ? "ok\n" : why + "\n", "text/plain");
    });
    server_.set_error_handler([](const httplib::Request&, httplib::Response& response) {
      if (response.status == 404) response.set_content("there are /metrics, /healthz and /readyz\n", "text/plain");
    });
  }

  ~HttplibServer() override {
    if (!thread_.joinable()) return;
    // A stop() before the thread has begun to accept would be lost.
    while (!server_.is_running()) std::this_thread::yield();
    server_.stop();
    thread_.join();
  }

  absl::Status Listen() {
    if (address_.port == 0) {
      const int port = server_.bind_to_any_port(address_.host);
      if (port <= 0) return Failure();
      address_.port = port;
    } else if (!server_.bind_to_port(address_.host, address_.port)) {
      return Failure();
    }
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    return absl::OkStatus();
  }

  const Address& address() const override { return address_; }

 private:
  absl::Status Failure() const {
    return absl::UnavailableError(
        absl::StrCat("cannot listen for HTTP at ", address_.ToString(), ": ", ListenFailure(address_)));
  }

  Address address_;
  const Handlers handlers_;
  httplib::Server server_;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const Address& address, Handlers handlers) {
  auto server = std::make_unique<HttplibServer>(address, std::move(handlers));
  if (absl::Status status = server->Listen(); !status.ok()) return status;
  return server;
}

}  // namespace causeway
