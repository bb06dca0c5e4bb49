// The outputs of layers that a step gathered, from the process that computed them to the one that gives them out.
#ifndef CAUSEWAY_SERVER_CLUSTER_WIRE_ROWS_H_
#define CAUSEWAY_SERVER_CLUSTER_WIRE_ROWS_H_

#include <vector>

#include "absl/status/status.h"
#include "causeway/v1/cluster.pb.h"
#include "engine/batch/step.h"

namespace causeway {

// The rows of the prompt that this step computed, of those units of `computed` that the sequence's LayerOutputs, which
// it has, gather. Without units and values where there are none such.
v1::GatheredRows RowsOf(const StepSequence& sequence, const std::vector<int>& computed);

// InvalidArgument names the field that does not fit, and then nothing is written. Others may read or write other rows
// meanwhile.
absl::Status CopyRows(const v1::GatheredRows& wire, LayerOutputs& outputs);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_WIRE_ROWS_H_
