// Finds a model that was downloaded before: a folder, or a name in the local Hugging Face cache. Never uses the
// network.
#ifndef CAUSEWAY_ENGINE_CHECKPOINT_HUB_H_
#define CAUSEWAY_ENGINE_CHECKPOINT_HUB_H_

#include <string>

#include "absl/status/statusor.h"

namespace causeway {

// The folder of `model`: a path to a folder; or "org/name" (older models: "name"), looked up in the cache at revision
// main, or at "org/name@revision": a branch, a tag or a full commit. A folder of that name in the working directory
// goes first. NotFound says where was looked and which command downloads it. InvalidArgument: neither a folder nor a
// possible name.
absl::StatusOr<std::string> ResolveModel(const std::string& model);

// HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub or ~/.cache/huggingface/hub: the first whose variable is
// set.
std::string HubCacheFolder();

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CHECKPOINT_HUB_H_
