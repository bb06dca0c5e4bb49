// Small files of /proc and /sys.
#ifndef CAUSEWAY_ENGINE_BASE_KERNEL_FILE_H_
#define CAUSEWAY_ENGINE_BASE_KERNEL_FILE_H_

#include <string>

namespace causeway {

// All of the file's text; empty where it cannot be read: a kernel that lacks a file says nothing by it.
std::string ReadKernelFile(const std::string& path);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_BASE_KERNEL_FILE_H_
