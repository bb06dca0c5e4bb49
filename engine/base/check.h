// CAUSEWAY_CHECK is for a programmer's error: it says what is wrong and where, and aborts. Wrong input and environment
// give a Status instead.
#ifndef CAUSEWAY_ENGINE_BASE_CHECK_H_
#define CAUSEWAY_ENGINE_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"

namespace causeway {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition, const std::string& message) {
  std::fprintf(stderr, "%s:%d: check failed: %s: %s\n", file, line, condition, message.c_str());
  std::abort();
}

}  // namespace causeway

// CAUSEWAY_CHECK(slot >= 0, "slot ", slot); what follows the condition is only evaluated when it fails.
#define CAUSEWAY_CHECK(condition, ...)                                                    \
  do {                                                                                    \
    if (__builtin_expect(!(condition), 0)) {                                              \
      ::causeway::CheckFailed(__FILE__, __LINE__, #condition, absl::StrCat(__VA_ARGS__)); \
    }                                                                                     \
  } while (false)

#endif  // CAUSEWAY_ENGINE_BASE_CHECK_H_
