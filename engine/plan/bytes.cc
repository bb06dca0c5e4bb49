#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/status.h"
#include "engine/checkpoint/json.h"
#include "engine/plan/device.h"

namespace causeway {
namespace {

struct Unit {
  const char* name;
  double bytes;
};
constexpr double kBytesMax = 1125899906842624;  // a PiB: of a thousand devices a thousand times as many can be counted
constexpr Unit kUnits[] = {
    {"B", 1},
    {"KB", 1e3},
    {"MB", 1e6},
    {"GB", 1e9},
    {"TB", 1e12},
    {"KiB", 1024.0},
    {"MiB", 1024.0 * 1024},
    {"GiB", 1024.0 * 1024 * 1024},
    {"TiB", 1024.0 * 1024 * 1024 * 1024},
};

absl::Status Refuse(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a size: ", why));
}

// Length of the number that `text` begins with: digits, and a point with digits behind it.
size_t NumberLength(absl::string_view text) {
  size_t n = 0;
  while (n < text.size() && absl::ascii_isdigit(text[n])) ++n;
  if (n == 0 || n + 1 >= text.size() || text[n] != '.' || !absl::ascii_isdigit(text[n + 1])) return n;
  for (++n; n < text.size() && absl::ascii_isdigit(text[n]);) ++n;
  return n;
}

// A key of --max-memory as device maps spell it: "0", "cpu", "disk"; "cuda:0" and "simulated:0" mean "0".
absl::StatusOr<std::string> MemoryKey(absl::string_view text, absl::string_view whole) {
  absl::string_view key = absl::StripAsciiWhitespace(text);
  if (key == "cpu" || key == "disk") return std::string(key);
  if (!absl::ConsumePrefix(&key, "cuda:")) absl::ConsumePrefix(&key, "simulated:");
  int id = 0;
  if (!absl::SimpleAtoi(key, &id) || id < 0 || !absl::ascii_isdigit(key[0])) {
    return absl::InvalidArgumentError(absl::StrCat("\"", absl::StripAsciiWhitespace(text), "\" in max_memory \"", whole,
                                                   "\" is no device; expected a GPU's number, cpu or disk, as in "
                                                   "\"0:40GB,1:60GB,cpu:100GB\""));
  }
  return std::to_string(id);
}

struct Budget {
  std::optional<std::string> device;  // nothing: every GPU
  std::string size;
};

// "0:40GB,cpu:100GB"; what stands in front of the last colon is the device.
std::vector<Budget> ListedBudgets(absl::string_view text) {
  std::vector<Budget> budgets;
  for (absl::string_view item : absl::StrSplit(text, ',')) {
    const size_t colon = item.rfind(':');
    Budget& budget = budgets.emplace_back();
    if (colon != absl::string_view::npos) budget.device = std::string(item.substr(0, colon));
    budget.size =
        std::string(absl::StripAsciiWhitespace(item.substr(colon == absl::string_view::npos ? 0 : colon + 1)));
  }
  return budgets;
}

// {"0": "40GB", "cpu": 100000000000}
absl::StatusOr<std::vector<Budget>> JsonBudgets(absl::string_view text) {
  std::vector<Budget> budgets;
  CAUSEWAY_ASSIGN_OR_RETURN(const Json json, ParseJson(text, "max_memory"));
  if (json.empty()) return absl::InvalidArgumentError("max_memory \"{}\" gives no device a budget");
  for (const auto& [device, size] : json.items()) {
    if (!size.is_string() && !size.is_number_unsigned()) {
      return absl::InvalidArgumentError(absl::StrCat("max_memory: \"", device, "\" is ", JsonExcerpt(size),
                                                     ", expected a size such as \"40GB\", or a number of bytes"));
    }
    budgets.push_back({device, size.is_string() ? size.get<std::string>() : absl::StrCat(size.get<uint64_t>(), "B")});
  }
  return budgets;
}

}  // namespace

absl::StatusOr<int64_t> ParseBytes(absl::string_view text) {
  const absl::string_view trimmed = absl::StripAsciiWhitespace(text);
  if (trimmed.empty()) return Refuse(text, "it is empty; write \"40GB\" or \"512MiB\"");
  if (trimmed[0] == '-') return Refuse(text, "it is negative");
  const size_t digits = NumberLength(trimmed);
  if (digits == 0) return Refuse(text, "it must begin with a number, as in \"40GB\", \"1.5GiB\" or \"1024B\"");
  const absl::string_view number = trimmed.substr(0, digits);
  const absl::string_view suffix = absl::StripLeadingAsciiWhitespace(trimmed.substr(digits));

  if (suffix.empty()) {
    return Refuse(text, absl::StrCat("it has no unit; write \"", number, "B\" for bytes, or \"", number, "GB\", \"",
                                     number, "GiB\", ..."));
  }
  const std::string upper = absl::AsciiStrToUpper(suffix);
  if (upper.size() == 1 && absl::StrContains("KMGT", upper)) {
    return Refuse(text, absl::StrCat("\"", suffix, "\" is ambiguous; write \"", number, upper,
                                     "B\" (powers of ten) or \"", number, upper, "iB\" (powers of two)"));
  }
  for (const Unit& unit : kUnits) {
    if (upper != absl::AsciiStrToUpper(unit.name)) continue;
    const bool binary = absl::StrContains(unit.name, "i");
    if (!binary && suffix.back() == 'b') {
      return Refuse(text, absl::StrCat("a lowercase \"b\" means bits; write \"", number, unit.name, "\"",
                                       upper.size() == 2 ? absl::StrCat(" (powers of ten) or \"", number,
                                                                        upper.substr(0, 1), "iB\" (powers of two)")
                                                         : ""));
    }
    double value = 0;
    const bool is_number = absl::SimpleAtod(number, &value);
    const double bytes = std::floor(value * unit.bytes);
    if (!is_number || !(bytes <= kBytesMax)) return Refuse(text, "it is too large; expected at most 1024TiB");
    return static_cast<int64_t>(bytes);
  }
  return Refuse(text, absl::StrCat("\"", suffix,
                                   "\" is no unit; expected B, KB, MB, GB, TB (powers of ten) or KiB, MiB, GiB, TiB ",
                                   "(powers of two)"));
}

std::string FormatBytes(int64_t bytes) {
  if (bytes < 0) return absl::StrCat("-", FormatBytes(-bytes));
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  static constexpr const char* kNames[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  int unit = 0;
  while (value >= 1023.95 && unit + 1 < 6) {
    value /= 1024;
    ++unit;
  }
  std::string text = absl::StrFormat("%.*f", value < 9.995 ? 2 : 1, value);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return absl::StrCat(text, " ", kNames[unit]);
}

absl::StatusOr<std::map<std::string, int64_t>> ParseMaxMemory(absl::string_view text) {
  std::map<std::string, int64_t> budgets;
  text = absl::StripAsciiWhitespace(text);
  if (text.empty()) return budgets;
  CAUSEWAY_ASSIGN_OR_RETURN(const std::vector<Budget> given, text[0] == '{' ? JsonBudgets(text) : ListedBudgets(text));
  for (const auto& [name, size] : given) {
    std::string key;
    if (name) {
      CAUSEWAY_ASSIGN_OR_RETURN(key, MemoryKey(*name, text));
    }
    int64_t bytes = 0;
    if (size == "auto" && key == "cpu") {
      bytes = kAutoBytes;
    } else if (size == "auto") {
      return absl::InvalidArgumentError(
          absl::StrCat(name ? absl::StrCat("device ", key) : "every GPU", " has the budget \"auto\" in max_memory \"",
                       text, "\", which is for cpu only; a GPU without a budget takes what is free"));
    } else {
      CAUSEWAY_ASSIGN_OR_RETURN(bytes, ParseBytes(size));
    }
    if (!budgets.emplace(key, bytes).second) {
      return absl::InvalidArgumentError(absl::StrCat("max_memory \"", text, "\" gives ",
                                                     key.empty() ? "every GPU" : absl::StrCat("device ", key),
                                                     " two budgets"));
    }
  }
  return budgets;
}

}  // namespace causeway
