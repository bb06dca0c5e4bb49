// Turns a request on the wire into one that the engine takes. Everything is validated here, before anything is queued.
#ifndef CAUSEWAY_SERVER_RPC_PREPARE_REQUEST_H_
#define CAUSEWAY_SERVER_RPC_PREPARE_REQUEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "causeway/v1/generation.pb.h"
#include "engine/engine.h"
#include "server/rpc/serving.h"

namespace causeway {

// How the answer is to look.
struct OutputShape {
  bool token_ids = false;
  bool logprobs = false;
  std::string echo_text;  // empty: no echo
  std::vector<int32_t> echo_ids;
};

struct PreparedRequest {
  GenerationRequest request;
  OutputShape output;
  std::string grammar_field;  // the name in messages, such as grammar.regex; empty: no grammar
};

// Whether the id may be used and logged: at most kRequestIdBytesMax printable ASCII characters, or none.
absl::Status CheckRequestId(const std::string& id);

// InvalidArgument names the field, its value and what it may be. Unimplemented names the field that is not supported.
// NotFound: the name is another model's. The caller sets the deadline.
absl::StatusOr<PreparedRequest> PrepareRequest(const v1::GenerateRequest& wire, const Serving& serving);

// The text and the tokens of an input, for Generate and Tokenize alike.
struct EncodedInput {
  std::string text;
  std::vector<int32_t> ids;
};
absl::StatusOr<EncodedInput> EncodeText(const Serving& serving, const std::string& field, const std::string& text,
                                        bool add_special_tokens);
absl::StatusOr<EncodedInput> EncodeChat(const Serving& serving, const v1::Chat& chat, bool add_special_tokens);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_PREPARE_REQUEST_H_
