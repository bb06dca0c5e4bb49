// The gate that every call goes through before its message is read. It decides who may call a method, and when.
#ifndef CAUSEWAY_SERVER_RPC_GATE_H_
#define CAUSEWAY_SERVER_RPC_GATE_H_

#include <string>

#include "absl/status/statusor.h"

namespace causeway {

struct Serving;
class ServingState;

// Every RPC of the daemon.
enum class Method {
  kGenerate,
  kGenerateStream,
  kTokenize,
  kDetokenize,
  kGetModel,
  kGetPlan,
  kGetStatus,
  kWatchStatus,
  kCancel,
  kDrain,
  kExtractLayerOutputs,
  kHealthCheck,
  kHealthWatch,
};

// Who made a call that was admitted, and what the call may use.
struct Caller {
  std::string peer;                  // its address, as gRPC writes it
  const Serving* serving = nullptr;  // the model; null where the method does not need one
};

// Thread-safe.
class Gate {
 public:
  // `state` outlives the gate.
  explicit Gate(const ServingState& state) : state_(state) {}

  // PermissionDenied: the method is of causeway.v1.Admin, and the caller is not on this machine. Unavailable: the
  // method needs a model, which is still loading; or it starts new work, and the daemon is draining.
  absl::StatusOr<Caller> Admit(Method method, std::string peer) const;

 private:
  const ServingState& state_;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_GATE_H_
