// The comments of config.proto, as scripts/config_reference.py writes them into field_help.cc at build time.
#ifndef CAUSEWAY_SERVER_STARTUP_FIELD_HELP_H_
#define CAUSEWAY_SERVER_STARTUP_FIELD_HELP_H_

#include "absl/types/span.h"

namespace causeway {

struct FieldHelp {
  const char* path;  // "batching.max_num_seqs", or a section's name
  const char* text;
};
extern const absl::Span<const FieldHelp> kFieldHelp;

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_STARTUP_FIELD_HELP_H_
