#include "server/startup/command_line.h"

#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/status.h"
#include "google/protobuf/descriptor.h"
#include "server/startup/field_help.h"

namespace causeway {
namespace {

constexpr size_t kHelpColumn = 36;
constexpr size_t kHelpWidth = 116;

absl::Status UnknownFlag(const std::string& name, const std::vector<CommandFlag>& own) {
  std::vector<std::string> names = {"--help"};
  for (const CommandFlag& flag : own) names.push_back(absl::StrCat("--", flag.name));
  for (const ConfigField& field : ConfigFields()) names.push_back(absl::StrCat("--", field.flag()));
  return absl::InvalidArgumentError(absl::StrCat("unknown flag --", name, Suggestion(absl::StrCat("--", name), names)));
}

// "  --flag VALUE      text text", wrapped.
std::string HelpEntry(const std::string& flag, absl::string_view text) {
  std::string out = absl::StrCat("  ", flag);
  if (out.size() + 2 > kHelpColumn) absl::StrAppend(&out, "\n", std::string(kHelpColumn, ' '));
  if (const size_t line = out.size() - (out.rfind('\n') + 1); line < kHelpColumn) out.append(kHelpColumn - line, ' ');
  size_t column = kHelpColumn;
  for (absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (column > kHelpColumn && column + word.size() + 1 > kHelpWidth) {
      absl::StrAppend(&out, "\n", std::string(kHelpColumn, ' '));
      column = kHelpColumn;
    }
    if (column > kHelpColumn) out += ' ', ++column;
    absl::StrAppend(&out, word);
    column += word.size();
  }
  return out + "\n";
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(const std::vector<std::string>& arguments,
                                             const std::vector<CommandFlag>& own) {
  CommandLine line;
  v1::Config scratch;  // takes the values, so that wrong ones are found here
  for (size_t i = 0; i < arguments.size(); ++i) {
    absl::string_view argument = arguments[i];
    if (argument == "--help" || argument == "-h") {
      line.help = true;
      continue;
    }
    if (!absl::ConsumePrefix(&argument, "--") || argument.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("unexpected argument \"", arguments[i],
                       "\": flags are written --flag VALUE (true-or-false ones --flag=false)"));
    }
    const size_t equals = argument.find('=');
    std::string name(argument.substr(0, equals));
    bool has_value = equals != absl::string_view::npos;
    std::string value(has_value ? argument.substr(equals + 1) : "");

    std::string* target = nullptr;
    bool is_switch = false;
    for (const CommandFlag& flag : own) {
      if (flag.name == name) target = flag.target, is_switch = flag.value.empty();
    }
    const ConfigField* field = FindFieldByFlag(name);
    if (field == nullptr && target == nullptr && !has_value && absl::StartsWith(name, "no-")) {
      field = FindFieldByFlag(name.substr(3));
      if (field == nullptr || !field->is_bool()) return UnknownFlag(name, own);
      value = "false";
      has_value = true;
    }
    if (field == nullptr && target == nullptr) return UnknownFlag(name, own);
    if (is_switch && has_value)
      return absl::InvalidArgumentError(absl::StrCat("--", name, " takes no value, got \"", value, "\""));
    if (!has_value && (is_switch || (field != nullptr && field->is_bool()))) {
      value = "true";
    } else if (!has_value) {
      if (i + 1 == arguments.size()) return absl::InvalidArgumentError(absl::StrCat("--", name, " needs a value"));
      value = arguments[++i];
    }
    if (target != nullptr) {
      *target = value;
      continue;
    }
    if (absl::Status status = SetField(*field, value, &scratch); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--", field->flag(), ": ", status.message()));
    }
    line.fields.emplace_back(field, std::move(value));
  }
  return line;
}

std::string FlagHelp(const std::vector<CommandFlag>& own, const std::set<std::string>& left_out) {
  std::string out;
  for (const CommandFlag& flag : own) {
    absl::StrAppend(
        &out,
        HelpEntry(absl::StrCat("--", flag.name, flag.value.empty() ? "" : " ", flag.value),
                  absl::StrCat(flag.help, flag.target->empty() ? "" : absl::StrCat(" Default: ", *flag.target, "."))));
  }
  std::map<absl::string_view, absl::string_view> help;
  for (const FieldHelp& entry : kFieldHelp) help[entry.path] = entry.text;
  const google::protobuf::FieldDescriptor* section = nullptr;
  for (const ConfigField& field : ConfigFields()) {
    if (left_out.contains(field.flag())) continue;
    if (field.section != section) {
      section = field.section;
      absl::StrAppend(&out, "\n", section->name(), ": ", help[section->name()], "\n");
    }
    std::string text(help[field.path]);
    if (field.rules->one_of_size() > 0 || field.rules->has_min()) absl::StrAppend(&text, " Is ", Expected(field), ".");
    if (!field.rules->default_().empty()) absl::StrAppend(&text, " Default: ", field.rules->default_(), ".");
    if (field.rules->reloadable()) absl::StrAppend(&text, " SIGHUP applies a change in the file.");
    absl::StrAppend(&out, HelpEntry(field.is_bool() ? absl::StrCat("--[no-]", field.flag())
                                                    : absl::StrCat("--", field.flag(), " ", field.rules->value()),
                                    text));
  }
  return out;
}

}  // namespace causeway
