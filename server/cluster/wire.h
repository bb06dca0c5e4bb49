// Steps, their results, masks and statuses as messages between the processes of a group (cluster.proto), and back.
//
// What comes from another process is checked: InvalidArgument names the field that cannot be, with its value.
#ifndef CAUSEWAY_SERVER_CLUSTER_WIRE_H_
#define CAUSEWAY_SERVER_CLUSTER_WIRE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "causeway/v1/cluster.pb.h"
#include "engine/batch/step.h"

namespace causeway {

// A code that Abseil does not know is Unknown. Payloads stay behind.
v1::Status ToWire(const absl::Status& status);
absl::Status FromWire(const v1::Status& wire);

// What stands for a sequence's SequenceLocal in the process that gets the step. Both are called only for sequences that
// have such a part where they come from.
struct LocalParts {
  std::function<std::shared_ptr<TokenConstraint>(uint64_t sequence)> constraint;  // with each start
  // `units` ascend, and the bytes of all values can be counted. In each step that reads the sequence's prompt.
  std::function<std::shared_ptr<LayerOutputs>(uint64_t sequence, std::vector<int> units, int64_t rows, int64_t width)>
      layer_outputs;
};
v1::Step ToWire(const StepPlan& plan);
// Numbers that depend on the model or its plan are not checked against them: slots, blocks and token ids.
absl::StatusOr<StepPlan> FromWire(const v1::Step& wire, const LocalParts& parts);

v1::Result ToWire(const StepResult& result);
absl::StatusOr<StepResult> FromWire(const v1::Result& wire);

// A mask that owns its words.
struct ReceivedMask {
  int replica = 0;
  uint64_t sequence = 0;
  int64_t index = 0;
  TokenMask::State state = TokenMask::State::kTokens;
  std::vector<uint32_t> allowed;
  absl::Status status;
};
v1::StepMask ToWire(int replica, uint64_t sequence, int64_t index, const TokenMask& mask);
absl::StatusOr<ReceivedMask> FromWire(const v1::StepMask& wire);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_WIRE_H_
