// Shorthands for absl::Status: return early on an error, unwrap a StatusOr.
#ifndef CAUSEWAY_ENGINE_BASE_STATUS_H_
#define CAUSEWAY_ENGINE_BASE_STATUS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define CAUSEWAY_RETURN_IF_ERROR(expr)                                                        \
  do {                                                                                        \
    if (absl::Status causeway_status = (expr); !causeway_status.ok()) return causeway_status; \
  } while (false)

#define CAUSEWAY_CONCAT_INNER(a, b) a##b
#define CAUSEWAY_CONCAT(a, b) CAUSEWAY_CONCAT_INNER(a, b)

// CAUSEWAY_ASSIGN_OR_RETURN(auto x, MakeX());
#define CAUSEWAY_ASSIGN_OR_RETURN(lhs, expr) \
  CAUSEWAY_ASSIGN_OR_RETURN_INNER(CAUSEWAY_CONCAT(causeway_statusor_, __LINE__), lhs, expr)
#define CAUSEWAY_ASSIGN_OR_RETURN_INNER(tmp, lhs, expr) \
  auto tmp = (expr);                                    \
  if (!tmp.ok()) return std::move(tmp).status();        \
  lhs = *std::move(tmp)

#endif  // CAUSEWAY_ENGINE_BASE_STATUS_H_
