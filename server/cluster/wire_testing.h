// For tests of conversions to messages.
#ifndef CAUSEWAY_SERVER_CLUSTER_WIRE_TESTING_H_
#define CAUSEWAY_SERVER_CLUSTER_WIRE_TESTING_H_

#include <string>
#include <vector>

#include <google/protobuf/message.h>

#include "absl/strings/str_cat.h"

namespace causeway::testing {

// The fields of a message, and of those in it, that have their default value or no element: "Step.sequences.slot". With
// none, the round trip of the message loses no field unseen.
inline std::vector<std::string> UnsetFields(const google::protobuf::Message& message) {
  const google::protobuf::Descriptor& type = *message.GetDescriptor();
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  std::vector<std::string> unset;
  for (int i = 0; i < type.field_count(); ++i) {
    const google::protobuf::FieldDescriptor* field = type.field(i);
    const int elements = field->is_repeated() ? reflection.FieldSize(message, field) : 0;
    if (field->is_repeated() ? elements == 0 : !reflection.HasField(message, field))
      unset.push_back(absl::StrCat(std::string(type.name()), ".", std::string(field->name())));
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) continue;
    std::vector<std::string> inside;
    if (elements > 0) inside = UnsetFields(reflection.GetRepeatedMessage(message, field, 0));
    if (!field->is_repeated() && reflection.HasField(message, field))
      inside = UnsetFields(reflection.GetMessage(message, field));
    unset.insert(unset.end(), inside.begin(), inside.end());
  }
  return unset;
}

}  // namespace causeway::testing

#endif  // CAUSEWAY_SERVER_CLUSTER_WIRE_TESTING_H_
