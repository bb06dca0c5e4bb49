// Lists of modules as quantized checkpoints have them in their config.json.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_MODULE_NAMES_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_MODULE_NAMES_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace re2 {
class RE2;
}

namespace causeway {

// An entry stands for the modules whose path has its components in a row ("gate" is not gate_proj), begins with it
// ("model.layers.0."), ends with it, or begins with what it describes as a regular expression. Transformers has the
// last three (should_convert_module), where the first was the rule of earlier writers of such lists.
class ModuleNames {
 public:
  // InvalidArgument names an entry that is no regular expression, with why.
  static absl::StatusOr<ModuleNames> Make(const std::vector<std::string>& entries);

  bool Contains(absl::string_view path) const;

 private:
  std::vector<std::string> entries_;
  std::vector<std::shared_ptr<const re2::RE2>> expressions_;  // shared by copies of this
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_MODULE_NAMES_H_
