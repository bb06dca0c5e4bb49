#include "engine/architecture/spec.h"

namespace causeway {

int64_t ModelSpec::parameter_count() const {
  int64_t count = 0;
  VisitParameters(modules, [&count](const std::string&, const Parameter& parameter) {
    if (!parameter.buffer && parameter.tied_to.empty()) count += parameter.bytes() / DTypeBytes(parameter.dtype);
  });
  return count;
}

}  // namespace causeway
