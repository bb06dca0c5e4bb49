// SIGTERM and SIGINT as calls on a thread of their own.
#ifndef CAUSEWAY_SERVER_DAEMON_SIGNALS_H_
#define CAUSEWAY_SERVER_DAEMON_SIGNALS_H_

#include <csignal>
#include <functional>
#include <thread>

namespace causeway {

// Make one before any other thread starts: signals are blocked in this thread and in those it starts. A signal that was
// being ignored (a shell's background job ignores SIGINT) stays so.
class SignalWatcher {
 public:
  // `on_signal` gets the signal and how many came so far, this one counted. It is called on the watcher's thread.
  explicit SignalWatcher(std::function<void(int signal, int count)> on_signal);
  ~SignalWatcher();

 private:
  void Watch(const std::function<void(int, int)>& on_signal) const;

  sigset_t signals_;
  int signal_fd_ = -1, stop_fd_ = -1;
  std::thread thread_;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_DAEMON_SIGNALS_H_
