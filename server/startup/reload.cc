#include "server/startup/reload.h"

#include <utility>

#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "google/protobuf/util/message_differencer.h"
#include "server/startup/fields.h"

namespace causeway {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::util::MessageDifferencer;

void CopyField(const ConfigField& field, const v1::Config& from, v1::Config* to) {
  const google::protobuf::Message& read = from.GetReflection()->GetMessage(from, field.section);
  google::protobuf::Message* const written = to->GetReflection()->MutableMessage(to, field.section);
  const google::protobuf::Reflection& reflection = *read.GetReflection();
  switch (field.field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.SetBool(written, field.field, reflection.GetBool(read, field.field));
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection.SetInt64(written, field.field, reflection.GetInt64(read, field.field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.SetDouble(written, field.field, reflection.GetDouble(read, field.field));
    default: return reflection.SetString(written, field.field, reflection.GetString(read, field.field));
  }
}

}  // namespace

ReloadedConfig Reload(const v1::Config& running, const v1::Config& read) {
  ReloadedConfig reloaded{running, {}, {}};
  for (const ConfigField& field : ConfigFields()) {
    v1::Config changed = reloaded.config;
    CopyField(field, read, &changed);
    if (MessageDifferencer::Equals(changed, reloaded.config)) continue;
    if (!field.rules->reloadable()) {
      reloaded.refused.push_back(field.path);
      continue;
    }
    reloaded.taken.push_back(field.path);
    reloaded.config = std::move(changed);
  }
  return reloaded;
}

}  // namespace causeway
