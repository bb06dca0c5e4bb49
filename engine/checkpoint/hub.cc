#include "engine/checkpoint/hub.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/base/status.h"
#include "engine/checkpoint/file.h"

namespace causeway {
namespace {

namespace fs = std::filesystem;

bool IsFolder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

// The variable's value with a leading ~ resolved; empty when unset.
std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return "";
  const char* home = std::getenv("HOME");
  if (value[0] == '~' && (value[1] == '/' || value[1] == '\0') && home != nullptr) return absl::StrCat(home, value + 1);
  return value;
}

// Whether this may be a part of a repository's name or of a revision, and so of a path.
bool IsPlain(absl::string_view part) {
  if (part.empty() || part.size() > 96 || part[0] == '.' || part[0] == '-') return false;
  for (char c : part) {
    if (!absl::ascii_isalnum(c) && c != '-' && c != '_' && c != '.') return false;
  }
  return !absl::StrContains(part, "..");
}

bool ArePlain(const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    if (!IsPlain(part)) return false;
  }
  return true;
}

}  // namespace

std::string HubCacheFolder() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {  // the second is an older name of the first
    if (std::string folder = Environment(name); !folder.empty()) return folder;
  }
  if (std::string home = Environment("HF_HOME"); !home.empty()) return absl::StrCat(home, "/hub");
  if (std::string cache = Environment("XDG_CACHE_HOME"); !cache.empty()) return absl::StrCat(cache, "/huggingface/hub");
  return absl::StrCat(Environment("HOME"), "/.cache/huggingface/hub");
}

absl::StatusOr<std::string> ResolveModel(const std::string& model) {
  if (model.empty()) return absl::InvalidArgumentError("no model given; expected a folder, or a name such as org/name");
  if (IsFolder(model)) return model;

  const std::vector<std::string> name_and_revision = absl::StrSplit(model, absl::MaxSplits('@', 1));
  const std::string name = name_and_revision[0];
  const std::string revision = name_and_revision.size() == 2 ? name_and_revision[1] : "main";
  const std::vector<std::string> parts = absl::StrSplit(name, '/');
  if (parts.size() > 2 || !ArePlain(parts)) {
    return absl::NotFoundError(
        absl::StrCat("no folder at ", model, "; it does not read as a model's name (org/name) either"));
  }
  // Revisions may have parts (refs/pr/1), names may not.
  if (!ArePlain(absl::StrSplit(revision, '/'))) {
    return absl::InvalidArgumentError(
        absl::StrCat("the revision \"", revision, "\" of ", name, " is not a branch, tag or commit name"));
  }

  const std::string cache = HubCacheFolder();
  const std::string repository = absl::StrCat(cache, "/models--", absl::StrJoin(parts, "--"));
  std::string command = absl::StrCat("hf download ", name);
  if (revision != "main") absl::StrAppend(&command, " --revision ", revision);
  if (!IsFolder(repository)) {
    return absl::NotFoundError(absl::StrCat("no folder at ", model,
                                            ", and no model of that name in the Hugging Face cache at ", cache,
                                            " (nothing is downloaded at start); get it with: ", command));
  }
  std::string commit = revision;
  absl::StatusOr<std::string> reference = ReadSmallFile(absl::StrCat(repository, "/refs/", revision), 4096);
  if (reference.ok()) commit = std::string(absl::StripAsciiWhitespace(*reference));
  const std::string snapshot = absl::StrCat(repository, "/snapshots/", commit);
  std::error_code error;
  if (!IsPlain(commit) || !IsFolder(snapshot)) {
    return absl::NotFoundError(
        absl::StrCat(repository, " has no snapshot of revision ", revision, "; get it with: ", command));
  }
  if (!fs::exists(absl::StrCat(snapshot, "/config.json"), error)) {
    return absl::NotFoundError(
        absl::StrCat(snapshot, " has no config.json: the download is not complete; finish it with: ", command));
  }
  return snapshot;
}

}  // namespace causeway
