#include "server/rpc/admin.h"

namespace causeway {

absl::StatusOr<v1::GetModelResponse> HandleGetModel(RpcContext& context, const Caller& caller,
                                                    const v1::GetModelRequest& request) {
  const Serving& serving = *caller.serving;
  const Engine& engine = *serving.engine;
  const PlacedModel& model = engine.model();
  v1::GetModelResponse response;
  response.set_name(serving.name);
  response.set_folder(model.folder);
  response.set_architecture(model.spec.architecture);
  response.set_parameters(model.spec.parameter_count());
  response.set_layers(static_cast<int64_t>(model.spec.layers.size()));
  response.set_hidden_size(model.spec.hidden_size);
  response.set_vocab_size(model.spec.vocab_size);
  response.set_context_max(model.spec.context_max);
  response.set_max_model_len(model.plan.options.max_model_len);
  response.set_dtype(std::string(DTypeName(model.plan.options.dtype)));
  response.set_has_tokenizer(engine.tokenizer() != nullptr);
  response.set_has_chat_template(engine.chat_template() != nullptr);
  response.mutable_eos_token_ids()->Assign(model.spec.eos_token_ids.begin(), model.spec.eos_token_ids.end());
  response.set_default_temperature(serving.defaults.temperature);
  response.set_default_top_k(serving.defaults.top_k);
  response.set_default_top_p(serving.defaults.top_p);
  response.set_default_min_p(serving.defaults.min_p);
  response.set_default_typical_p(serving.defaults.typical_p);
  response.set_default_repetition_penalty(serving.defaults.repetition_penalty);
  response.set_version(context.version);
  return response;
}

}  // namespace causeway
