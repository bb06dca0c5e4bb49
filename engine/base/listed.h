// Names in a message, the first of them.
#ifndef CAUSEWAY_ENGINE_BASE_LISTED_H_
#define CAUSEWAY_ENGINE_BASE_LISTED_H_

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace causeway {

// "a, b, c and 4 more" where there are more than `most`.
inline std::string Listed(const std::vector<std::string>& names, size_t most = 20) {
  const size_t shown = std::min(names.size(), most);
  std::string text = absl::StrJoin(names.begin(), names.begin() + static_cast<ptrdiff_t>(shown), ", ");
  if (names.size() > shown) absl::StrAppend(&text, " and ", names.size() - shown, " more");
  return text;
}

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_LISTED_H_
