// The configuration's fields as config.proto declares them. File, environment, flags, --help and the reference all read
// them here.
#ifndef CAUSEWAY_SERVER_STARTUP_FIELDS_H_
#define CAUSEWAY_SERVER_STARTUP_FIELDS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "causeway/v1/config.pb.h"

namespace causeway {

struct ConfigField {
  const google::protobuf::FieldDescriptor* section;
  const google::protobuf::FieldDescriptor* field;
  const v1::FieldRules* rules;
  std::string path;         // "batching.max_num_seqs"
  std::string environment;  // "CAUSEWAY_BATCHING_MAX_NUM_SEQS"

  const std::string& flag() const { return rules->flag(); }
  bool is_bool() const { return field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_BOOL; }
  bool is_text() const { return field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_STRING; }
};

// The fields in the schema's order; they live for ever.
const std::vector<ConfigField>& ConfigFields();
// Null when there is none.
const ConfigField* FindFieldByPath(absl::string_view path);
const ConfigField* FindFieldByFlag(absl::string_view flag);

// A Config with every default filled in.
v1::Config DefaultConfig();

// Says what the field may hold: "a whole number in [1, 4096]", "one of auto, bf16, ...".
std::string Expected(const ConfigField& field);
// Sets the field from text. InvalidArgument: "expected WHAT, got TEXT"; the caller adds where.
absl::Status SetField(const ConfigField& field, absl::string_view text, v1::Config* config);

// Returns ", did you mean X?" when one of the names is near, ", which is now X VALUE" when the name is a former one of
// X's, else "".
std::string Suggestion(absl::string_view name, const std::vector<std::string>& names);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_STARTUP_FIELDS_H_
