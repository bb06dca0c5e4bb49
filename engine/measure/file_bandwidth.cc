#include "engine/measure/file_bandwidth.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/check.h"
#include "engine/base/status.h"
#include "engine/checkpoint/file.h"

namespace causeway {
namespace {

constexpr uint64_t kHugePage = 2 << 20;
constexpr uint64_t kReadBytes = 4 << 20;

struct Piece {
  int file;
  uint64_t offset, bytes;
  uint64_t to;  // where in memory
};

}  // namespace

absl::StatusOr<double> MeasureFileBandwidth(const std::vector<std::string>& files, int threads) {
  std::vector<File> open;
  std::vector<Piece> pieces;
  uint64_t total = 0;
  for (const std::string& file : files) {
    CAUSEWAY_ASSIGN_OR_RETURN(File opened, File::Open(file));
    for (uint64_t offset = 0; offset < opened.bytes(); offset += kReadBytes) {
      const uint64_t bytes = std::min(kReadBytes, opened.bytes() - offset);
      pieces.push_back({static_cast<int>(open.size()), offset, bytes, total});
      total += bytes;
    }
    open.push_back(std::move(opened));
  }
  const std::unique_ptr<char, void (*)(void*)> memory(
      static_cast<char*>(std::aligned_alloc(kHugePage, (total / kHugePage + 1) * kHugePage)), &std::free);
  if (memory == nullptr) return absl::ResourceExhaustedError(absl::StrCat("no memory for ", total, " bytes of files"));
  madvise(memory.get(), total, MADV_HUGEPAGE);
  absl::Mutex mutex;
  absl::Status status;  // the first error
  std::atomic<size_t> next = 0;
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> readers;
  for (int t = 0; t < std::max(threads, 1); ++t) {
    readers.emplace_back([&] {
      for (size_t i = next++; i < pieces.size(); i = next++) {
        const Piece& piece = pieces[i];
        const absl::Status read = ReadExactly(open[piece.file].descriptor(), piece.offset,
                                              absl::MakeSpan(memory.get() + piece.to, piece.bytes), files[piece.file]);
        if (read.ok()) continue;
        absl::MutexLock lock(&mutex);
        status.Update(read);
      }
    });
  }
  for (std::thread& reader : readers) reader.join();
  CAUSEWAY_RETURN_IF_ERROR(status);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return static_cast<double>(total) / seconds;
}

absl::StatusOr<FolderBandwidth> MeasureFolderBandwidth(const std::string& folder, int64_t bytes) {
  CAUSEWAY_CHECK(bytes > 0 && bytes % kReadBytes == 0, bytes, " bytes");
  std::string path = absl::StrCat(folder, "/causeway-XXXXXX");
  const int descriptor = ::mkostemp(path.data(), O_CLOEXEC);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot make a file in ", folder));
  ::unlink(path.c_str());
  const absl::Cleanup close = [descriptor] { ::close(descriptor); };

  // Direct reads need aligned memory. The bytes are random, since some disks are quick with zeros.
  const std::unique_ptr<char, void (*)(void*)> piece(static_cast<char*>(std::aligned_alloc(kHugePage, kReadBytes)),
                                                     &std::free);
  if (piece == nullptr) return absl::ResourceExhaustedError(absl::StrCat("no memory for ", kReadBytes, " bytes"));
  std::mt19937_64 random(1);
  for (uint64_t i = 0; i < kReadBytes; i += sizeof(uint64_t)) {
    const uint64_t value = random();
    std::memcpy(piece.get() + i, &value, sizeof(value));
  }
  const auto speed = [bytes](std::chrono::steady_clock::time_point start) {
    return static_cast<double>(bytes) / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };

  FolderBandwidth bandwidth;
  auto start = std::chrono::steady_clock::now();
  for (int64_t done = 0; done < bytes;) {
    const int64_t in_piece = done % static_cast<int64_t>(kReadBytes);
    const ssize_t wrote = ::pwrite(descriptor, piece.get() + in_piece, kReadBytes - in_piece, done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write to a file in ", folder));
    done += wrote;
  }
  if (::fsync(descriptor) != 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write to the disk of ", folder));
  bandwidth.write = speed(start);

  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  bandwidth.direct = ::fcntl(descriptor, F_SETFL, O_DIRECT) == 0;
  start = std::chrono::steady_clock::now();
  for (int64_t offset = 0; offset < bytes; offset += kReadBytes) {
    CAUSEWAY_RETURN_IF_ERROR(ReadExactly(descriptor, offset, absl::MakeSpan(piece.get(), kReadBytes), folder));
  }
  bandwidth.read = speed(start);
  return bandwidth;
}

absl::Status DropFromPageCache(const std::vector<std::string>& files) {
  for (const std::string& file : files) {
    CAUSEWAY_ASSIGN_OR_RETURN(const File opened, File::Open(file));
    ::posix_fadvise(opened.descriptor(), 0, 0, POSIX_FADV_DONTNEED);
  }
  return absl::OkStatus();
}

}  // namespace causeway
