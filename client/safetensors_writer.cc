#include "client/safetensors_writer.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace causeway {

SafetensorsWriter::SafetensorsWriter(std::string path, int64_t bytes)
    : path_(std::move(path)),
      partial_(path_ + ".partial"),
      left_(bytes),
      file_(partial_, std::ios::binary | std::ios::trunc) {}

SafetensorsWriter::~SafetensorsWriter() {
  if (!file_.is_open()) return;
  file_.close();
  std::remove(partial_.c_str());
}

absl::Status SafetensorsWriter::Failed() const {
  return absl::InvalidArgumentError(absl::StrCat("cannot write ", partial_, ": ", std::strerror(errno)));
}

absl::StatusOr<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(
    const std::string& path, const std::vector<Tensor>& tensors, const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = {{"__metadata__", metadata}};
  int64_t end = 0;
  for (const Tensor& tensor : tensors) {
    const int64_t begin = end;
    int64_t bytes = tensor.dtype == "I64" ? 8 : 4;
    for (const int64_t size : tensor.shape) bytes *= size;
    end += bytes;
    header[tensor.name] = {{"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the tensors are aligned
  std::string length(8, '\0');
  for (int i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i));

  std::error_code error;
  if (std::filesystem::exists(path, error) && !std::filesystem::is_regular_file(path, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot write ", path, ": it is a folder or a device; expected a file's name"));
  }
  std::unique_ptr<SafetensorsWriter> writer(new SafetensorsWriter(path, end));
  writer->file_ << length << text;
  if (!writer->file_.good()) return writer->Failed();
  return writer;
}

absl::Status SafetensorsWriter::Append(absl::string_view bytes) {
  left_ -= static_cast<int64_t>(bytes.size());
  if (left_ < 0)
    return absl::FailedPreconditionError(absl::StrCat(path_, ": ", -left_, " bytes more than its tensors have"));
  file_.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return file_.good() ? absl::OkStatus() : Failed();
}

absl::Status SafetensorsWriter::Finish() {
  if (left_ > 0)
    return absl::FailedPreconditionError(absl::StrCat(path_, ": ", left_, " bytes of its tensors are missing"));
  file_.flush();
  if (!file_.good() || std::rename(partial_.c_str(), path_.c_str()) != 0) return Failed();
  file_.close();
  return absl::OkStatus();
}

}  // namespace causeway
