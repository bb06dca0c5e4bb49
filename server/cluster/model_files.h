// Whether the processes of a group have the same model, each in its own folder.
#ifndef CAUSEWAY_SERVER_CLUSTER_MODEL_FILES_H_
#define CAUSEWAY_SERVER_CLUSTER_MODEL_FILES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "causeway/v1/cluster.pb.h"
#include "engine/checkpoint/checkpoint.h"

namespace causeway {

using ModelFiles = google::protobuf::RepeatedPtrField<v1::ModelFile>;

// What a process that follows reads of a model: config.json, with the quantization settings that belong to it, however
// it is written down, and the safetensors files. Of those, the digest covers the header and pieces spread evenly over
// the data, a small part of it: other weights of the same shapes are told apart, single changed values are not. Texts
// and defaults of requests (the tokenizer, generation_config.json) are read by the process that leads alone.
//
// DataLoss: a file has become shorter, or cannot be read.
absl::StatusOr<ModelFiles> DescribeModel(const Checkpoint& checkpoint);

// FailedPrecondition names the first file that differs, with the sizes or digests of both, and how many others do.
// `who` begins the message: "rank 2 (node7)".
absl::Status CompareModels(const ModelFiles& leader, const ModelFiles& follower, absl::string_view who);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_MODEL_FILES_H_
