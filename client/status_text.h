// Writes a status for people: the state, planned and measured memory by device and owner, cache, queue, outcomes.
#ifndef CAUSEWAY_CLIENT_STATUS_TEXT_H_
#define CAUSEWAY_CLIENT_STATUS_TEXT_H_

#include <string>

#include "causeway/v1/admin.pb.h"

namespace causeway {

// Every line ends with a line feed. `color` adds terminal colours.
std::string StatusText(const v1::GetStatusResponse& status, bool color);

// What a terminal must get to draw `text` over the text that was drawn last. The first one clears it.
std::string Redraw(const std::string& text, bool first);

}  // namespace causeway

#endif  // CAUSEWAY_CLIENT_STATUS_TEXT_H_
