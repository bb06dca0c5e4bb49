#include "client/prompt_file.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

using Json = nlohmann::json;
constexpr int kErrorsShown = 10;

// What is wrong with one line, or empty; fills `prompt`.
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
    } else {
      return absl::StrCat("unknown key \"", key, "\"; expected prompt and max_length (or max_tokens)");
    }
  }
  if (!json.contains("prompt")) return "\"prompt\" is missing";
  if (prompt.text.empty()) return "\"prompt\" is empty";
  if (prompt.max_length && prompt.max_tokens) return "both \"max_length\" and \"max_tokens\"; give one of them";
  return "";
}

}  // namespace

absl::StatusOr<std::vector<Prompt>> ReadPrompts(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path));
  std::vector<Prompt> prompts;
  std::string errors, line;
  int bad = 0;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    Prompt prompt{.line = number, .text = "", .max_length = {}, .max_tokens = {}};
    const std::string error = ParsePrompt(line, prompt);
    if (error.empty()) {
      prompts.push_back(std::move(prompt));
    } else if (++bad <= kErrorsShown) {
      absl::StrAppend(&errors, "\n  ", path, ":", number, ": ", error);
    }
  }
  if (bad > kErrorsShown) absl::StrAppend(&errors, "\n  and ", bad - kErrorsShown, " more");
  if (bad > 0) return absl::InvalidArgumentError(absl::StrCat(bad, bad == 1 ? " bad line:" : " bad lines:", errors));
  if (prompts.empty()) return absl::InvalidArgumentError(absl::StrCat(path, " holds no prompts"));
  return prompts;
}

absl::StatusOr<std::set<int64_t>> ResumeResults(const std::string& path, const std::vector<Prompt>& prompts) {
  std::set<int64_t> done;
  std::error_code missing;
  if (!std::filesystem::exists(path, missing)) return done;
  std::map<int64_t, const Prompt*> by_line;
  for (const Prompt& prompt : prompts) by_line[prompt.line] = &prompt;

  std::ifstream file(path, std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  const std::string text = content.str();
  size_t begin = 0;
  for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const Json json = Json::parse(text.substr(begin, end - begin), nullptr, false);
    if (!json.is_object() || !json.contains("line") || !json["line"].is_number_integer()) {
      return absl::InvalidArgumentError(absl::StrCat(path, " exists and is no file of results; give another --output or remove it"));
    }
    const auto found = by_line.find(json["line"].get<int64_t>());
    if (found == by_line.end() || json.value("prompt", Json()) != Json(found->second->text)) {
      return absl::InvalidArgumentError(absl::StrCat(path, " exists and answers other prompts (its line ", json["line"].dump(),
                                                     "); give another --output or remove it"));
    }
    if (!json.contains("error")) done.insert(found->first);
  }
  if (begin < text.size()) std::filesystem::resize_file(path, begin);
  return done;
}

}  // namespace causeway
