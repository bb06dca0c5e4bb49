#include "engine/checkpoint/checkpoint.h"

#include <fcntl.h>
#include <sys/uio.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/listed.h"
#include "engine/base/status.h"
#include "engine/checkpoint/safetensors.h"

namespace causeway {
namespace {

namespace fs = std::filesystem;

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr size_t kConfigBytesMax = size_t{16} << 20;  // published ones stay below 1 MB, including lists of labels
constexpr size_t kIndexBytesMax = size_t{100} << 20;
constexpr size_t kShardsMax = 10'000;
constexpr uint64_t kPointerBytes = 64;  // enough to know a Git LFS pointer by

// A link that leads nowhere counts as there: the error of opening it then names the file.
bool IsThere(const std::string& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

// Says why a folder without the two known files has no weights that can be read.
absl::Status NoWeights(const std::string& folder) {
  std::vector<std::string> pickles, others;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const std::string extension = entry.path().extension().string();
    if (extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".ckpt" || extension == ".pkl")
      pickles.push_back(name);
    if (extension == ".safetensors" || extension == ".gguf") others.push_back(name);
  }
  std::sort(pickles.begin(), pickles.end());
  std::sort(others.begin(), others.end());
  std::string message = absl::StrCat(folder, " has neither ", kSingleFile, " nor ", kIndexFile);
  if (!others.empty())
    absl::StrAppend(&message, "; it holds ", Listed(others), ", which are not read under these names");
  if (!pickles.empty()) {
    absl::StrAppend(&message, "; its pickle files (", Listed(pickles),
                    ") are refused, since loading one can run any code inside it: ",
                    "convert them with transformers, model.save_pretrained(folder), which writes safetensors");
  }
  return absl::NotFoundError(message);
}

absl::Status CheckShardName(const std::string& index, const std::string& name) {
  const bool plain = !name.empty() && name.size() <= 255 && name[0] != '.' &&
                     name.find_first_of("/\\") == std::string::npos &&
                     std::all_of(name.begin(), name.end(), [](unsigned char c) { return c >= 0x20 && c != 0x7f; });
  if (plain && absl::EndsWith(name, ".safetensors")) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(index, ": weight_map names the file \"", Printable(name),
                   "\"; expected a .safetensors file in the same folder, without any path"));
}

// Tensor name -> shard's file name.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const std::string& path) {
  CAUSEWAY_ASSIGN_OR_RETURN(const Json index, ReadJsonFile(path, kIndexBytesMax));
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": weight_map is missing; expected an object of tensor names and files"));
  }
  std::map<std::string, std::string> shard_of;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    if (!file.is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": weight_map: ", Printable(tensor), ": expected a file name, found ", JsonKind(file)));
    }
    CAUSEWAY_RETURN_IF_ERROR(CheckShardName(path, file.get_ref<const std::string&>()));
    shard_of[tensor] = file.get<std::string>();
  }
  return shard_of;
}

absl::StatusOr<Json> ReadObject(const std::string& path) {
  CAUSEWAY_ASSIGN_OR_RETURN(Json json, ReadJsonFile(path, kConfigBytesMax));
  if (!json.is_object())
    return absl::InvalidArgumentError(absl::StrCat(path, ": expected an object, found ", JsonKind(json)));
  return json;
}

// What a broken generation_config.json says as far as it can be read: generation has defaults for the rest.
absl::StatusOr<Json> ReadLenient(const std::string& path, std::vector<std::string>& warnings) {
  CAUSEWAY_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kConfigBytesMax));
  absl::StatusOr<Json> json = ParseJson(text, path);
  if (json.ok() && json->is_object()) return json;
  const std::string why = json.ok() ? absl::StrCat(path, ": expected an object, found ", JsonKind(*json))
                                    : std::string(json.status().message());
  json = ParseLenientJson(text, path);
  if (!json.ok() || !json->is_object()) {
    warnings.push_back(absl::StrCat(why, "; the file is ignored"));
    return Json::object();
  }
  warnings.push_back(absl::StrCat(why, "; the rest of the file is read"));
  return json;
}

// Another program's settings for quantized weights, where config.json has none: AutoGPTQ's and AutoAWQ's first folders.
absl::Status AddQuantization(const std::string& path, absl::string_view method, Json& config) {
  if (!IsThere(path) || (config.contains("quantization_config") && !config["quantization_config"].is_null()))
    return absl::OkStatus();
  CAUSEWAY_ASSIGN_OR_RETURN(Json settings, ReadObject(path));
  if (!settings.contains("quant_method")) settings["quant_method"] = std::string(method);
  config["quantization_config"] = std::move(settings);
  return absl::OkStatus();
}

}  // namespace

Checkpoint::Checkpoint() = default;
Checkpoint::~Checkpoint() = default;

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& folder, Weights weights) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) return absl::NotFoundError(absl::StrCat("no folder at ", folder));
  auto checkpoint = std::unique_ptr<Checkpoint>(new Checkpoint);  // the constructor is private
  checkpoint->folder_ = folder;
  const auto in_folder = [&folder](absl::string_view name) { return (fs::path(folder) / std::string(name)).string(); };
  if (!IsThere(in_folder("config.json")))
    return absl::NotFoundError(absl::StrCat(folder, " has no config.json; is it a model's folder?"));
  CAUSEWAY_ASSIGN_OR_RETURN(Json config, ReadObject(in_folder("config.json")));
  Json generation_config = Json::object();
  if (IsThere(in_folder("generation_config.json"))) {
    CAUSEWAY_ASSIGN_OR_RETURN(generation_config,
                              ReadLenient(in_folder("generation_config.json"), checkpoint->warnings_));
  }
  CAUSEWAY_RETURN_IF_ERROR(AddQuantization(in_folder("quantize_config.json"), "gptq", config));
  CAUSEWAY_RETURN_IF_ERROR(AddQuantization(in_folder("quant_config.json"), "awq", config));
  checkpoint->config_ = std::make_unique<const Json>(std::move(config));
  checkpoint->generation_config_ = std::make_unique<const Json>(std::move(generation_config));

  // As in other programs, a single file takes precedence over an index that was left there.
  if (IsThere(in_folder(kSingleFile))) {
    CAUSEWAY_RETURN_IF_ERROR(checkpoint->AddFile(kSingleFile));
    return checkpoint;
  }
  const std::string index = in_folder(kIndexFile);
  if (!IsThere(index)) {
    if (weights == Weights::kOptional) return checkpoint;
    return NoWeights(folder);
  }
  CAUSEWAY_ASSIGN_OR_RETURN(const auto shard_of, ReadIndex(index));
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : shard_of) shards.insert(shard);
  if (shards.size() > kShardsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(index, " names ", shards.size(), " files; at most ", kShardsMax, " are read"));
  }
  std::vector<std::string> missing;
  for (const std::string& shard : shards) {
    if (!fs::exists(in_folder(shard), error)) missing.push_back(shard);
  }
  if (!missing.empty() && weights == Weights::kOptional) return checkpoint;
  if (!missing.empty()) {
    return absl::NotFoundError(absl::StrCat(folder, ": ", missing.size(), " of ", shards.size(), " files of ",
                                            kIndexFile, " are missing: ", Listed(missing),
                                            "; is the download complete?"));
  }
  for (const std::string& shard : shards) CAUSEWAY_RETURN_IF_ERROR(checkpoint->AddFile(shard));
  checkpoint->CompareIndex(shard_of);
  return checkpoint;
}

void Checkpoint::CompareIndex(const std::map<std::string, std::string>& shard_of) {
  const auto shard = [this](const TensorInfo& tensor) { return fs::path(files_[tensor.file]).filename().string(); };
  std::vector<std::string> wrong;
  for (const auto& [name, named] : shard_of) {
    const auto tensor = tensors_.find(name);
    const std::string shown = Printable(name);
    if (tensor == tensors_.end()) {
      wrong.push_back(absl::StrCat(shown, " is not in ", named));
    } else if (shard(tensor->second) != named) {
      wrong.push_back(absl::StrCat(shown, " is not in ", named, " but in ", shard(tensor->second)));
    }
  }
  for (const auto& [name, tensor] : tensors_) {
    if (shard_of.count(name) == 0)
      wrong.push_back(absl::StrCat(name, " is in ", shard(tensor), " and not in the index"));
  }
  if (!wrong.empty())
    warnings_.push_back(absl::StrCat(folder_, ": ", kIndexFile, " and its files disagree: ", Listed(wrong)));
}

absl::Status Checkpoint::AddFile(const std::string& name) {
  const std::string path = (fs::path(folder_) / name).string();
  CAUSEWAY_ASSIGN_OR_RETURN(File file, File::Open(path));
  std::string head(std::min<uint64_t>(kPointerBytes, file.bytes()), '\0');
  CAUSEWAY_RETURN_IF_ERROR(ReadExactly(file.descriptor(), 0, absl::MakeSpan(&head[0], head.size()), path));
  CAUSEWAY_RETURN_IF_ERROR(CheckNoLfsPointer(head, path));
  head.resize(std::min(head.size(), kSafetensorsLengthBytes));
  CAUSEWAY_ASSIGN_OR_RETURN(const uint64_t header_bytes, SafetensorsHeaderBytes(head, file.bytes(), path));
  head.resize(kSafetensorsLengthBytes + header_bytes);
  CAUSEWAY_RETURN_IF_ERROR(ReadExactly(file.descriptor(), 0, absl::MakeSpan(&head[0], head.size()), path));
  CAUSEWAY_ASSIGN_OR_RETURN(std::vector<TensorInfo> tensors, ParseSafetensorsHeader(head, file.bytes(), path));
  for (TensorInfo& tensor : tensors) {
    tensor.file = static_cast<int>(files_.size());
    std::string key = tensor.name;
    const auto [place, is_new] = tensors_.try_emplace(std::move(key), std::move(tensor));
    if (!is_new) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": tensor ", place->first, " is also in ", files_[place->second.file]));
    }
  }
  files_.push_back(path);
  open_files_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::Status Checkpoint::Read(const TensorInfo& tensor, uint64_t offset, absl::Span<char> destination) const {
  if (offset > tensor.bytes || destination.size() > tensor.bytes - offset) {
    return absl::OutOfRangeError(absl::StrCat("tensor ", tensor.name, " has ", tensor.bytes, " bytes; asked for ",
                                              destination.size(), " from byte ", offset));
  }
  return ReadExactly(open_files_[tensor.file].descriptor(), tensor.offset + offset, destination,
                     absl::StrCat(files_[tensor.file], ": tensor ", tensor.name));
}

bool Checkpoint::WillRead(int file, uint64_t offset, uint64_t bytes) const {
  // A file is most often in memory as a whole or not at all, and advice about it would look at every page. So it looks
  // at one byte first.
  char first;
  const iovec probe{&first, 1};
  if (::preadv2(open_files_[file].descriptor(), &probe, 1, static_cast<off_t>(offset), RWF_NOWAIT) >= 0) return false;
  ::posix_fadvise(open_files_[file].descriptor(), static_cast<off_t>(offset), static_cast<off_t>(bytes),
                  POSIX_FADV_WILLNEED);
  return true;
}

}  // namespace causeway
