#include "client/prompt_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <sstream>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/read_file.h"

namespace causeway {
namespace {

using Json = nlohmann::json;
constexpr int kErrorsShown = 10;

// Returns what is wrong with one line, or nothing; fills `prompt`.
std::string ParsePrompt(const std::string& line, Prompt& prompt) {
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return "not valid JSON";
  if (!json.is_object()) return "expected an object such as {\"prompt\": \"...\", \"max_length\": 64}";
  for (const auto& [key, value] : json.items()) {
    if (key == "prompt") {
      if (!value.is_string()) return absl::StrCat("\"prompt\" is a ", value.type_name(), ", expected a string");
      prompt.text = value.get<std::string>();
    } else if (key == "max_length" || key == "max_tokens") {
      if (!value.is_number_integer() || value.get<int64_t>() < 1) {
        return absl::StrCat("\"", key, "\" is ", value.dump(), ", expected a whole number of at least 1");
      }
      (key == "max_length" ? prompt.max_length : prompt.max_tokens) = value.get<int64_t>();
    } else if (key == "id") {
      if (!value.is_string() && !value.is_number_integer())
        return absl::StrCat("\"id\" is ", value.dump(), ", expected a text or a whole number");
      prompt.id = value;
    } else {
      return absl::StrCat("unknown key \"", key, "\"; expected prompt, id and max_length (or max_tokens)");
    }
  }
  if (!json.contains("prompt")) return "\"prompt\" is missing";
  if (prompt.text.empty()) return "\"prompt\" is empty";
  if (prompt.max_length && prompt.max_tokens) return "both \"max_length\" and \"max_tokens\"; give one of them";
  return "";
}

// Whether a line that was cut off could be one that `generate` writes: Json writes keys in alphabetical order.
bool BeginsLikeResult(const std::string& line) {
  for (const std::string start : {"{\"error\":\"", "{\"finish_reason\":\""}) {
    if (absl::StartsWith(line, start) || absl::StartsWith(start, line)) return true;
  }
  return false;
}

// Replaces the file in one step, so that a crash leaves the old file or the new one.
absl::Status Replace(const std::string& path, const std::string& text) {
  std::error_code error;
  const std::filesystem::path target = std::filesystem::canonical(path, error);  // the file, and not a link to it
  const std::string part = target.string() + ".part";
  std::FILE* file = std::fopen(part.c_str(), "wbx");  // never overwrites an existing file
  if (file == nullptr)
    return absl::InvalidArgumentError(absl::StrCat("cannot create ", part, ": ", std::strerror(errno)));
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (std::fclose(file) == 0 && written) {
    std::filesystem::permissions(part, std::filesystem::status(target, error).permissions(), error);
    std::filesystem::rename(part, target, error);
    if (!error) return absl::OkStatus();
  }
  std::filesystem::remove(part, error);
  return absl::DataLossError(absl::StrCat("cannot write ", part, "; is the disk full?"));
}

}  // namespace

absl::StatusOr<std::vector<Prompt>> ReadPrompts(const std::string& path) {
  const absl::StatusOr<std::string> text = path == "-" ? ReadStandardInput() : ReadFile(path);
  if (!text.ok()) return text.status();
  const std::string name = path == "-" ? "standard input" : path;
  std::istringstream file(*text);
  std::vector<Prompt> prompts;
  std::string errors, line;
  int bad = 0;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    Prompt prompt{.line = number, .text = "", .id = {}, .max_length = {}, .max_tokens = {}};
    const std::string error = ParsePrompt(line, prompt);
    if (error.empty()) {
      prompts.push_back(std::move(prompt));
    } else if (++bad <= kErrorsShown) {
      absl::StrAppend(&errors, "\n  ", name, ":", number, ": ", error);
    }
  }
  if (bad > kErrorsShown) absl::StrAppend(&errors, "\n  and ", bad - kErrorsShown, " more");
  if (bad > 0) return absl::InvalidArgumentError(absl::StrCat(bad, bad == 1 ? " bad line:" : " bad lines:", errors));
  if (prompts.empty()) return absl::InvalidArgumentError(absl::StrCat(name, " holds no prompts"));
  return prompts;
}

absl::StatusOr<std::set<int64_t>> ResumeResults(const std::string& path, const std::vector<Prompt>& prompts) {
  std::set<int64_t> done;
  std::error_code error;
  // A pipe cannot be read back. /dev/stdout may lead to a regular file, but one that the shell has opened.
  if (path == "-" || !std::filesystem::is_regular_file(path, error) || absl::StartsWith(path, "/dev/")) return done;
  std::map<int64_t, const Prompt*> by_line;
  for (const Prompt& prompt : prompts) by_line[prompt.line] = &prompt;

  const absl::StatusOr<std::string> read = ReadFile(path);
  if (!read.ok()) return read.status();
  const std::string& text = *read;
  const auto foreign = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " exists and is no file of results; give another --output or remove it"));
  };
  std::string kept;
  for (size_t begin = 0, end; begin < text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    const Json json = Json::parse(line, nullptr, false);
    if (end == text.size() && json.is_discarded()) {
      // The line is cut off in the middle, if we wrote it.
      if (begin == 0 && !BeginsLikeResult(line)) return foreign();
      break;
    }
    if (!json.is_object() || !json.contains("line") || !json["line"].is_number_integer()) return foreign();
    const auto found = by_line.find(json["line"].get<int64_t>());
    if (found == by_line.end() || json.value("prompt", Json()) != Json(found->second->text) ||
        json.value("id", Json()) != found->second->id) {
      return absl::InvalidArgumentError(absl::StrCat(path, " exists and answers other prompts (its line ",
                                                     json["line"].dump(), "); give another --output or remove it"));
    }
    if (!json.contains("error") && done.insert(found->first).second) absl::StrAppend(&kept, line, "\n");
  }
  if (kept != text) {
    if (absl::Status replaced = Replace(path, kept); !replaced.ok()) return replaced;
  }
  return done;
}

}  // namespace causeway
