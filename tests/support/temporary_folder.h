// A folder for one test: empty at first, gone afterwards.
#ifndef CAUSEWAY_TESTS_SUPPORT_TEMPORARY_FOLDER_H_
#define CAUSEWAY_TESTS_SUPPORT_TEMPORARY_FOLDER_H_

#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace causeway::testing {

class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& name)
      : path_((std::filesystem::path(::testing::TempDir()) / absl::StrCat(name, "-", getpid())).string()) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directory(path_);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::vector<std::filesystem::path> files() const {
    return {std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator()};
  }

 private:
  const std::string path_;
};

}  // namespace causeway::testing

#endif  // CAUSEWAY_TESTS_SUPPORT_TEMPORARY_FOLDER_H_
