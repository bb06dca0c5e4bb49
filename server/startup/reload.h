// What a running daemon takes of a configuration that has changed.
#ifndef CAUSEWAY_SERVER_STARTUP_RELOAD_H_
#define CAUSEWAY_SERVER_STARTUP_RELOAD_H_

#include <string>
#include <vector>

#include "causeway/v1/config.pb.h"

namespace causeway {

struct ReloadedConfig {
  v1::Config config;  // what holds from now on: the new values of reloadable fields, and the old ones of all others
  // The paths of fields that differ, in the schema's order: what was taken over, and what needs a restart.
  std::vector<std::string> taken, refused;
};

ReloadedConfig Reload(const v1::Config& running, const v1::Config& read);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_STARTUP_RELOAD_H_
