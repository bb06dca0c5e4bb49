// Turns SIGTERM, SIGINT and SIGHUP into calls on a thread of their own.
#ifndef CAUSEWAY_SERVER_DAEMON_SIGNALS_H_
#define CAUSEWAY_SERVER_DAEMON_SIGNALS_H_

#include <csignal>
#include <functional>
#include <thread>

namespace causeway {

// Make one before any other thread starts: it blocks the signals in this thread and in those that this thread starts. A
// signal that was being ignored stays ignored (a shell's background job ignores SIGINT, and nohup SIGHUP).
class SignalWatcher {
 public:
  // The watcher's thread calls it.
  explicit SignalWatcher(std::function<void(int signal)> on_signal);
  ~SignalWatcher();

 private:
  void Watch(const std::function<void(int)>& on_signal) const;

  sigset_t signals_;
  int signal_fd_ = -1, stop_fd_ = -1;
  std::thread thread_;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_DAEMON_SIGNALS_H_
