// A real causewayd in a process of its own, for integration tests.
#ifndef CAUSEWAY_TESTS_SUPPORT_DAEMON_PROCESS_H_
#define CAUSEWAY_TESTS_SUPPORT_DAEMON_PROCESS_H_

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace grpc {
class Channel;
}  // namespace grpc

namespace causeway {

// How a program ended, and what it wrote.
struct ProgramResult {
  int status = 0;  // the exit status, or 128 + the signal that ended it
  std::string out, err;
};
// Runs build/bin/PROGRAM, or a program by its absolute path, with these arguments to its end. `environment` is added to
// ours and overrides it; `input` is what it reads. Kills it after two minutes.
ProgramResult RunProgram(const std::string& program, const std::vector<std::string>& arguments,
                         const std::map<std::string, std::string>& environment = {}, const std::string& input = "");
ProgramResult RunCausewayd(const std::vector<std::string>& arguments,
                           const std::map<std::string, std::string>& environment = {});

// `causewayd serve` on ports that the kernel picks.
class DaemonProcess {
 public:
  // Starts it; `flags` must name the model, and may name other addresses. `errors`: the descriptor that it gets as
  // standard error, or kToFile, which Err reads; kClosed: it gets none, nor standard input and output.
  static constexpr int kToFile = -1, kClosed = -2;
  explicit DaemonProcess(std::vector<std::string> flags, int errors = kToFile,
                         const std::map<std::string, std::string>& environment = {});
  // Kills it if it still runs.
  ~DaemonProcess();
  DaemonProcess(const DaemonProcess&) = delete;

  // Returns false when it ended or took longer, with what it wrote on standard error.
  [[nodiscard]] bool WaitUntilServing(absl::Duration timeout = absl::Seconds(120));
  // Waits until the listeners are open, which is before the model is loaded.
  [[nodiscard]] bool WaitUntilListening(absl::Duration timeout = absl::Seconds(120));

  const std::string& grpc() const { return grpc_; }  // host:port
  const std::string& http() const { return http_; }
  const std::string& ports_file() const { return ports_file_; }
  std::shared_ptr<::grpc::Channel> Channel() const;

  pid_t pid() const { return pid_; }
  void Signal(int signal) const;
  // Returns the exit status, or 128 + the signal that ended it; -1 when it still runs after `timeout`.
  int Wait(absl::Duration timeout = absl::Seconds(60));

  std::string Out() const;
  std::string Err() const;  // waits until nothing more comes

  // {status, body}; status 0 when nobody answers.
  std::pair<int, std::string> Get(const std::string& path) const;
  // Returns every sample of /metrics: "name{label="value"}" -> value.
  std::map<std::string, double> Metrics() const;

 private:
  bool Reap();

  std::string folder_, ports_file_, grpc_, http_;
  pid_t pid_ = -1;
  int status_ = -1;  // set once it has ended
};

}  // namespace causeway

#endif  // CAUSEWAY_TESTS_SUPPORT_DAEMON_PROCESS_H_
