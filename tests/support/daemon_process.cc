#include "tests/support/daemon_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <grpcpp/create_channel.h>
#include <httplib.h>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

namespace causeway {
namespace {

constexpr char kPrograms[] = CAUSEWAY_BINARY_DIR "/bin";
constexpr absl::Duration kPoll = absl::Milliseconds(5);
constexpr absl::Duration kLogDelay = absl::Milliseconds(200);  // the log comes later than the answer that it is about

std::string MakeFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "causeway-test-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) std::abort();
  return name;
}

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// Input comes from a file in `folder`. Output and errors go to two others, so that a full pipe holds nobody up.
pid_t Start(const std::string& program, const std::vector<std::string>& arguments,
            const std::map<std::string, std::string>& environment, const std::string& input, const std::string& folder,
            int errors = DaemonProcess::kToFile) {
  const std::string binary = std::filesystem::path(kPrograms) / program;
  std::vector<std::string> all = {binary};
  all.insert(all.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& argument : all) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::vector<std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string name = std::string(*entry).substr(0, std::string(*entry).find('='));
    if (!environment.contains(name)) variables.push_back(*entry);
  }
  for (const auto& [name, value] : environment) variables.push_back(absl::StrCat(name, "=", value));
  std::vector<char*> envp;
  for (std::string& variable : variables) envp.push_back(variable.data());
  envp.push_back(nullptr);
  const std::string in = folder + "/in", out = folder + "/out", err = folder + "/err";
  std::ofstream(in, std::ios::binary) << input;

  const pid_t pid = fork();
  if (pid < 0) std::abort();
  if (pid > 0) return pid;
  // From here on, only calls that are safe between fork and exec are made.
  const int out_fd = open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600),
            err_fd = open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  dup2(open(in.c_str(), O_RDONLY), STDIN_FILENO);
  dup2(out_fd, STDOUT_FILENO);
  dup2(errors >= 0 ? errors : err_fd, STDERR_FILENO);
  if (errors == DaemonProcess::kClosed) close(STDIN_FILENO), close(STDOUT_FILENO), close(STDERR_FILENO);
  execve(binary.c_str(), argv.data(), envp.data());
  _exit(127);
}

int StatusOf(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

// The value of key=value in a log line.
std::string LogValue(const std::string& log, const std::string& event, const std::string& key) {
  for (absl::string_view line : absl::StrSplit(log, '\n')) {
    if (!absl::StrContains(line, event)) continue;
    for (absl::string_view word : absl::StrSplit(line, ' ')) {
      if (absl::StartsWith(word, key + "=")) return std::string(word.substr(key.size() + 1));
    }
  }
  return "";
}

}  // namespace

ProgramResult RunProgram(const std::string& program, const std::vector<std::string>& arguments,
                         const std::map<std::string, std::string>& environment, const std::string& input) {
  const std::string folder = MakeFolder();
  const pid_t pid = Start(program, arguments, environment, input, folder);
  const absl::Time give_up = absl::Now() + absl::Minutes(2);
  int wait_status = 0;
  while (waitpid(pid, &wait_status, WNOHANG) == 0) {
    if (absl::Now() > give_up) kill(pid, SIGKILL);
    absl::SleepFor(kPoll);
  }
  ProgramResult result = {StatusOf(wait_status), ReadAll(folder + "/out"), ReadAll(folder + "/err")};
  std::filesystem::remove_all(folder);
  return result;
}

ProgramResult RunCausewayd(const std::vector<std::string>& arguments,
                           const std::map<std::string, std::string>& environment) {
  return RunProgram("causewayd", arguments, environment);
}

DaemonProcess::DaemonProcess(std::vector<std::string> flags, int errors,
                             const std::map<std::string, std::string>& environment)
    : folder_(MakeFolder()), ports_file_(folder_ + "/ports.json") {
  std::vector<std::string> arguments = {"serve",       "--listen",     "127.0.0.1:0", "--http",
                                        "127.0.0.1:0", "--ports-file", ports_file_};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  pid_ = Start("causewayd", arguments, environment, "", folder_, errors);
}

DaemonProcess::~DaemonProcess() {
  if (!Reap()) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::filesystem::remove_all(folder_);
}

bool DaemonProcess::Reap() {
  if (status_ >= 0) return true;
  int wait_status = 0;
  if (waitpid(pid_, &wait_status, WNOHANG) != pid_) return false;
  status_ = StatusOf(wait_status);
  return true;
}

bool DaemonProcess::WaitUntilServing(absl::Duration timeout) {
  const absl::Time give_up = absl::Now() + timeout;
  while (!std::filesystem::exists(ports_file_)) {
    if (Reap() || absl::Now() > give_up) {
      std::fprintf(stderr, "causewayd does not serve (status %d):\n%s\n", status_, Err().c_str());
      return false;
    }
    absl::SleepFor(kPoll);
  }
  const auto ports = nlohmann::json::parse(ReadAll(ports_file_));
  grpc_ = ports.at("grpc");
  http_ = ports.value("http", "");
  return true;
}

bool DaemonProcess::WaitUntilListening(absl::Duration timeout) {
  const absl::Time give_up = absl::Now() + timeout;
  while (true) {
    const std::string log = Err();
    // Only a whole line counts.
    if (const size_t event = log.find("listening, not serving yet");
        event != std::string::npos && log.find('\n', event) != std::string::npos) {
      grpc_ = LogValue(log, "listening, not serving yet", "grpc");
      http_ = LogValue(log, "listening, not serving yet", "http");
      return !grpc_.empty();
    }
    if (Reap() || absl::Now() > give_up) {
      std::fprintf(stderr, "causewayd does not listen (status %d):\n%s\n", status_, log.c_str());
      return false;
    }
    absl::SleepFor(kPoll);
  }
}

std::shared_ptr<::grpc::Channel> DaemonProcess::Channel() const {
  ::grpc::ChannelArguments arguments;
  // Daemons of one test must not share a connection by accident.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return ::grpc::CreateCustomChannel(grpc_, ::grpc::InsecureChannelCredentials(), arguments);
}

void DaemonProcess::Signal(int signal) const { kill(pid_, signal); }

int DaemonProcess::Wait(absl::Duration timeout) {
  const absl::Time give_up = absl::Now() + timeout;
  while (!Reap() && absl::Now() < give_up) absl::SleepFor(kPoll);
  return status_;
}

std::string DaemonProcess::Out() const { return ReadAll(folder_ + "/out"); }
std::string DaemonProcess::Err() const {
  const std::string path = folder_ + "/err";
  std::string text = ReadAll(path);
  for (absl::Time still = absl::Now() + kLogDelay; absl::Now() < still; absl::SleepFor(kPoll)) {
    std::string longer = ReadAll(path);
    if (longer.size() != text.size()) still = absl::Now() + kLogDelay;
    text = std::move(longer);
  }
  return text;
}

std::pair<int, std::string> DaemonProcess::Get(const std::string& path) const {
  httplib::Client client("http://" + http_);
  client.set_read_timeout(30);
  httplib::Result result = client.Get(path.c_str());
  if (!result) return {0, ""};
  return {result->status, result->body};
}

std::map<std::string, double> DaemonProcess::Metrics() const {
  std::map<std::string, double> samples;
  const std::string text = Get("/metrics").second;
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const size_t space = line.rfind(' ');
    double value;
    if (line[0] != '#' && space != absl::string_view::npos && absl::SimpleAtod(line.substr(space + 1), &value)) {
      samples[std::string(line.substr(0, space))] = value;
    }
  }
  return samples;
}

}  // namespace causeway
