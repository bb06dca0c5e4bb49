#include "engine/base/kernel_file.h"

#include <fstream>
#include <sstream>

namespace causeway {

std::string ReadKernelFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace causeway
