#include "server/startup/config_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>
#include <vector>

#include <nlohmann/json.hpp>
#include <yaml-cpp/yaml.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status.h"
#include "google/protobuf/descriptor.h"
#include "server/startup/fields.h"

namespace causeway {
namespace {

absl::string_view Kind(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Scalar: return "a value";
    case YAML::NodeType::Sequence: return "a list";
    case YAML::NodeType::Map: return "a map";
    default: return "nothing";
  }
}

class Reader {
 public:
  Reader(std::string file, v1::Config* config, std::map<std::string, std::string>* origins)
      : file_(std::move(file)), config_(config), origins_(origins) {}

  absl::Status ReadDocument(const YAML::Node& root) {
    if (root.IsNull()) return absl::OkStatus();  // an empty file
    if (!root.IsMap()) return Error(root, "", absl::StrCat("expected sections, got ", Kind(root)));
    const auto* schema = v1::Config::descriptor();
    std::vector<std::string> names;
    for (int i = 0; i < schema->field_count(); ++i) names.push_back(schema->field(i)->name());
    std::set<std::string> seen;
    for (const auto& entry : root) {
      const YAML::Node &key = entry.first, &value = entry.second;
      CAUSEWAY_RETURN_IF_ERROR(CheckKey(key, "", &seen));
      const auto* section = schema->FindFieldByName(key.Scalar());
      if (section == nullptr) {
        return Error(key, key.Scalar(),
                     absl::StrCat("no such section", Suggestion(key.Scalar(), names), " Sections are ",
                                  absl::StrJoin(names, ", "), "."));
      }
      if (value.IsNull()) continue;  // all of it is commented out
      if (!value.IsMap()) return Error(value, key.Scalar(), absl::StrCat("expected fields, got ", Kind(value)));
      CAUSEWAY_RETURN_IF_ERROR(ReadSection(key.Scalar(), *section->message_type(), value));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status ReadSection(const std::string& name, const google::protobuf::Descriptor& schema,
                           const YAML::Node& section) {
    std::vector<std::string> names;
    for (int i = 0; i < schema.field_count(); ++i) names.push_back(schema.field(i)->name());
    std::set<std::string> seen;
    for (const auto& entry : section) {
      const YAML::Node &key = entry.first, &value = entry.second;
      CAUSEWAY_RETURN_IF_ERROR(CheckKey(key, name, &seen));
      const std::string path = absl::StrCat(name, ".", key.Scalar());
      const ConfigField* field = FindFieldByPath(path);
      if (field == nullptr) {
        return Error(key, path,
                     absl::StrCat("no such field", Suggestion(key.Scalar(), names), " Fields of ", name, " are ",
                                  absl::StrJoin(names, ", "), "."));
      }
      CAUSEWAY_RETURN_IF_ERROR(ReadField(*field, key, value));
      (*origins_)[path] = absl::StrCat(file_, ":", value.Mark().line + 1);
    }
    return absl::OkStatus();
  }

  absl::Status ReadField(const ConfigField& field, const YAML::Node& key, const YAML::Node& value) {
    std::string text;
    if (value.IsMap() && (field.rules->map_as_list() || field.rules->map_as_json())) {
      CAUSEWAY_RETURN_IF_ERROR(ReadMap(field, value, &text));
    } else if (!value.IsScalar()) {
      // A missing value has no place in the file, but its key has.
      return Error(value.IsNull() ? key : value, field.path,
                   absl::StrCat("expected ", Expected(field), ", got ", Kind(value)));
    } else if (!field.is_text() && value.Tag() == "!") {  // yaml-cpp's tag for a quoted scalar
      return Error(value, field.path,
                   absl::StrCat("expected ", Expected(field), ", got the text \"", absl::CEscape(value.Scalar()),
                                "\" in quotes"));
    } else {
      text = value.Scalar();
    }
    if (absl::Status status = SetField(field, text, config_); !status.ok()) {
      return Error(value, field.path, std::string(status.message()));
    }
    return absl::OkStatus();
  }

  absl::Status ReadMap(const ConfigField& field, const YAML::Node& map, std::string* text) {
    std::set<std::string> seen;
    std::vector<std::string> list;
    nlohmann::json object = nlohmann::json::object();
    for (const auto& entry : map) {
      const YAML::Node &key = entry.first, &value = entry.second;
      CAUSEWAY_RETURN_IF_ERROR(CheckKey(key, field.path, &seen));
      if (!value.IsScalar()) {
        return Error(value, absl::StrCat(field.path, ".", key.Scalar()),
                     absl::StrCat("expected a text or a number, got ", Kind(value)));
      }
      list.push_back(absl::StrCat(key.Scalar(), ":", value.Scalar()));
      object[key.Scalar()] = value.Scalar();
    }
    if (list.empty()) return Error(map, field.path, "the map is empty");
    *text = field.rules->map_as_json() ? object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
                                       : absl::StrJoin(list, ",");
    return absl::OkStatus();
  }

  absl::Status CheckKey(const YAML::Node& key, const std::string& parent, std::set<std::string>* seen) {
    if (!key.IsScalar()) return Error(key, parent, absl::StrCat("expected a name before the colon, got ", Kind(key)));
    if (seen->insert(key.Scalar()).second) return absl::OkStatus();
    return Error(key, parent.empty() ? key.Scalar() : absl::StrCat(parent, ".", key.Scalar()), "given twice");
  }

  absl::Status Error(const YAML::Node& node, const std::string& field, const std::string& message) const {
    return absl::InvalidArgumentError(
        absl::StrCat(file_, ":", node.Mark().line + 1, ": ", field, field.empty() ? "" : ": ", message));
  }

  const std::string file_;
  v1::Config* const config_;
  std::map<std::string, std::string>* const origins_;
};

}  // namespace

absl::Status ReadConfigText(const std::string& text, const std::string& file, v1::Config* config,
                            std::map<std::string, std::string>* origins) {
  // yaml-cpp throws; only this function calls it.
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ": holds ", documents.size(), " YAML documents, expected one"));
    }
    return documents.empty() ? absl::OkStatus() : Reader(file, config, origins).ReadDocument(documents[0]);
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(file, ":", error.mark.line + 1, ": not valid YAML: ", error.msg));
  }
}

absl::Status ReadConfigFile(const std::string& file, v1::Config* config, std::map<std::string, std::string>* origins) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return absl::NotFoundError(absl::StrCat(file, ": cannot be read: ", std::strerror(errno)));
  std::string text(kConfigFileBytesMax + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) return absl::InvalidArgumentError(absl::StrCat(file, ": cannot be read: ", std::strerror(errno)));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kConfigFileBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": larger than ", kConfigFileBytesMax, " bytes"));
  }
  return ReadConfigText(text, file, config, origins);
}

}  // namespace causeway
