// Writes one safetensors file, front to back. Tensors of any size pass through without being held.
#ifndef CAUSEWAY_CLIENT_SAFETENSORS_WRITER_H_
#define CAUSEWAY_CLIENT_SAFETENSORS_WRITER_H_

#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace causeway {

class SafetensorsWriter {
 public:
  struct Tensor {
    std::string name, dtype;  // "F32", "I64"
    std::vector<int64_t> shape;
  };
  // The file gets its name with Finish; until then it is PATH.partial. InvalidArgument says why it cannot be written.
  static absl::StatusOr<std::unique_ptr<SafetensorsWriter>> Create(const std::string& path,
                                                                   const std::vector<Tensor>& tensors,
                                                                   const std::map<std::string, std::string>& metadata);
  ~SafetensorsWriter();  // removes a file that was not finished
  SafetensorsWriter(const SafetensorsWriter&) = delete;

  // Appends the next bytes of the tensors, in their order, little-endian. FailedPrecondition: there are more than the
  // tensors have.
  absl::Status Append(absl::string_view bytes);
  // FailedPrecondition: bytes are missing.
  absl::Status Finish();

 private:
  SafetensorsWriter(std::string path, int64_t bytes);
  absl::Status Failed() const;

  const std::string path_, partial_;
  int64_t left_;  // bytes to come
  std::ofstream file_;
};

}  // namespace causeway

#endif  // CAUSEWAY_CLIENT_SAFETENSORS_WRITER_H_
