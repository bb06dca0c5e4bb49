// causeway.v1.Admin: binds each RPC to its handler.
#ifndef CAUSEWAY_SERVER_RPC_ADMIN_SERVICE_H_
#define CAUSEWAY_SERVER_RPC_ADMIN_SERVICE_H_

#include "causeway/v1/admin.grpc.pb.h"
#include "server/rpc/serving.h"
#include "server/rpc/watchers.h"

namespace causeway {

// The methods are raw: the handlers parse, so that broken UTF-8 gets a proper answer (wire.h).
using RawAdmin = v1::Admin::WithRawCallbackMethod_GetModel<v1::Admin::WithRawCallbackMethod_GetPlan<
    v1::Admin::WithRawCallbackMethod_GetStatus<v1::Admin::WithRawCallbackMethod_WatchStatus<
        v1::Admin::WithRawCallbackMethod_Cancel<v1::Admin::WithRawCallbackMethod_Drain<
            v1::Admin::WithRawCallbackMethod_ExtractLayerOutputs<v1::Admin::Service>>>>>>>;

class AdminService final : public RawAdmin {
 public:
  // `context` outlives the service.
  explicit AdminService(RpcContext& context) : context_(context) {}

  // Ends the WatchStatus streams. Call it before the server is shut down, which would wait for them.
  void Stop();

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetPlan(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                    grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                      grpc::ByteBuffer* response) override;
  StreamReactor* WatchStatus(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Cancel(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                   grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;
  StreamReactor* ExtractLayerOutputs(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request) override;

 private:
  absl::StatusOr<StreamReactor*> OpenWatch(const grpc::CallbackServerContext& call, const grpc::ByteBuffer& bytes);

  RpcContext& context_;
  Watchers watchers_;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_ADMIN_SERVICE_H_
