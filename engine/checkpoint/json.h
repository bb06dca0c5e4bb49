// Strict JSON for files that come from elsewhere: no duplicate keys, bounded nesting and size.
#ifndef CAUSEWAY_ENGINE_CHECKPOINT_JSON_H_
#define CAUSEWAY_ENGINE_CHECKPOINT_JSON_H_

#include <cstddef>
#include <string>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace causeway {

using Json = nlohmann::json;

// InvalidArgument says where and what: a syntax error's byte, a duplicate key, nesting deeper than kJsonDepthMax.
absl::StatusOr<Json> ParseJson(absl::string_view text, absl::string_view what);
// As ParseJson; `what` is the file's path. ResourceExhausted for a file above `bytes_max`.
absl::StatusOr<Json> ReadJsonFile(const std::string& path, size_t bytes_max);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CHECKPOINT_JSON_H_
