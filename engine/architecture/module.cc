#include "engine/architecture/module.h"

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

void Visit(const Module& module, const std::string& path,
           const std::function<void(const std::string&, const Parameter&)>& visit) {
  for (const Parameter& parameter : module.parameters) visit(JoinPath(path, parameter.name), parameter);
  for (const Module& child : module.children) Visit(child, JoinPath(path, child.name), visit);
}

void Collect(Module& module, const std::string& path, ModulesByPath& modules) {
  modules[path] = &module;
  for (Module& child : module.children) Collect(child, JoinPath(path, child.name), modules);
}

}  // namespace

std::string ModulePath(const std::string& tensor) { return tensor.substr(0, tensor.rfind('.')); }

ModulesByPath CollectModules(Module& root) {
  ModulesByPath modules;
  Collect(root, root.name, modules);
  return modules;
}

std::string JoinPath(const std::string& parent, const std::string& name) {
  return parent.empty() || name.empty() ? parent + name : absl::StrCat(parent, ".", name);
}

void VisitParameters(const Module& root, const std::function<void(const std::string&, const Parameter&)>& visit) {
  Visit(root, root.name, visit);
}

}  // namespace causeway
