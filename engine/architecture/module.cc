#include "engine/architecture/module.h"

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

void Visit(const Module& module, const std::string& path,
           const std::function<void(const std::string&, const Parameter&)>& visit) {
  for (const Parameter& parameter : module.parameters) visit(JoinPath(path, parameter.name), parameter);
  for (const Module& child : module.children) Visit(child, JoinPath(path, child.name), visit);
}

}  // namespace

std::string JoinPath(const std::string& parent, const std::string& name) {
  return parent.empty() || name.empty() ? parent + name : absl::StrCat(parent, ".", name);
}

void VisitParameters(const Module& root, const std::function<void(const std::string&, const Parameter&)>& visit) {
  Visit(root, root.name, visit);
}

}  // namespace causeway
