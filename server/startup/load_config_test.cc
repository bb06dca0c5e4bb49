#include "server/startup/load_config.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/startup/address.h"
#include "server/startup/config_file.h"
#include "server/startup/engine_options.h"

namespace causeway {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// The error's message when `text` is read as f.yaml.
std::string Error(const std::string& text) {
  v1::Config config;
  std::map<std::string, std::string> origins;
  const absl::Status status = ReadConfigText(text, "f.yaml", &config, &origins);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(status.message());
}

TEST(ConfigFile, ReadsEveryKindOfField) {
  v1::Config config;
  std::map<std::string, std::string> origins;
  const absl::Status status = ReadConfigText(
      "# a comment\nmodel:\n  path: /m\nplacement:\n  device_map: 0\n  max_memory: {0: 40GB, cpu: 8GiB}\n"
      "batching:\n  max_num_seqs: 8\n  prefix_cache: false\nserver:\n  drain_seconds: 2.5\nlog:\n",
      "f.yaml", &config, &origins);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(config.model().path(), "/m");
  EXPECT_EQ(config.placement().device_map(), "0");
  EXPECT_EQ(config.placement().max_memory(), "0:40GB,cpu:8GiB");
  EXPECT_EQ(config.batching().max_num_seqs(), 8);
  EXPECT_FALSE(config.batching().prefix_cache());
  EXPECT_EQ(config.server().drain_seconds(), 2.5);
  EXPECT_EQ(origins.at("batching.max_num_seqs"), "f.yaml:8");
}

TEST(ConfigFile, NamesFileLineAndField) {
  EXPECT_THAT(Error("model:\n  path: /m\n  nmae: x\n"),
              StartsWith("f.yaml:3: model.nmae: no such field, did you mean name?"));
  EXPECT_THAT(Error("batch:\n  max_num_seqs: 1\n"),
              StartsWith("f.yaml:1: batch: no such section, did you mean batching?"));
  EXPECT_EQ(Error("batching:\n  max_num_seqs: 0\n"),
            "f.yaml:2: batching.max_num_seqs: expected a whole number in [1, 4096], got \"0\"");
  EXPECT_EQ(Error("batching:\n  max_num_seqs: \"8\"\n"),
            "f.yaml:2: batching.max_num_seqs: expected a whole number in [1, 4096], got the text \"8\" in quotes");
  EXPECT_EQ(Error("batching:\n  max_num_seqs: [8]\n"),
            "f.yaml:2: batching.max_num_seqs: expected a whole number in [1, 4096], got a list");
  EXPECT_EQ(Error("batching:\n  max_num_seqs:\n"),
            "f.yaml:2: batching.max_num_seqs: expected a whole number in [1, 4096], got nothing");
  EXPECT_EQ(Error("model:\n  path: a\n  path: b\n"), "f.yaml:3: model.path: given twice");
  EXPECT_EQ(Error("model:\n  path: {a: b}\n"), "f.yaml:2: model.path: expected a text, got a map");
  EXPECT_EQ(Error("model: 5\n"), "f.yaml:1: model: expected fields, got a value");
  EXPECT_EQ(Error("- a\n"), "f.yaml:1: expected sections, got a list");
  EXPECT_EQ(Error("placement:\n  max_memory:\n    0: [1]\n"),
            "f.yaml:3: placement.max_memory.0: expected a text or a number, got a list");
  EXPECT_THAT(Error("model:\n  path: [\n"), HasSubstr("not valid YAML"));
  EXPECT_THAT(Error("a: 1\n---\nb: 2\n"), HasSubstr("2 YAML documents"));
}

class LoadConfigTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = (std::filesystem::path(::testing::TempDir()) / name).string();
    std::ofstream(path) << text;
    return path;
  }
  CommandLine Flags(const std::vector<std::string>& arguments) { return *ParseCommandLine(arguments, {}); }
};

TEST_F(LoadConfigTest, FlagBeforeEnvironmentBeforeFileBeforeDefault) {
  const std::string file =
      Write("order.yaml", "model:\n  path: file\nbatching:\n  max_num_seqs: 1\n  queue_limit: 1\n  kv_cache: 512\n");
  const std::map<std::string, std::string> environment = {{"CAUSEWAY_BATCHING_MAX_NUM_SEQS", "2"},
                                                          {"CAUSEWAY_BATCHING_QUEUE_LIMIT", "2"},
                                                          {"CAUSEWAY_CACHE", "of the build, none of ours"}};
  auto loaded = LoadConfig(file, environment, Flags({"--max-num-seqs", "3"}));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->config.batching().max_num_seqs(), 3);
  EXPECT_EQ(loaded->config.batching().queue_limit(), 2);
  EXPECT_EQ(loaded->config.batching().kv_cache(), "512");
  EXPECT_EQ(loaded->config.batching().max_num_batched_tokens(), 2048);
  EXPECT_EQ(loaded->Where("batching.max_num_seqs"), "--max-num-seqs");
  EXPECT_EQ(loaded->Where("batching.queue_limit"), "CAUSEWAY_BATCHING_QUEUE_LIMIT");
  EXPECT_EQ(loaded->Where("batching.kv_cache"), file + ":6: batching.kv_cache");
  EXPECT_EQ(loaded->Where("log.level"), "log.level");
}

TEST_F(LoadConfigTest, AnEmptyVariableIsUnset) {
  const std::string file = Write("empty.yaml", "model:\n  path: file\nbatching:\n  kv_cache: 512\n");
  const auto loaded = LoadConfig(file,
                                 {{"CAUSEWAY_MODEL_PATH", ""},
                                  {"CAUSEWAY_BATCHING_KV_CACHE", ""},
                                  {"CAUSEWAY_BATCHING_MAX_NUM_SEQS", ""},
                                  {"CAUSEWAY_SERVER_HTTP", ""},
                                  {"CAUSEWAY_SERVER_PORT", ""}},
                                 Flags({}));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->config.model().path(), "file");
  EXPECT_EQ(loaded->config.batching().kv_cache(), "512");
  EXPECT_EQ(loaded->config.batching().max_num_seqs(), 64);
  EXPECT_EQ(loaded->config.server().http(), "127.0.0.1:8090");
  EXPECT_EQ(loaded->Where("batching.kv_cache"), file + ":4: batching.kv_cache");
}

TEST_F(LoadConfigTest, RefusesWrongVariablesAndMissingFiles) {
  const CommandLine flags = Flags({"--model", "m"});
  EXPECT_EQ(LoadConfig("", {{"CAUSEWAY_BATCHING_MAX_NUM_SEQ", "2"}}, flags).status().message(),
            "environment variable CAUSEWAY_BATCHING_MAX_NUM_SEQ: no such field, did you mean "
            "CAUSEWAY_BATCHING_MAX_NUM_SEQS?");
  EXPECT_EQ(LoadConfig("", {{"CAUSEWAY_BATCHING_MAX_NUM_SEQS", "x"}}, flags).status().message(),
            "environment variable CAUSEWAY_BATCHING_MAX_NUM_SEQS: expected a whole number in [1, 4096], got \"x\"");
  EXPECT_THAT(std::string(LoadConfig("/nonexistent.yaml", {}, flags).status().message()),
              HasSubstr("/nonexistent.yaml: cannot be read: No such file"));
  EXPECT_THAT(std::string(LoadConfig("", {}, Flags({})).status().message()), HasSubstr("no model: give --model DIR"));
}

TEST_F(LoadConfigTest, MakesEngineOptions) {
  auto options = [&](const std::vector<std::string>& arguments) {
    std::vector<std::string> all = {"--model", "m"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return MakeEngineOptions(*LoadConfig("", {}, Flags(all)));
  };
  auto made = options({"--max-memory", "0:1GiB,1:2GiB", "--kv-cache", "1MiB", "--cpu-threads", "3", "--no-prefix-cache",
                       "--reference-ops", "--chat-template", "chat.jinja"});
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->plan.max_memory.at("1"), int64_t{2} << 30);
  EXPECT_EQ(options({"--max-memory", R"({"0": "1GiB", "1": "2GiB"})"})->plan.max_memory, made->plan.max_memory);
  EXPECT_EQ(made->plan.kv_cache_bytes, 1 << 20);
  EXPECT_FALSE(made->plan.kv_dtype.has_value());
  EXPECT_EQ(options({"--kv-cache-dtype", "int8"})->plan.kv_dtype, DType::kI8);
  EXPECT_EQ(made->executor.cpu_threads, 3);
  EXPECT_TRUE(made->executor.reference_ops);
  EXPECT_FALSE(made->prefix_cache);
  EXPECT_EQ(made->chat_template_file, "chat.jinja");
  EXPECT_EQ(made->plan.device_map, "auto");

  made = options({"--device-map", R"({"model.embed_tokens": 0, "lm_head": "cpu"})"});
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->plan.device_map, "custom");
  EXPECT_EQ(made->plan.custom_map.at("model.embed_tokens"), "0");
  EXPECT_EQ(made->plan.custom_map.at("lm_head"), "cpu");
  const std::string file = Write("map.json", R"({"": 1})");
  ASSERT_TRUE(options({"--device-map", file}).ok());
  EXPECT_EQ(options({"--device-map", file})->plan.custom_map.at(""), "1");

  EXPECT_THAT(std::string(options({"--device-map", R"({"a": [1]})"}).status().message()),
              HasSubstr("--device-map: \"a\": expected a device"));
  EXPECT_THAT(std::string(options({"--device-map", "/nonexistent.json"}).status().message()),
              HasSubstr("/nonexistent.json"));
  EXPECT_THAT(std::string(options({"--max-memory", "40G"}).status().message()), StartsWith("--max-memory: "));
}

TEST_F(LoadConfigTest, TheKvCachesSizeIsTokensOrBytes) {
  const auto made = [&](const std::string& text) {
    return MakeEngineOptions(*LoadConfig("", {}, Flags({"--model", "m", "--kv-cache", text})));
  };
  const auto sizes = [&](const std::string& text) {
    const auto options = made(text);
    EXPECT_TRUE(options.ok()) << options.status();
    return std::pair<int64_t, int64_t>(options->plan.kv_cache_tokens, options->plan.kv_cache_bytes);
  };
  const auto pair = [](int64_t tokens, int64_t bytes) { return ::testing::Pair(tokens, bytes); };
  EXPECT_THAT(sizes("auto"), pair(-1, -1));
  EXPECT_THAT(sizes(""), pair(-1, -1));
  EXPECT_THAT(sizes("65536"), pair(65536, -1));
  EXPECT_THAT(sizes("0"), pair(0, -1));
  EXPECT_THAT(sizes("4GiB"), pair(-1, int64_t{4} << 30));
  EXPECT_THAT(sizes("1.5 GB"), pair(-1, 1'500'000'000));
  const auto error = [&](const std::string& text) { return std::string(made(text).status().message()); };
  for (const char* text : {"40G", "-1", "4096 tokens", "1e6", "4 Gb", "auto4"}) {
    EXPECT_THAT(
        error(text),
        ::testing::AllOf(
            StartsWith("--kv-cache: expected tokens (\"65536\"), bytes with their unit (\"4GiB\"), 0 or auto; "),
            HasSubstr(text)));
  }
  EXPECT_EQ(error("1000000000001"), "--kv-cache: expected at most 1000000000000 tokens, got \"1000000000001\"");
  EXPECT_THAT(error("99999999999999999999"), StartsWith("--kv-cache: expected at most"));
}

TEST_F(LoadConfigTest, NamesThatFieldsHadLeadToTheirNewOnes) {
  EXPECT_EQ(ParseCommandLine({"--kv-cache-tokens", "5"}, {}).status().message(),
            "unknown flag --kv-cache-tokens, which is now --kv-cache TOKENS-OR-BYTES");
  EXPECT_EQ(ParseCommandLine({"--kv-cache-bytes=1GiB"}, {}).status().message(),
            "unknown flag --kv-cache-bytes, which is now --kv-cache TOKENS-OR-BYTES");
  EXPECT_EQ(LoadConfig("", {{"CAUSEWAY_BATCHING_KV_CACHE_TOKENS", "5"}}, Flags({"--model", "m"})).status().message(),
            "environment variable CAUSEWAY_BATCHING_KV_CACHE_TOKENS: no such field, which is now "
            "CAUSEWAY_BATCHING_KV_CACHE TOKENS-OR-BYTES");
  const std::string file = Write("old.yaml", "model:\n  path: m\nbatching:\n  kv_cache_bytes: 1GiB\n");
  EXPECT_THAT(std::string(LoadConfig(file, {}, Flags({})).status().message()),
              StartsWith(file + ":4: batching.kv_cache_bytes: no such field, which is now kv_cache TOKENS-OR-BYTES"));
}

TEST(CommandLine, ReadsFlagsInEveryForm) {
  std::string format = "table";
  auto line = ParseCommandLine(
      {"--model=a=b", "--format", "json", "--no-prefix-cache", "--reference-ops", "--max-num-seqs", "5"},
      {{"format", "FORMAT", "how", &format}});
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(format, "json");
  ASSERT_EQ(line->fields.size(), 4u);
  EXPECT_EQ(line->fields[0].second, "a=b");
  EXPECT_EQ(line->fields[1].second, "false");
  EXPECT_EQ(line->fields[2].second, "true");
}

TEST(CommandLine, RefusesWhatItDoesNotKnow) {
  const auto error = [](const std::vector<std::string>& arguments) {
    return std::string(ParseCommandLine(arguments, {}).status().message());
  };
  EXPECT_EQ(error({"--max-num-seq", "5"}), "unknown flag --max-num-seq, did you mean --max-num-seqs?");
  EXPECT_EQ(error({"--no-listen"}), "unknown flag --no-listen, did you mean --listen?");
  EXPECT_EQ(error({"--listen"}), "--listen needs a value");
  EXPECT_EQ(error({"--max-num-seqs", "0"}), "--max-num-seqs: expected a whole number in [1, 4096], got \"0\"");
  EXPECT_THAT(error({"model"}), HasSubstr("unexpected argument \"model\""));
}

TEST(CommandLine, HelpListsEveryFlagWithItsDefault) {
  const std::string help = FlagHelp({});
  for (const ConfigField& field : ConfigFields())
    EXPECT_THAT(help, HasSubstr((field.is_bool() ? "--[no-]" : "--") + field.flag()));
  EXPECT_THAT(help, HasSubstr("Default: 127.0.0.1:50051."));
  EXPECT_THAT(FlagHelp({}, {"max-num-seqs"}), ::testing::Not(HasSubstr("--max-num-seqs")));
}

TEST(Address, ReadsAndWrites) {
  EXPECT_EQ(ParseAddress("[::1]:80")->ToString(), "[::1]:80");
  EXPECT_EQ(ParseAddress("localhost:0")->host, "localhost");
  for (const char* text : {"", "80", ":80", "host", "host:", "host:x", "host:65536", "host:-1", "::1:80"}) {
    EXPECT_FALSE(ParseAddress(text).ok()) << text;
  }
}

TEST(Address, TwoThatCannotBothBeListenedAtOverlap) {
  const auto overlap = [](absl::string_view a, absl::string_view b) {
    EXPECT_EQ(Overlap(*ParseAddress(a), *ParseAddress(b)), Overlap(*ParseAddress(b), *ParseAddress(a)));
    return Overlap(*ParseAddress(a), *ParseAddress(b));
  };
  EXPECT_TRUE(overlap("127.0.0.1:80", "127.0.0.1:80"));
  EXPECT_TRUE(overlap("localhost:80", "127.0.0.1:80"));
  EXPECT_TRUE(overlap("0.0.0.0:80", "127.0.0.1:80"));
  EXPECT_TRUE(overlap("[::]:80", "127.0.0.1:80"));
  EXPECT_TRUE(overlap("[::]:80", "[::1]:80"));
  EXPECT_FALSE(overlap("0.0.0.0:80", "[::1]:80"));
  EXPECT_FALSE(overlap("127.0.0.1:80", "127.0.0.1:81"));
  EXPECT_FALSE(overlap("127.0.0.1:80", "127.0.0.2:80"));
  EXPECT_FALSE(overlap("127.0.0.1:0", "127.0.0.1:0")) << "the kernel picks two";
  EXPECT_FALSE(overlap("no.such.host.invalid:80", "127.0.0.1:80"));
}

}  // namespace
}  // namespace causeway
