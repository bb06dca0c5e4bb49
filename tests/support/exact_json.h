// JSON as it is written, for tests: numbers keep all digits, and names that come twice are there twice.
#ifndef CAUSEWAY_TESTS_SUPPORT_EXACT_JSON_H_
#define CAUSEWAY_TESTS_SUPPORT_EXACT_JSON_H_

#include <compare>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace causeway {

// 0.DIGITS * 10^exponent: digits begin and end with none that is 0, and 0 has none at all.
struct ExactNumber {
  bool negative = false;
  std::string digits;
  int64_t exponent = 0;

  bool operator==(const ExactNumber&) const = default;
  std::strong_ordering operator<=>(const ExactNumber& other) const;
  bool IsWhole() const { return static_cast<int64_t>(digits.size()) <= exponent || digits.empty(); }
  // Whether it is so many times `step`, which has at most 9 digits from its first to the last before or behind its
  // point.
  bool IsMultipleOf(const ExactNumber& step) const;
};

// `text` is a number of JSON.
ExactNumber ReadNumber(absl::string_view text);

struct ExactJson {
  enum class Kind { kNull, kFalse, kTrue, kNumber, kString, kArray, kObject };
  Kind kind = Kind::kNull;
  ExactNumber number;
  std::string text;  // of a string, decoded
  std::vector<ExactJson> items;
  std::vector<std::pair<std::string, ExactJson>> members;

  // The last of that name, or null.
  const ExactJson* Find(absl::string_view name) const;
};

// By value: 1.0 is 1, and the order of members is of no matter.
bool Equal(const ExactJson& a, const ExactJson& b);

// InvalidArgument for all that RFC 8259 has not, half a surrogate pair included.
absl::StatusOr<ExactJson> ParseExactJson(absl::string_view text);

}  // namespace causeway

#endif  // CAUSEWAY_TESTS_SUPPORT_EXACT_JSON_H_
