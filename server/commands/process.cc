#include "server/commands/process.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

namespace causeway {

void PrepareProcess() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    // The lowest free number is this one, since those below are open.
    if (::fcntl(descriptor, F_GETFD) < 0) (void)!::open("/dev/null", descriptor == STDIN_FILENO ? O_RDONLY : O_WRONLY);
  }
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace causeway
