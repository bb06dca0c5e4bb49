// Small files of /proc and /sys.
#ifndef CAUSEWAY_ENGINE_BASE_KERNEL_FILE_H_
#define CAUSEWAY_ENGINE_BASE_KERNEL_FILE_H_

#include <string>

namespace causeway {

// Returns all of the file's text, or nothing where it cannot be read: a kernel that lacks a file has nothing to say
// there.
std::string ReadKernelFile(const std::string& path);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_KERNEL_FILE_H_
