#include "server/telemetry/log.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>

#include <grpc/support/log.h>
#include <nlohmann/json.hpp>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include "absl/strings/ascii.h"
#include "server/telemetry/log_queue.h"

namespace causeway {
namespace {

constexpr size_t kWaitingBytesMax = size_t{4} << 20;
constexpr absl::Duration kFlushAtEnd = absl::Seconds(1);

std::atomic<bool> json_format{false};
std::atomic<LogQueue*> queue{nullptr};  // null until logging is set up
std::atomic<int64_t> dropped_told{0};   // how many of the dropped lines the log has told of

std::string Json(absl::string_view text) {
  return nlohmann::json(std::string(text)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

spdlog::level::level_enum SpdlogLevel(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarning: return spdlog::level::warn;
    default: return spdlog::level::err;
  }
}

spdlog::level::level_enum SpdlogLevel(absl::string_view level) {
  if (level == "debug") return spdlog::level::debug;
  if (level == "warning") return spdlog::level::warn;
  return level == "error" ? spdlog::level::err : spdlog::level::info;
}

// Lines with their level in color on a terminal.
class QueueSink final : public spdlog::sinks::base_sink<std::mutex> {
 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t formatted;
    formatter_->format(message, formatted);
    std::string line(formatted.data(), formatted.size());
    if (colored_ && message.color_range_end > message.color_range_start) {
      line.insert(message.color_range_end, "\033[m");
      line.insert(message.color_range_start, Color(message.level));
    }
    queue.load()->Push(std::move(line));
  }
  void flush_() override {}

 private:
  static const char* Color(spdlog::level::level_enum level) {
    switch (level) {
      case spdlog::level::debug: return "\033[36m";
      case spdlog::level::info: return "\033[32m";
      case spdlog::level::warn: return "\033[33m\033[1m";
      default: return "\033[31m\033[1m";
    }
  }
  const bool colored_ = ::isatty(STDERR_FILENO) != 0;
};

// gRPC's own messages below an error are about its internals.
void GrpcLog(gpr_log_func_args* args) {
  Log(args->severity == GPR_LOG_SEVERITY_ERROR ? LogLevel::kWarning : LogLevel::kDebug, "grpc",
      {{"message", args->message}});
}

}  // namespace

void SetUpLogging(absl::string_view level, absl::string_view format) {
  json_format = format == "json";
  if (queue.load() == nullptr) {
    queue = LogQueue::Make(STDERR_FILENO, kWaitingBytesMax);
    std::atexit(FlushLog);
  }
  auto logger = std::make_shared<spdlog::logger>("causeway", std::make_shared<QueueSink>());
  logger->set_level(SpdlogLevel(level));
  logger->set_pattern(
      json_format ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})" : "%Y-%m-%dT%H:%M:%S.%eZ %^%l%$ %v",
      spdlog::pattern_time_type::utc);
  spdlog::set_default_logger(std::move(logger));
  gpr_set_log_function(GrpcLog);
}

void SetLogLevel(absl::string_view level) { spdlog::default_logger_raw()->set_level(SpdlogLevel(level)); }

void Log(LogLevel level, absl::string_view event, std::initializer_list<LogField> fields) {
  spdlog::logger* logger = spdlog::default_logger_raw();
  if (!logger->should_log(SpdlogLevel(level))) return;
  const std::string line = json_format ? FormatLogJson(event, fields) : FormatLogText(event, fields);
  logger->log(SpdlogLevel(level), spdlog::string_view_t(line.data(), line.size()));
  int64_t told = dropped_told;
  const int64_t dropped = LogLinesDropped();
  if (dropped > told && queue.load()->half_empty() && dropped_told.compare_exchange_strong(told, dropped))
    Log(LogLevel::kWarning, "log lines were dropped, since nobody read them", {{"lines", dropped - told}});
}

void FlushLog() {
  if (queue.load() != nullptr) queue.load()->Flush(kFlushAtEnd);
}

int64_t LogLinesDropped() { return queue.load() == nullptr ? 0 : queue.load()->dropped(); }

std::string FormatLogText(absl::string_view event, std::initializer_list<LogField> fields) {
  std::string line(event);
  for (const LogField& field : fields) {
    if (field.value.empty()) continue;
    const bool plain = std::all_of(field.value.begin(), field.value.end(), [](char c) {
      return absl::ascii_isgraph(static_cast<unsigned char>(c)) && c != '"' && c != '=' && c != '\\';
    });
    absl::StrAppend(&line, " ", field.key, "=", plain || field.number ? field.value : Json(field.value));
  }
  return line;
}

std::string FormatLogJson(absl::string_view event, std::initializer_list<LogField> fields) {
  std::string line = absl::StrCat("\"event\":", Json(event));
  for (const LogField& field : fields) {
    if (field.value.empty()) continue;
    // JSON has no infinities.
    const bool number = field.number && field.value.find_first_of("in") == std::string::npos;
    absl::StrAppend(&line, ",", Json(field.key), ":", number ? field.value : Json(field.value));
  }
  return line;
}

}  // namespace causeway
