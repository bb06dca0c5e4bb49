#include "engine/execution/layer_capture.h"

#include <algorithm>

#include <ATen/ops/from_blob.h>

#include "engine/device/device_memory.h"

namespace causeway {
namespace {

// Rows normed at once: what that takes of a device's memory stays small beside any step.
constexpr int64_t kNormRows = 64;

// Rows of the sequence in this step that are its prompt's.
int64_t PromptRows(const StepSequence& sequence) {
  return std::min(static_cast<int64_t>(sequence.tokens.size()), sequence.local.layer_outputs->rows - sequence.context);
}

// The sequence's rows in `values`, a unit's, from the step's row `first` on.
at::Tensor Target(const StepSequence& sequence, float* values, int64_t first, int64_t rows) {
  const int64_t width = sequence.local.layer_outputs->width;
  return at::from_blob(values + (sequence.context + first) * width, {rows, width}, at::kFloat);
}

}  // namespace

bool WantsLayerOutputs(const StepPlan& plan) {
  return std::any_of(plan.sequences.begin(), plan.sequences.end(),
                     [](const StepSequence& s) { return s.local.layer_outputs != nullptr; });
}

void CaptureUnit(Step& step, int unit, const Units& units, const Hidden& hidden, DeviceRuntime& runtime) {
  UncountedScope uncounted;
  for (size_t i = 0; i < step.plan.sequences.size(); ++i) {
    const StepSequence& sequence = step.plan.sequences[i];
    if (sequence.local.layer_outputs == nullptr || PromptRows(sequence) <= 0) continue;
    float* const values = sequence.local.layer_outputs->of_unit(unit);
    const bool to_norm = unit == units.last_layer() && sequence.local.layer_outputs->of_unit(units.norm()) != nullptr;
    if (values == nullptr && !to_norm) continue;
    const int64_t first = step.batch.attention.query_start_host[i], rows = PromptRows(sequence);
    // Summed in the model's own dtype, so that it is what the next layer reads.
    at::Tensor output = runtime.Download(hidden.residual.narrow(0, first, rows));
    if (hidden.update.defined()) output = output.add(runtime.Download(hidden.update.narrow(0, first, rows)));
    if (values != nullptr) Target(sequence, values, 0, rows).copy_(output);
    if (!to_norm) continue;
    step.before_norm.resize(step.plan.sequences.size());
    step.before_norm[i] = hidden.update.defined() ? output : output.clone();  // layers write over the residual
  }
}

void CaptureFinalNorm(Step& step, const Units& units, const DeviceModel& model, DeviceRuntime& runtime) {
  UncountedScope uncounted;
  for (size_t i = 0; i < step.before_norm.size(); ++i) {
    const at::Tensor& rows = step.before_norm[i];
    if (!rows.defined()) continue;
    const StepSequence& sequence = step.plan.sequences[i];
    for (int64_t first = 0; first < rows.size(0); first += kNormRows) {
      const int64_t count = std::min(kNormRows, rows.size(0) - first);
      const at::Tensor normed = model.FinalNorm(runtime.Upload(rows.narrow(0, first, count)));
      Target(sequence, sequence.local.layer_outputs->of_unit(units.norm()), first, count)
          .copy_(runtime.Download(normed));
    }
  }
  step.before_norm.clear();
}

}  // namespace causeway
