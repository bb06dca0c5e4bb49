#include "engine/architecture/module.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"

namespace causeway {
namespace {

void Visit(const Module& module, const std::string& path,
           const std::function<void(const std::string&, const Parameter&)>& visit) {
  for (const Parameter& parameter : module.parameters) visit(JoinPath(path, parameter.name), parameter);
  for (const Module& child : module.children) Visit(child, JoinPath(path, child.name), visit);
}

}  // namespace

std::string ModulePath(const std::string& tensor) { return tensor.substr(0, tensor.rfind('.')); }

std::string JoinPath(const std::string& parent, const std::string& name) {
  return parent.empty() || name.empty() ? parent + name : absl::StrCat(parent, ".", name);
}

Module& ModuleFinder::At(absl::string_view path) {
  Module* module = &root_;
  absl::string_view rest = path;
  for (size_t depth = 0; !rest.empty(); ++depth) {
    if (depth == steps_.size()) steps_.push_back({module, 0});
    Step& step = steps_[depth];
    if (step.module != module) step = {module, 0};
    const std::vector<Module>& children = module->children;
    const auto leads_on = [&](size_t child) {
      const std::string& name = children[child].name;
      return absl::StartsWith(rest, name) && (rest.size() == name.size() || rest[name.size()] == '.');
    };
    size_t tried = 0;
    for (; tried < children.size() && !leads_on(step.child); ++tried) step.child = (step.child + 1) % children.size();
    CAUSEWAY_CHECK(tried < children.size(), "the module tree has no ", path);
    module = &module->children[step.child];
    rest.remove_prefix(std::min(rest.size(), module->name.size() + 1));
  }
  return *module;
}

void VisitParameters(const Module& root, const std::function<void(const std::string&, const Parameter&)>& visit) {
  Visit(root, root.name, visit);
}

}  // namespace causeway
