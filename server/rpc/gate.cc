#include "server/rpc/gate.h"

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/rpc/peer.h"
#include "server/rpc/serving.h"

namespace causeway {
namespace {

enum class From { kAnywhere, kThisMachine };
// kNewWork: the method needs a model that is not draining.
enum class Needs { kNothing, kModel, kNewWork };

struct Rules {
  From from;
  Needs needs;
};

Rules RulesOf(Method method) {
  switch (method) {
    case Method::kGenerate:
    case Method::kGenerateStream: return {From::kAnywhere, Needs::kNewWork};
    case Method::kTokenize:
    case Method::kDetokenize: return {From::kAnywhere, Needs::kModel};
    case Method::kHealthCheck:
    case Method::kHealthWatch: return {From::kAnywhere, Needs::kNothing};
    case Method::kGetPlan:
    case Method::kGetStatus:
    case Method::kWatchStatus:
    case Method::kDrain: return {From::kThisMachine, Needs::kNothing};
    case Method::kExtractLayerOutputs: return {From::kThisMachine, Needs::kNewWork};
    case Method::kGetModel:
    case Method::kCancel: return {From::kThisMachine, Needs::kModel};
  }
  std::abort();  // every method has its rules above
}

}  // namespace

absl::StatusOr<Caller> Gate::Admit(Method method, std::string peer) const {
  const Rules rules = RulesOf(method);
  if (rules.from == From::kThisMachine && !IsLoopback(peer)) {
    return absl::PermissionDeniedError(
        absl::StrCat("causeway.v1.Admin answers callers on the loopback interface only, and this one is ", peer));
  }
  Caller caller{.peer = std::move(peer)};
  if (rules.needs == Needs::kNothing) return caller;
  if (rules.needs == Needs::kNewWork && state_.phase() == ServingPhase::kDraining)
    return absl::UnavailableError("the daemon is draining and takes no new requests");
  caller.serving = state_.serving();
  if (caller.serving == nullptr)
    return absl::UnavailableError("the model is still loading; health says SERVING once it is there");
  return caller;
}

}  // namespace causeway
