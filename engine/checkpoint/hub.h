// Finds a model that was downloaded before: a folder, or a name in the local Hugging Face cache. Never uses the
// network.
#ifndef CAUSEWAY_ENGINE_CHECKPOINT_HUB_H_
#define CAUSEWAY_ENGINE_CHECKPOINT_HUB_H_

#include <string>

#include "absl/status/statusor.h"

namespace causeway {

// Finds the folder of `model`, which is a path to a folder or "org/name" (older models: "name"). A name is looked up in
// the cache at revision main. "org/name@revision" names another: a branch, a tag or a full commit. A folder of that
// name in the working directory takes precedence. NotFound says where it looked and which command downloads the model.
// InvalidArgument: neither a folder nor a possible name.
absl::StatusOr<std::string> ResolveModel(const std::string& model);

// The first of HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub whose variable is set, else
// ~/.cache/huggingface/hub.
std::string HubCacheFolder();

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CHECKPOINT_HUB_H_
