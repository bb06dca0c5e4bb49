#include "server/startup/fields.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace causeway {
namespace {

using google::protobuf::FieldDescriptor;

std::vector<ConfigField> ReadSchema() {
  std::vector<ConfigField> fields;
  const auto* config = v1::Config::descriptor();
  for (int s = 0; s < config->field_count(); ++s) {
    const FieldDescriptor* section = config->field(s);
    for (int f = 0; f < section->message_type()->field_count(); ++f) {
      const FieldDescriptor* field = section->message_type()->field(f);
      ConfigField entry;
      entry.section = section;
      entry.field = field;
      entry.rules = &field->options().GetExtension(v1::rules);
      entry.path = absl::StrCat(section->name(), ".", field->name());
      entry.environment =
          absl::StrCat("CAUSEWAY_", absl::AsciiStrToUpper(section->name()), "_", absl::AsciiStrToUpper(field->name()));
      fields.push_back(std::move(entry));
    }
  }
  return fields;
}

std::string Number(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return absl::StrCat(static_cast<int64_t>(value));
  return absl::StrCat(value);
}

bool InRange(const v1::FieldRules& rules, double value) {
  return std::isfinite(value) && (!rules.has_min() || value >= rules.min()) &&
         (!rules.has_max() || value <= rules.max());
}

size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t next = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = row[j];
      row[j] = next;
    }
  }
  return row.back();
}

// The name as fields write it: "--kv-cache" -> "__kv_cache".
std::string FieldSpelling(absl::string_view name) {
  return absl::AsciiStrToLower(absl::StrReplaceAll(name, {{"-", "_"}}));
}

// For a field that had another name: its name today, among `names`, which are written alike. Otherwise empty.
std::string Renamed(absl::string_view name, const std::vector<std::string>& names) {
  const std::string spelt = FieldSpelling(name);
  for (const ConfigField& field : ConfigFields()) {
    for (const std::string& before : field.rules->formerly()) {
      if (!absl::EndsWith(spelt, before)) continue;
      const std::string now = absl::StrCat(absl::StripSuffix(spelt, before), field.field->name());
      const auto found = std::find_if(names.begin(), names.end(),
                                      [&](const std::string& other) { return FieldSpelling(other) == now; });
      if (found != names.end()) return absl::StrCat(", which is now ", *found, " ", field.rules->value());
    }
  }
  return "";
}

}  // namespace

const std::vector<ConfigField>& ConfigFields() {
  static const auto* fields = new std::vector<ConfigField>(ReadSchema());
  return *fields;
}

const ConfigField* FindFieldByPath(absl::string_view path) {
  for (const ConfigField& field : ConfigFields()) {
    if (field.path == path) return &field;
  }
  return nullptr;
}

const ConfigField* FindFieldByFlag(absl::string_view flag) {
  for (const ConfigField& field : ConfigFields()) {
    if (field.flag() == flag) return &field;
  }
  return nullptr;
}

v1::Config DefaultConfig() {
  v1::Config config;
  for (const ConfigField& field : ConfigFields()) {
    if (field.rules->default_().empty()) continue;
    if (absl::Status status = SetField(field, field.rules->default_(), &config); !status.ok()) {
      // The schema contradicts itself. fields_test fails before anyone sees this.
      GOOGLE_LOG(FATAL) << "config.proto: the default of " << field.path << ": " << std::string(status.message());
    }
  }
  return config;
}

std::string Expected(const ConfigField& field) {
  const v1::FieldRules& rules = *field.rules;
  if (rules.one_of_size() > 0) return absl::StrCat("one of ", absl::StrJoin(rules.one_of(), ", "));
  std::string range;
  if (rules.has_min() && rules.has_max()) {
    range = absl::StrCat(" in [", Number(rules.min()), ", ", Number(rules.max()), "]");
  } else if (rules.has_min()) {
    range = absl::StrCat(" of at least ", Number(rules.min()));
  }
  switch (field.field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL: return "true or false";
    case FieldDescriptor::CPPTYPE_INT64: return absl::StrCat("a whole number", range);
    case FieldDescriptor::CPPTYPE_DOUBLE: return absl::StrCat("a number", range);
    default: return "a text";
  }
}

absl::Status SetField(const ConfigField& field, absl::string_view text, v1::Config* config) {
  google::protobuf::Message* section = config->GetReflection()->MutableMessage(config, field.section);
  const google::protobuf::Reflection* reflection = section->GetReflection();
  const v1::FieldRules& rules = *field.rules;
  const absl::Status wrong = absl::InvalidArgumentError(
      absl::StrCat("expected ", Expected(field), ", got \"", absl::CEscape(text.substr(0, 100)), "\""));
  switch (field.field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL: {
      if (text != "true" && text != "false") return wrong;
      reflection->SetBool(section, field.field, text == "true");
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_INT64: {
      int64_t value;
      if (!absl::SimpleAtoi(text, &value) || !InRange(rules, static_cast<double>(value))) return wrong;
      reflection->SetInt64(section, field.field, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double value;
      if (!absl::SimpleAtod(text, &value) || !InRange(rules, value)) return wrong;
      reflection->SetDouble(section, field.field, value);
      return absl::OkStatus();
    }
    default: {
      if (rules.one_of_size() > 0 &&
          std::find(rules.one_of().begin(), rules.one_of().end(), text) == rules.one_of().end()) {
        return wrong;
      }
      reflection->SetString(section, field.field, std::string(text));
      return absl::OkStatus();
    }
  }
}

std::string Suggestion(absl::string_view name, const std::vector<std::string>& names) {
  if (std::string renamed = Renamed(name, names); !renamed.empty()) return renamed;
  const std::string* best = nullptr;
  // A suggestion that is further away than this misleads more than it helps.
  size_t distance_min = 1 + name.size() / 3;
  for (const std::string& candidate : names) {
    const size_t distance = EditDistance(name, candidate);
    // A name cut short ("max-model") is nearer to its long form than the letters say.
    const bool beginning = name.size() >= 3 && absl::string_view(candidate).substr(0, name.size()) == name;
    const size_t counted = beginning ? 0 : distance;
    if (counted < distance_min || (best == nullptr && counted == distance_min)) {
      best = &candidate;
      distance_min = counted;
    }
  }
  return best == nullptr ? "" : absl::StrCat(", did you mean ", *best, "?");
}

}  // namespace causeway
