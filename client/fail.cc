#include <iostream>

#include "client/commands.h"

namespace causeway {

int Fail(const absl::Status& status) {
  std::cerr << "causeway: " << status.message() << "\n";
  switch (status.code()) {
    case absl::StatusCode::kUnavailable: return 69;
    case absl::StatusCode::kInvalidArgument: return 64;
    default: return 1;
  }
}

}  // namespace causeway
