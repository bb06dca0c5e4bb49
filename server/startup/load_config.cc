#include "server/startup/load_config.h"

#include <unistd.h>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "google/protobuf/descriptor.h"
#include "server/startup/config_file.h"
#include "server/startup/fields.h"

namespace causeway {
namespace {

// A variable that begins as a section does and names no field is a mistake. Other CAUSEWAY_ variables may belong to
// scripts.
absl::Status CheckVariableName(const std::string& name) {
  std::vector<std::string> names;
  bool in_section = false;
  for (const ConfigField& field : ConfigFields()) {
    if (field.environment == name) return absl::OkStatus();
    names.push_back(field.environment);
    in_section |= absl::StartsWith(name, absl::StrCat("CAUSEWAY_", absl::AsciiStrToUpper(field.section->name()), "_"));
  }
  if (!in_section) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("environment variable ", name, ": no such field", Suggestion(name, names)));
}

}  // namespace

std::string LoadedConfig::Where(const std::string& path) const {
  auto origin = origins.find(path);
  if (origin == origins.end()) return path;
  return absl::StrContains(origin->second, ':') ? absl::StrCat(origin->second, ": ", path) : origin->second;
}

absl::StatusOr<LoadedConfig> LoadConfig(const std::string& file, const std::map<std::string, std::string>& environment,
                                        const CommandLine& flags, ModelPath model) {
  LoadedConfig loaded;
  loaded.config = DefaultConfig();
  if (!file.empty()) CAUSEWAY_RETURN_IF_ERROR(ReadConfigFile(file, &loaded.config, &loaded.origins));
  for (const auto& [name, value] : environment) {
    if (absl::StartsWith(name, "CAUSEWAY_") && !value.empty()) CAUSEWAY_RETURN_IF_ERROR(CheckVariableName(name));
  }
  for (const ConfigField& field : ConfigFields()) {
    auto variable = environment.find(field.environment);
    if (variable == environment.end() || variable->second.empty()) continue;
    if (absl::Status status = SetField(field, variable->second, &loaded.config); !status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("environment variable ", field.environment, ": ", status.message()));
    }
    loaded.origins[field.path] = field.environment;
  }
  for (const auto& [field, value] : flags.fields) {
    CAUSEWAY_RETURN_IF_ERROR(SetField(*field, value, &loaded.config));
    loaded.origins[field->path] = absl::StrCat("--", field->flag());
  }
  if (model == ModelPath::kRequired && loaded.config.model().path().empty()) {
    return absl::InvalidArgumentError("no model: give --model DIR, or model.path in the configuration file");
  }
  return loaded;
}

std::map<std::string, std::string> Environment() {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const absl::string_view text(*entry);
    const size_t equals = text.find('=');
    if (equals != absl::string_view::npos) variables.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return variables;
}

}  // namespace causeway
