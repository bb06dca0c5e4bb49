#include "server/cluster/model_files.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <memory>
#include <set>

#include <nlohmann/json.hpp>
#include <openssl/evp.h>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/status.h"
#include "engine/checkpoint/file.h"
#include "engine/checkpoint/safetensors.h"

namespace causeway {
namespace {

// Read from each file, beside its header. All of a shard of 5 GB would take seconds even from memory.
constexpr uint64_t kPieces = 32, kPieceBytes = 4096;

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    CAUSEWAY_CHECK(context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }
  void Add(absl::string_view bytes) {
    CAUSEWAY_CHECK(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
  }
  std::string Hexadecimal() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned int bytes = 0;
    CAUSEWAY_CHECK(EVP_DigestFinal_ex(context_.get(), digest.data(), &bytes) == 1);
    return absl::BytesToHexString({reinterpret_cast<const char*>(digest.data()), bytes});
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

// Reads [offset, offset + bytes) of a file into the digest.
absl::Status AddRange(const File& file, uint64_t offset, uint64_t bytes, const std::string& path, Sha256& digest) {
  std::string range(bytes, '\0');
  CAUSEWAY_RETURN_IF_ERROR(ReadExactly(file.descriptor(), offset, absl::MakeSpan(range.data(), range.size()), path));
  digest.Add(range);
  return absl::OkStatus();
}

absl::Status DescribeWeights(const std::string& path, v1::ModelFile& described) {
  CAUSEWAY_ASSIGN_OR_RETURN(const File file, File::Open(path));
  std::array<char, kSafetensorsLengthBytes> first;
  CAUSEWAY_RETURN_IF_ERROR(ReadExactly(file.descriptor(), 0, absl::MakeSpan(first), path));
  CAUSEWAY_ASSIGN_OR_RETURN(const uint64_t header,
                            SafetensorsHeaderBytes({first.data(), first.size()}, file.bytes(), path));
  Sha256 digest;
  const uint64_t data = kSafetensorsLengthBytes + header, bytes = file.bytes() - data;
  CAUSEWAY_RETURN_IF_ERROR(AddRange(file, 0, data, path, digest));
  if (bytes <= kPieces * kPieceBytes) {
    CAUSEWAY_RETURN_IF_ERROR(AddRange(file, data, bytes, path, digest));
  } else {
    const uint64_t last = bytes - kPieceBytes;
    for (uint64_t i = 0; i < kPieces; ++i)
      CAUSEWAY_RETURN_IF_ERROR(AddRange(file, data + last / (kPieces - 1) * i, kPieceBytes, path, digest));
  }
  described.set_name(std::filesystem::path(path).filename().string());
  described.set_bytes(static_cast<int64_t>(file.bytes()));
  described.set_digest(digest.Hexadecimal());
  return absl::OkStatus();
}

// What is different about a file; empty where nothing is.
std::string Difference(const v1::ModelFile* leader, const v1::ModelFile* follower) {
  if (leader == nullptr) return "is there and not at the leader";
  if (follower == nullptr) return "is not there, as it is at the leader";
  if (leader->bytes() != follower->bytes())
    return absl::StrCat("has ", follower->bytes(), " bytes, at the leader ", leader->bytes());
  if (leader->digest() != follower->digest())
    return absl::StrCat("has the digest ", follower->digest(), ", at the leader ", leader->digest());
  return "";
}

std::map<std::string, const v1::ModelFile*> ByName(const ModelFiles& files) {
  std::map<std::string, const v1::ModelFile*> by_name;
  for (const v1::ModelFile& file : files) by_name[file.name()] = &file;
  return by_name;
}

}  // namespace

absl::StatusOr<ModelFiles> DescribeModel(const Checkpoint& checkpoint) {
  ModelFiles files;
  const std::string config = checkpoint.config().dump();
  Sha256 digest;
  digest.Add(config);
  v1::ModelFile* described = files.Add();
  described->set_name("config.json");
  described->set_bytes(static_cast<int64_t>(config.size()));
  described->set_digest(digest.Hexadecimal());
  for (const std::string& path : checkpoint.files()) CAUSEWAY_RETURN_IF_ERROR(DescribeWeights(path, *files.Add()));
  return files;
}

absl::Status CompareModels(const ModelFiles& leader, const ModelFiles& follower, absl::string_view who) {
  std::map<std::string, const v1::ModelFile*> here = ByName(leader), there = ByName(follower);
  std::set<std::string> names;
  for (const auto* files : {&here, &there})
    for (const auto& [name, file] : *files) names.insert(name);
  std::string first;
  int others = 0;
  for (const std::string& name : names) {
    const std::string difference = Difference(here[name], there[name]);
    if (difference.empty()) continue;
    others += !first.empty();
    if (first.empty()) first = absl::StrCat(name, " ", difference);
  }
  if (first.empty()) return absl::OkStatus();
  const std::string more = others == 0 ? "" : absl::StrCat(" (", others, " other files differ, too)");
  return absl::FailedPreconditionError(
      absl::StrCat(who, " has another model than the leader: ", first, more, "; give all processes the same files"));
}

}  // namespace causeway
