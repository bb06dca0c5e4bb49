// Only for engine/text: calls into the Rust library. Its errors arrive as exceptions with the status code in front.
#ifndef CAUSEWAY_ENGINE_TEXT_BRIDGE_H_
#define CAUSEWAY_ENGINE_TEXT_BRIDGE_H_

#include <cstdint>
#include <exception>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "causeway_text_bridge.h"
#include "engine/text/tokenizer.h"

namespace causeway {

struct Tokenizer::Impl {
  rust::Box<text_bridge::TextTokenizer> tokenizer;
};

namespace text_internal {

// Rust slices may not point to null, which empty spans and views often do.
inline rust::Slice<const uint8_t> Bytes(absl::string_view text) {
  static constexpr uint8_t kNothing = 0;
  return {text.empty() ? &kNothing : reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

inline rust::Slice<const int32_t> Ids(absl::Span<const int32_t> ids) {
  static constexpr int32_t kNothing = 0;
  return {ids.empty() ? &kNothing : ids.data(), ids.size()};
}

// Parses "3:message", as the Rust side writes it.
inline absl::Status StatusOf(const std::exception& error) {
  const absl::string_view what = error.what();
  const size_t colon = what.find(':');
  int code = 0;
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(what.substr(0, colon), &code)) {
    return absl::InternalError(what);
  }
  return absl::Status(static_cast<absl::StatusCode>(code), what.substr(colon + 1));
}

// Runs one call of the bridge.
template <typename Call>
auto Try(Call&& call) -> absl::StatusOr<std::invoke_result_t<Call>> {
  try {
    return std::forward<Call>(call)();
  } catch (const std::exception& error) {
    return StatusOf(error);
  }
}

}  // namespace text_internal
}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_TEXT_BRIDGE_H_
