// Generates for every prompt of a file.
#ifndef CAUSEWAY_CLIENT_BATCH_H_
#define CAUSEWAY_CLIENT_BATCH_H_

#include <string>

#include "client/client.h"
#include "client/options.h"

namespace causeway {

struct BatchFlags {
  std::string input, output;
  int concurrency = 8;
};

// Results are appended as they come, one JSON object a line, so that a run that was cut off goes on where it stopped.
// Returns the exit status: 0 when every prompt is answered.
int RunBatch(Client& client, const BatchFlags& flags, const SamplingFlags& sampling);

}  // namespace causeway

#endif  // CAUSEWAY_CLIENT_BATCH_H_
