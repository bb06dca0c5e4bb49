// Strict JSON for files that come from elsewhere: no duplicate keys, bounded nesting and size.
#ifndef CAUSEWAY_ENGINE_CHECKPOINT_JSON_H_
#define CAUSEWAY_ENGINE_CHECKPOINT_JSON_H_

#include <cstddef>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace causeway {

using Json = nlohmann::json;

inline constexpr int kJsonDepthMax = 64;
// The most keys and values of one document. It bounds the memory that a hostile file can make its tree take.
inline constexpr size_t kJsonValuesMax = 8'000'000;

// InvalidArgument says where and what: a syntax error's byte, a duplicate key, nesting deeper than kJsonDepthMax, more
// values than kJsonValuesMax. `what` names the text in messages.
absl::StatusOr<Json> ParseJson(absl::string_view text, absl::string_view what);
// As ParseJson, of what Python's reader takes and JSON is not: NaN and infinities are null, and of equal keys the last
// one counts.
absl::StatusOr<Json> ParseLenientJson(absl::string_view text, absl::string_view what);
// As ParseJson; `what` is the file's path. NotFound when there is no such file, ResourceExhausted for one above
// `bytes_max`.
absl::StatusOr<Json> ReadJsonFile(const std::string& path, size_t bytes_max);

// "a string", "an object", "an integer": what a value is, for messages.
absl::string_view JsonKind(const Json& value);
// The value as it stands in the file, cut after 60 bytes, for messages.
std::string JsonExcerpt(const Json& value);
// What a file says, as a message may quote it: at most `bytes_max` bytes, the unprintable ones as \xNN.
std::string Printable(absl::string_view text, size_t bytes_max = 100);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CHECKPOINT_JSON_H_
