#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "server/rpc/generate.h"
#include "server/rpc/prepare_request.h"

namespace causeway {

absl::StatusOr<v1::DetokenizeResponse> HandleDetokenize(RpcContext& context, const Caller& caller,
                                                        const v1::DetokenizeRequest& request) {
  const Serving& serving = *caller.serving;
  CAUSEWAY_RETURN_IF_ERROR(CheckModelName(request.model(), serving));
  const Tokenizer* tokenizer = serving.engine->tokenizer();
  if (tokenizer == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("the model \"", serving.name, "\" has no tokenizer, so its token ids have no text"));
  }
  const absl::Span<const int32_t> ids(request.ids().data(), static_cast<size_t>(request.ids_size()));
  auto text = tokenizer->Decode(ids, request.skip_special_tokens());
  if (!text.ok())
    return absl::Status(text.status().code(), absl::StrCat("ids: ", std::string(text.status().message())));
  v1::DetokenizeResponse response;
  response.set_text(*std::move(text));
  return response;
}

}  // namespace causeway
