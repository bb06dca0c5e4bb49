#include "server/version.h"

namespace causeway {

const char* const kVersion = CAUSEWAY_VERSION;
const char* const kBuild = CAUSEWAY_BUILD;

}  // namespace causeway
