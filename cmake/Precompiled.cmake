# Headers of other libraries that most files of a family include are compiled once for the family. `common` is for files
# that know neither torch nor gRPC; the others are `torch` and `grpc`. They only save time: each file still includes
# what it uses, and -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON builds without them. Every file of the family pays for what a
# header's inline functions instantiate, used or not (up to half a second). So headers that few include have no place
# here: nlohmann/json.hpp is only with the tests.
set(causeway_common_headers
  <algorithm> <array> <atomic> <charconv> <chrono> <cmath> <condition_variable> <cstdint> <cstdio> <cstdlib> <cstring> <deque> <filesystem>
  <functional> <limits> <map> <memory> <mutex> <numeric> <optional> <set> <string> <string_view> <system_error> <thread> <tuple>
  <unordered_map> <utility> <variant> <vector>
  <absl/container/flat_hash_map.h> <absl/container/flat_hash_set.h> <absl/status/status.h> <absl/status/statusor.h> <absl/strings/ascii.h>
  <absl/strings/match.h> <absl/strings/numbers.h> <absl/strings/str_cat.h> <absl/strings/str_format.h> <absl/strings/str_join.h>
  <absl/strings/str_split.h> <absl/strings/string_view.h> <absl/strings/strip.h> <absl/synchronization/mutex.h> <absl/time/time.h>
  <absl/types/span.h>)
set(causeway_torch_headers ${causeway_common_headers}
  <ATen/TensorOperators.h> <ATen/core/Tensor.h> <ATen/ops/empty.h> <ATen/ops/from_blob.h> <ATen/ops/zeros.h> <c10/core/InferenceMode.h>
  <c10/util/Exception.h>)
set(causeway_grpc_headers ${causeway_common_headers}
  <google/protobuf/generated_message_reflection.h> <google/protobuf/map.h> <google/protobuf/message.h> <google/protobuf/util/json_util.h>
  <grpcpp/client_context.h> <grpcpp/impl/codegen/proto_utils.h> <grpcpp/server_context.h> <grpcpp/support/byte_buffer.h>
  <grpcpp/support/client_callback.h> <grpcpp/support/server_callback.h> <grpcpp/support/sync_stream.h>)
set(causeway_test_headers <gmock/gmock.h> <gtest/gtest.h> <nlohmann/json.hpp>)

# The versions of what goes into precompiled headers. The compiled headers differ from one build folder to the next,
# byte by byte, and so they would differ for the compiler cache. It takes these versions in their place (ccache's
# pch_external_checksum).
execute_process(COMMAND dpkg-query -W libabsl-dev libgrpc++-dev libprotobuf-dev libgtest-dev libgmock-dev nlohmann-json3-dev
                        libc6-dev
  OUTPUT_VARIABLE causeway_header_versions ERROR_QUIET)
cmake_path(GET CAUSEWAY_DEPS FILENAME deps_name)  # names the versions of what is in it
string(APPEND causeway_header_versions "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}\n${deps_name}\n")
function(causeway_sum_headers target)
  get_target_property(folder ${target} BINARY_DIR)
  file(CONFIGURE OUTPUT ${folder}/CMakeFiles/${target}.dir/cmake_pch.hxx.gch.sum CONTENT "${causeway_header_versions}${ARGN}")
endfunction()

# Sets FAMILY for this folder and those below it, and the target that compiles its headers: the family's lowest library,
# or for the tests one that is made here. DEPS: where the headers are found.
macro(causeway_family family owner)
  set(causeway_family ${family})
  set(causeway_precompiled_owner ${owner})
  set(causeway_precompiled_test_owner causeway_${family}_test_headers)
  if(CAUSEWAY_TESTS AND NOT TARGET ${causeway_precompiled_test_owner})
    file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/headers_only.cc CONTENT "")  # a target needs a source
    add_library(${causeway_precompiled_test_owner} OBJECT ${CMAKE_BINARY_DIR}/headers_only.cc)
    target_link_libraries(${causeway_precompiled_test_owner} PRIVATE GTest::gmock ${ARGN})
    target_precompile_headers(${causeway_precompiled_test_owner} PRIVATE ${causeway_${family}_headers} ${causeway_test_headers})
    causeway_sum_headers(${causeway_precompiled_test_owner} ${causeway_${family}_headers} ${causeway_test_headers})
  endif()
endmacro()

# The compiler takes a precompiled header only for the flags that it was made with.
function(causeway_precompiled target)
  if(target STREQUAL causeway_precompiled_owner)
    target_precompile_headers(${target} PRIVATE ${causeway_${causeway_family}_headers})
    causeway_sum_headers(${target} ${causeway_${causeway_family}_headers})
  else()
    target_precompile_headers(${target} REUSE_FROM ${causeway_precompiled_owner})
  endif()
endfunction()
function(causeway_precompiled_test target)
  target_precompile_headers(${target} REUSE_FROM ${causeway_precompiled_test_owner})
endfunction()
