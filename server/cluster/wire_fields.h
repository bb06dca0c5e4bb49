// What the conversions of messages between the processes of a group share: lists, and checks that name the field.
#ifndef CAUSEWAY_SERVER_CLUSTER_WIRE_FIELDS_H_
#define CAUSEWAY_SERVER_CLUSTER_WIRE_FIELDS_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include <google/protobuf/repeated_field.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace causeway {

template <typename T>
using Repeated = google::protobuf::RepeatedPtrField<T>;

inline constexpr int64_t kMax32 = std::numeric_limits<int32_t>::max();

template <typename T>
void Fill(const std::vector<T>& values, google::protobuf::RepeatedField<T>* field) {
  field->Add(values.begin(), values.end());
}
template <typename T>
std::vector<T> Values(const google::protobuf::RepeatedField<T>& field) {
  return std::vector<T>(field.begin(), field.end());
}

// InvalidArgument where `value` is not within [least, most].
template <typename T, typename U, typename V>
absl::Status CheckIn(absl::string_view field, T value, U least, V most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": expected a number from ", least, " to ", most, ", found ", value));
}
inline absl::Status CheckEqual(absl::string_view field, int64_t value, int64_t expected) {
  if (value == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, ": expected ", expected, ", found ", value));
}
// Each number; it is quick, since lists may be long.
inline absl::Status CheckAll(absl::string_view field, absl::Span<const int32_t> values, int32_t least) {
  int32_t lowest = least;
  for (const int32_t value : values) lowest = std::min(lowest, value);
  return CheckIn(field, lowest, least, kMax32);
}
// Of numbers from 0 on, one at least.
inline absl::Status CheckAscending(absl::string_view field, const google::protobuf::RepeatedField<int32_t>& values) {
  if (values.empty()) return absl::InvalidArgumentError(absl::StrCat(field, ": there is none"));
  int64_t least = 0;
  for (const int32_t value : values) {
    if (absl::Status in = CheckIn(field, value, least, kMax32); !in.ok()) return in;
    least = int64_t{value} + 1;
  }
  return absl::OkStatus();
}

// Puts before a message in which element of `field` it is.
inline absl::Status Within(absl::string_view field, int element, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(field, "[", element, "].", status.message()));
}

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_WIRE_FIELDS_H_
