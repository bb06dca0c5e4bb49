#include "engine/model/linear.h"

namespace causeway {

Linear::Linear(const ModelContext& context, const LinearSpec& spec, LinearShard shard)
    : spec_(spec), shard_(std::move(shard)) {
  const auto make = [&](at::Device device) -> std::unique_ptr<LinearWeight> {
    // An order of inputs is set where the weight is loaded, on the device alone.
    if (device != context.device && spec.format.reordered) return nullptr;
    return context.ops.NewLinear(shard_.out_count(), shard_.in_count, shard_.bias, context.dtype, device, spec.format);
  };
  const std::string& tensor = spec.parts.front().weight;
  if (context.fetcher != nullptr && context.fetcher->Offloads(tensor)) {
    fetcher_ = context.fetcher;
    weight_ = fetcher_->Adopt(tensor, context.expert ? std::optional(context.layer) : std::nullopt, make);
  } else {
    weight_ = make(context.device);
  }
}

Linear::Linear(const LinearSpec& spec, std::shared_ptr<LinearWeight> shared)
    : spec_(spec), shard_(WholeShard(spec)), weight_(std::move(shared)) {}

}  // namespace causeway
