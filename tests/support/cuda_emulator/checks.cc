// The undefined-behaviour sanitizer's checks of kernels: the compiler makes calls of these functions
// (-fsanitize=bounds, alignment), whose names and data are the sanitizer's. They stand before its library where a build
// links that, too.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/support/cuda_emulator/emulator.h"

namespace {

struct Location {
  const char* file;
  uint32_t line, column;
};
struct Type {
  uint16_t kind, info;
  char name[1];
};
struct OutOfBounds {
  Location location;
  const Type *array, *index;
};
struct TypeMismatch {
  Location location;
  const Type* type;
  unsigned char log_alignment, check;
};

[[noreturn]] void Report(const Location& location, std::string what) {
  absl::StrAppend(&what, " (", location.file, ":", location.line, ")");
  if (causeway::cuda_emulator::Block* block = causeway::cuda_emulator::RunningBlock(); block != nullptr) {
    block->Fail(std::move(what));
  }
  std::fprintf(stderr, "outside of kernels: %s\n", what.c_str());
  std::abort();
}

}  // namespace

extern "C" {

[[noreturn]] void __ubsan_handle_out_of_bounds(const OutOfBounds* data, uintptr_t index) {
  Report(data->location,
         absl::StrCat("index ", static_cast<int64_t>(index), " is beyond an array of type ", data->array->name));
}

[[noreturn]] void __ubsan_handle_type_mismatch_v1(const TypeMismatch* data, uintptr_t address) {
  Report(data->location, absl::StrFormat("%#x is no place for a value of type %s, which is aligned to %d bytes",
                                         address, data->type->name, 1 << data->log_alignment));
}

}  // extern "C"
