#include "server/commands/process.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

namespace causeway {
namespace {

void OpenStandardDescriptors() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    // The lowest free number is this one, since those below are open.
    if (::fcntl(descriptor, F_GETFD) < 0) (void)!::open("/dev/null", descriptor == STDIN_FILENO ? O_RDONLY : O_WRONLY);
  }
}

// What stands in this section runs before libraries set themselves up, and some of them open descriptors then.
__attribute__((section(".preinit_array"), used)) void (*const before_libraries)() = OpenStandardDescriptors;

}  // namespace

void PrepareProcess() {
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace causeway
