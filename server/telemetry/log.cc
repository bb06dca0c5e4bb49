#include "server/telemetry/log.h"

#include <algorithm>
#include <atomic>
#include <memory>

#include <grpc/support/log.h>
#include <nlohmann/json.hpp>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "absl/strings/ascii.h"

namespace causeway {
namespace {

std::atomic<bool> json_format{false};

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

// gRPC's own messages below an error are about its internals.
void GrpcLog(gpr_log_func_args* args) {
  Log(args->severity == GPR_LOG_SEVERITY_ERROR ? LogLevel::kWarning : LogLevel::kDebug, "grpc",
      {{"message", args->message}});
}

}  // namespace

void SetUpLogging(absl::string_view level, absl::string_view format) {
  json_format = format == "json";
  auto logger = std::make_shared<spdlog::logger>("causeway", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_level(level == "debug"     ? spdlog::level::debug
                    : level == "warning" ? spdlog::level::warn
                    : level == "error"   ? spdlog::level::err
                                         : spdlog::level::info);
  logger->set_pattern(
      json_format ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})" : "%Y-%m-%dT%H:%M:%S.%eZ %^%l%$ %v",
      spdlog::pattern_time_type::utc);
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
  gpr_set_log_function(GrpcLog);
}

void Log(LogLevel level, absl::string_view event, std::initializer_list<LogField> fields) {
  spdlog::logger* logger = spdlog::default_logger_raw();
  if (!logger->should_log(SpdlogLevel(level))) return;
  const std::string line = json_format ? FormatLogJson(event, fields) : FormatLogText(event, fields);
  logger->log(SpdlogLevel(level), spdlog::string_view_t(line.data(), line.size()));
}

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
