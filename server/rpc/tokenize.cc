#include "engine/base/status.h"
#include "server/rpc/generate.h"
#include "server/rpc/prepare_request.h"

namespace causeway {

absl::StatusOr<v1::TokenizeResponse> HandleTokenize(RpcContext& context, const Caller& caller,
                                                    const v1::TokenizeRequest& request) {
  const Serving& serving = *caller.serving;
  CAUSEWAY_RETURN_IF_ERROR(CheckModelName(request.model(), serving));
  EncodedInput input;
  switch (request.input_case()) {
    case v1::TokenizeRequest::kText: {
      const bool special = request.has_add_special_tokens() ? request.add_special_tokens() : true;
      CAUSEWAY_ASSIGN_OR_RETURN(input, EncodeText(serving, "text", request.text(), special));
      break;
    }
    case v1::TokenizeRequest::kChat: {
      CAUSEWAY_ASSIGN_OR_RETURN(input, EncodeChat(serving, request.chat(), request.add_special_tokens()));
      break;
    }
    default: return absl::InvalidArgumentError("no input: set one of text and chat");
  }
  v1::TokenizeResponse response;
  response.mutable_ids()->Assign(input.ids.begin(), input.ids.end());
  response.set_text(std::move(input.text));
  return response;
}

}  // namespace causeway
