// An engine that does what a test tells it to, behind real RPCs.
#ifndef CAUSEWAY_SERVER_RPC_FAKE_ENGINE_H_
#define CAUSEWAY_SERVER_RPC_FAKE_ENGINE_H_

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/engine.h"

namespace causeway {

class FakeEngine : public Engine {
 public:
  // It has a vocabulary of 100 ids, and a tokenizer and a template where `folder` has them.
  explicit FakeEngine(const std::string& folder = "") {
    model_.name = "fake";
    model_.spec.vocab_size = 100;
    model_.spec.eos_token_ids = {2};
    model_.plan.options.max_model_len = 64;
    if (folder.empty()) return;
    tokenizer_ = *Tokenizer::Load(folder);
    chat_template_ = *ChatTemplate::Load(folder);
    model_.spec.vocab_size = tokenizer_->vocab_size();
  }

  absl::StatusOr<RequestHandle> Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) override {
    absl::MutexLock lock(&mutex_);
    if (!submit_status_.ok()) return submit_status_;
    if (running_.contains(request.request_id))
      return absl::AlreadyExistsError(absl::StrCat(request.request_id, " is already running"));
    last_ = request;
    running_[request.request_id] = {++handles_, std::move(sink)};
    return handles_;
  }
  void Cancel(RequestHandle handle) override {
    std::string id;
    {
      absl::MutexLock lock(&mutex_);
      for (const auto& [name, request] : running_) {
        if (request.handle == handle) id = name;
      }
    }
    if (!id.empty()) Cancel(id).IgnoreError();
  }
  absl::Status Cancel(const std::string& id) override {
    if (!Finish(id, End(FinishReason::kCancelled))) return absl::NotFoundError(absl::StrCat("no request ", id));
    absl::MutexLock lock(&mutex_);
    cancelled_.insert(id);
    return absl::OkStatus();
  }
  absl::StatusOr<std::shared_ptr<const GrammarMatcher>> CompileGrammar(const GrammarSource& source) override {
    if (tokenizer_ == nullptr)
      return absl::InvalidArgumentError("the model has no tokenizer, and grammars are about text");
    if (compiler_ == nullptr) compiler_ = *GrammarCompiler::Create(*tokenizer_);
    return compiler_->Compile(source);
  }
  void SetLimits(int64_t queue_max, int64_t layer_outputs_bytes_max) override {}
  absl::Status Restore(int) override { return absl::UnimplementedError("no replicas"); }
  bool Drain(absl::Time deadline) override { return true; }
  EngineStats Stats() const override { return {}; }
  const PlacedModel& model() const override { return model_; }
  const Tokenizer* tokenizer() const override { return tokenizer_.get(); }
  const ChatTemplate* chat_template() const override { return chat_template_.get(); }
  std::string chat_template_error() const override { return chat_template_error_; }
  void RefuseChats(std::string why) {
    chat_template_ = nullptr;
    chat_template_error_ = std::move(why);
  }

  void RefuseWith(absl::Status status) {
    absl::MutexLock lock(&mutex_);
    submit_status_ = std::move(status);
  }
  // Waits until the request is there.
  std::shared_ptr<TokenSink> Sink(const std::string& id) {
    absl::MutexLock lock(&mutex_);
    const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return running_.contains(id); };
    return mutex_.AwaitWithTimeout(absl::Condition(&there), absl::Seconds(20)) ? running_[id].sink : nullptr;
  }
  // Ends the request, whose id may then be used again. Returns false when it is not there.
  bool Finish(const std::string& id, GenerationEnd end) {
    std::shared_ptr<TokenSink> sink;
    {
      absl::MutexLock lock(&mutex_);
      const auto found = running_.find(id);
      if (found == running_.end()) return false;
      sink = std::move(found->second.sink);
      running_.erase(found);
    }
    sink->OnEnd(std::move(end));
    return true;
  }
  bool IsRunning(const std::string& id) const {
    absl::MutexLock lock(&mutex_);
    return running_.contains(id);
  }
  // Returns true once the request has been cancelled and its sink has been told.
  bool WaitUntilGone(const std::string& id) {
    absl::MutexLock lock(&mutex_);
    const auto gone = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return cancelled_.contains(id); };
    return mutex_.AwaitWithTimeout(absl::Condition(&gone), absl::Seconds(20));
  }
  GenerationRequest last() const {
    absl::MutexLock lock(&mutex_);
    return last_;
  }

  static GenerationEnd End(FinishReason reason, int32_t n = 1) {
    GenerationEnd end;
    for (int32_t i = 0; i < n; ++i) end.choices.push_back({i, reason, ""});
    end.prompt_tokens = 3;
    end.generated_tokens = 5;
    return end;
  }
  static GenerationDelta Delta(std::string text, std::vector<int32_t> ids, int32_t index = 0) {
    GenerationDelta delta;
    delta.index = index;
    delta.text = std::move(text);
    for (int32_t id : ids) {
      SampledToken token;
      token.token = id;
      token.logprob = -0.5f;
      token.top_logprobs = {{id, -0.5f}, {1, -2.f}};
      delta.tokens.push_back(token);
    }
    return delta;
  }

 private:
  struct Running {
    RequestHandle handle = 0;
    std::shared_ptr<TokenSink> sink;
  };

  PlacedModel model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_template_;
  std::string chat_template_error_;
  std::unique_ptr<GrammarCompiler> compiler_;
  mutable absl::Mutex mutex_;
  absl::Status submit_status_ ABSL_GUARDED_BY(mutex_);
  GenerationRequest last_ ABSL_GUARDED_BY(mutex_);
  RequestHandle handles_ ABSL_GUARDED_BY(mutex_) = 0;  // given so far
  std::map<std::string, Running> running_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> cancelled_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_FAKE_ENGINE_H_
