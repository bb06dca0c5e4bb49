// Copies what layers put out to the LayerOutputs of a step's sequences.
#ifndef CAUSEWAY_ENGINE_EXECUTION_LAYER_CAPTURE_H_
#define CAUSEWAY_ENGINE_EXECUTION_LAYER_CAPTURE_H_

#include "engine/execution/device_worker.h"

namespace causeway {

// On the thread of the worker whose segment of the step runs. Copies lie in host memory that counts for no device: the
// plan's activations have no part in them. Throw c10::Error.

bool WantsLayerOutputs(const StepPlan& plan);

// After the embeddings or a layer, of which `hidden` has all rows of the step. Rows to be normed are kept in the step
// as the last layer leaves them: the norm may be on another device.
void CaptureUnit(Step& step, int unit, const Units& units, const Hidden& hidden, DeviceRuntime& runtime);

// After the last layer, where `model` holds the final norm.
void CaptureFinalNorm(Step& step, const Units& units, const DeviceModel& model, DeviceRuntime& runtime);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_LAYER_CAPTURE_H_
