#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "server/rpc/admin.h"
#include "server/rpc/generation_call.h"
#include "server/rpc/limits.h"
#include "server/rpc/wire.h"

namespace causeway {
namespace {

// The request is scheduled as a generation of a single token, which nobody sees.
v1::GenerateRequest AsGeneration(v1::ExtractLayerOutputsRequest& wire) {
  v1::GenerateRequest request;
  request.set_request_id(wire.request_id());
  request.set_model(wire.model());
  request.set_priority(wire.priority());
  if (wire.has_prompt()) request.set_prompt(std::move(*wire.mutable_prompt()));
  if (wire.has_tokens()) request.mutable_tokens()->Swap(wire.mutable_tokens());
  if (wire.has_chat()) request.mutable_chat()->Swap(wire.mutable_chat());
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stop()->set_max_tokens(1);
  request.mutable_stop()->set_ignore_eos(true);
  return request;
}

// The layers are ascending, in [0, layers].
absl::StatusOr<std::set<int>> ReadLayers(const v1::ExtractLayerOutputsRequest& wire, int layers) {
  std::set<int> wanted;
  for (int i = 0; i < wire.layers_size(); ++i) {
    const int given = wire.layers(i);
    if (given < -layers - 1 || given > layers) {
      return absl::InvalidArgumentError(absl::StrCat("layers[", i, "] is ", given, ", expected a number in [",
                                                     -layers - 1, ", ", layers, "]: the model has ", layers,
                                                     " layers"));
    }
    const int layer = given < 0 ? layers + 1 + given : given;
    if (!wanted.insert(layer).second) {
      return absl::InvalidArgumentError(absl::StrCat("layers[", i, "] is ", given, ", which was there before",
                                                     given < 0 ? absl::StrCat(" as ", layer) : "",
                                                     "; expected each layer at most once"));
    }
  }
  for (int layer = 0; wire.layers().empty() && layer <= layers; ++layer) wanted.insert(layer);
  return wanted;
}

// Waits for the end of the request, then sends what was gathered.
class LayerOutputsStream final : public StreamWriter, public TokenSink {
 public:
  LayerOutputsStream(RpcContext& context, const grpc::CallbackServerContext& call)
      : call_(context, Method::kExtractLayerOutputs, call) {}

  // Call it once, right after construction.
  void Begin(const grpc::ByteBuffer& bytes) {
    Attach();
    if (absl::Status parsed = call_.Parse(bytes, &wire_); !parsed.ok()) return Refuse(call_.Refuse(parsed));
    call_.Prepare(AsGeneration(wire_), bytes.Length(),
                  [this, self = shared_from_this()](absl::StatusOr<PreparedRequest> prepared) {
                    if (absl::Status status = Start(std::move(prepared)); !status.ok())
                      return Refuse(call_.Refuse(status));
                    Open();
                  });
  }

  void OnDelta(GenerationDelta delta) override {}

  void OnEnd(GenerationEnd end) override {
    const grpc::Status status = call_.End(end);
    {
      absl::MutexLock lock(&mutex_);
      if (!gone()) outputs_ = std::move(end.layer_outputs);
    }
    End(status);
  }

 private:
  absl::Status Start(absl::StatusOr<PreparedRequest> result) {
    CAUSEWAY_ASSIGN_OR_RETURN(PreparedRequest prepared, std::move(result));
    const ModelSpec& spec = call_.engine().model().spec;
    const Units units = UnitsOf(spec);
    CAUSEWAY_ASSIGN_OR_RETURN(const std::set<int> wanted, ReadLayers(wire_, units.layers));
    v1::ExtractLayerOutputsResponse accepted;
    accepted.mutable_accepted()->set_request_id(prepared.request.request_id);
    accepted.mutable_accepted()->set_rows(static_cast<int64_t>(prepared.request.prompt.size()));
    accepted.mutable_accepted()->set_hidden_size(spec.hidden_size);
    for (const int layer : wanted) {
      accepted.mutable_accepted()->add_layers(layer);
      prepared.request.layer_units.push_back(layer == units.last_layer() && !wire_.before_final_norm() ? units.norm()
                                                                                                       : layer);
    }
    {
      absl::MutexLock lock(&mutex_);
      layers_.assign(wanted.begin(), wanted.end());
      accepted_ = std::move(accepted);
    }
    return call_.Submit(std::move(prepared.request), std::shared_ptr<TokenSink>(shared_from_this(), this));
  }

  bool Next(grpc::ByteBuffer* message) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (accepted_.has_value()) {
      *message = WriteMessage(*std::exchange(accepted_, std::nullopt));
      return true;
    }
    if (outputs_ == nullptr) return false;
    if (layer_ == layers_.size()) {
      outputs_.reset();  // all is written, so another request may have the memory
      return false;
    }
    const int64_t row_bytes = outputs_->width * static_cast<int64_t>(sizeof(float));
    const int64_t rows = std::clamp<int64_t>(kLayerRowsBytesMax / row_bytes, 1, outputs_->rows - row_);
    const float* values = outputs_->of_unit(outputs_->units[layer_]) + row_ * outputs_->width;
    v1::ExtractLayerOutputsResponse response;
    v1::LayerRows* out = response.mutable_rows();
    out->set_layer(layers_[layer_]);
    out->set_first_row(row_);
    out->set_values(values, static_cast<size_t>(rows * row_bytes));  // little-endian, as all our processors
    row_ += rows;
    if (row_ == outputs_->rows) ++layer_, row_ = 0;
    *message = WriteMessage(response);
    return true;
  }

  void OnGone() override {
    {
      absl::MutexLock lock(&mutex_);
      outputs_.reset();
    }
    call_.OnCancel();
  }

  GenerationCall call_;
  v1::ExtractLayerOutputsRequest wire_;              // until the request is submitted
  std::vector<int> layers_ ABSL_GUARDED_BY(mutex_);  // as the caller counts them, in the order of the outputs' units
  std::optional<v1::ExtractLayerOutputsResponse> accepted_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const LayerOutputs> outputs_ ABSL_GUARDED_BY(mutex_);
  size_t layer_ ABSL_GUARDED_BY(mutex_) = 0;  // which of layers_ the next rows belong to
  int64_t row_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

StreamReactor* HandleExtractLayerOutputs(RpcContext& context, grpc::CallbackServerContext* call,
                                         const grpc::ByteBuffer& request) {
  auto stream = std::make_shared<LayerOutputsStream>(context, *call);
  stream->Begin(request);
  return stream.get();  // keeps itself until OnDone
}

}  // namespace causeway
