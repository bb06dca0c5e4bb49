// Structured logs to standard error: an event and its fields, as a line for people or as a JSON object. They never hold
// prompts or outputs.
#ifndef CAUSEWAY_SERVER_TELEMETRY_LOG_H_
#define CAUSEWAY_SERVER_TELEMETRY_LOG_H_

#include <initializer_list>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace causeway {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct LogField {
  LogField(absl::string_view k, absl::string_view v) : key(k), value(v), number(false) {}
  LogField(absl::string_view k, const char* v) : LogField(k, absl::string_view(v)) {}
  LogField(absl::string_view k, const std::string& v) : LogField(k, absl::string_view(v)) {}
  template <typename T>
    requires std::is_arithmetic_v<T>
  LogField(absl::string_view k, T v) : key(k), value(absl::StrCat(v)), number(true) {}

  absl::string_view key;
  std::string value;
  bool number;  // written without quotes
};

// Call it once, before other threads start. `format` is "text" or "json"; `level` is "debug", "info", "warning" or
// "error". gRPC's own messages go the same way.
void SetUpLogging(absl::string_view level, absl::string_view format);

// Thread-safe.
void SetLogLevel(absl::string_view level);

// Thread-safe. `event` is a constant phrase. What varies goes into the fields; empty ones are left out. It never waits
// for whoever reads standard error: where too much is unread, lines are dropped. At the end of the process, a second is
// given for the rest.
void Log(LogLevel level, absl::string_view event, std::initializer_list<LogField> fields = {});

int64_t LogLinesDropped();  // since the start
// Waits until what was logged so far is written, a second at most; for who ends the process without std::exit.
void FlushLog();

// The part of a line after level and time, in each format.
std::string FormatLogText(absl::string_view event, std::initializer_list<LogField> fields);
std::string FormatLogJson(absl::string_view event, std::initializer_list<LogField> fields);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_TELEMETRY_LOG_H_
