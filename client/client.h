// A client of the daemon: blocking calls with errors that say what to do. See example.cc.
#ifndef CAUSEWAY_CLIENT_CLIENT_H_
#define CAUSEWAY_CLIENT_CLIENT_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "causeway/v1/admin.grpc.pb.h"
#include "causeway/v1/generation.grpc.pb.h"

namespace causeway {

struct CallOptions {
  absl::Duration timeout = absl::InfiniteDuration();  // becomes the call's deadline, which the daemon respects
};

// When the daemon wants to be asked again (google.rpc.RetryInfo); nullopt where asking again would not help.
std::optional<absl::Duration> RetryDelay(const absl::Status& status);

// Thread-safe: any number of calls run at once over one connection. Errors have the daemon's code, message and details.
// Unavailable also says whether nobody answers at the address.
class Client {
 public:
  // `address` is "host:port". It connects at the first call. A proxy named by http_proxy is used, except to the
  // loopback interface.
  explicit Client(const std::string& address);

  // Calls `on_event` for each event, on the calling thread. When `on_event` returns false, the request is cancelled and
  // the result is Cancelled.
  absl::Status GenerateStream(const v1::GenerateRequest& request,
                              const std::function<bool(const v1::GenerateStreamResponse&)>& on_event,
                              const CallOptions& options = {});
  absl::StatusOr<v1::GenerateResponse> Generate(const v1::GenerateRequest& request, const CallOptions& options = {});
  absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request, const CallOptions& options = {});
  absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& request,
                                                    const CallOptions& options = {});
  absl::StatusOr<v1::GetModelResponse> GetModel(const CallOptions& options = {});
  absl::StatusOr<v1::GetPlanResponse> GetPlan(const CallOptions& options = {});
  absl::StatusOr<v1::GetPlanResponse> GetPlan(const v1::GetPlanRequest& request, const CallOptions& options = {});
  absl::StatusOr<v1::GetStatusResponse> GetStatus(const CallOptions& options = {});
  // Works like GenerateStream, and gets the status again and again.
  absl::Status WatchStatus(double interval_seconds, const std::function<bool(const v1::GetStatusResponse&)>& on_status);
  // Works like GenerateStream, and gets the outputs of layers.
  absl::Status ExtractLayerOutputs(const v1::ExtractLayerOutputsRequest& request,
                                   const std::function<bool(const v1::ExtractLayerOutputsResponse&)>& on_event,
                                   const CallOptions& options = {});
  absl::Status Cancel(const std::string& request_id, const CallOptions& options = {});

  const std::string& address() const { return address_; }

 private:
  absl::Status FromGrpc(const grpc::Status& status) const;

  const std::string address_;
  std::unique_ptr<v1::Generation::Stub> generation_;
  std::unique_ptr<v1::Admin::Stub> admin_;
};

}  // namespace causeway

#endif  // CAUSEWAY_CLIENT_CLIENT_H_
