// Only for the tests of engine/text: the fixtures that testdata/make_golden.py made with transformers.
#ifndef CAUSEWAY_ENGINE_TEXT_GOLDEN_H_
#define CAUSEWAY_ENGINE_TEXT_GOLDEN_H_

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace causeway {

using Json = nlohmann::json;

inline std::string TestData(const std::string& name) { return CAUSEWAY_SOURCE_DIR "/engine/text/testdata/" + name; }

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

inline Json Golden(const std::string& name) { return Json::parse(ReadFile(TestData(name))); }

// The check is strict: no overlong forms, no surrogates, nothing beyond U+10FFFF. It is independent of the code under
// test.
inline bool IsUtf8(const std::string& text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0u; };
    const unsigned lead = byte(i);
    const size_t length = lead < 0x80                   ? 1
                          : lead >= 0xc2 && lead < 0xe0 ? 2
                          : lead >= 0xe0 && lead < 0xf0 ? 3
                          : lead >= 0xf0 && lead < 0xf5 ? 4
                                                        : 0;
    if (length == 0) return false;
    unsigned code = length == 1 ? lead : lead & (0xffu >> (length + 1));
    for (size_t j = 1; j < length; ++j) {
      if ((byte(i + j) & 0xc0u) != 0x80u) return false;
      code = code << 6 | (byte(i + j) & 0x3fu);
    }
    const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
    if (overlong || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    i += length;
  }
  return true;
}

// A folder that is removed when the test ends.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "causeway_text_XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  void Write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ + "/" + name, std::ios::binary) << content;
  }

 private:
  std::string path_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_TEXT_GOLDEN_H_
