#ifndef CAUSEWAY_SERVER_VERSION_H_
#define CAUSEWAY_SERVER_VERSION_H_

namespace causeway {

extern const char* const kVersion;  // "0.1.0"
extern const char* const kBuild;    // "cuda" or "cpu"

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_VERSION_H_
