# Finds Debian's packages, and LibTorch from the unpacked wheel as the imported target causeway::torch.
set(CMAKE_THREAD_PREFER_PTHREAD ON)
find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(ZLIB REQUIRED)
if(CAUSEWAY_TESTS)
  find_package(GTest REQUIRED)
  find_package(benchmark REQUIRED)
endif()

# The wheel's own TorchConfig.cmake is not used: it defines a dummy protobuf target that shadows the real one, probes
# for GPUs and drags every CUDA library in. Its include folders come last (-idirafter), since it ships headers of an old
# protobuf and of fmt; SHELL: keeps CMake from dropping the second -idirafter.
set(torch_dir ${CAUSEWAY_DEPS}/torch)
set(cuda_lib_dir ${CAUSEWAY_DEPS}/nvidia/cu13/lib)
if(NOT EXISTS ${torch_dir}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "No LibTorch in ${torch_dir}. Run scripts/setup.sh, which downloads it.")
endif()
add_library(causeway_torch INTERFACE)
add_library(causeway::torch ALIAS causeway_torch)
target_compile_options(causeway_torch INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-idirafter ${torch_dir}/include>"
  "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-idirafter ${torch_dir}/include/torch/csrc/api/include>")
# ATen's headers include those of the operators that they use, and not all operators.
target_compile_definitions(causeway_torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:AT_PER_OPERATOR_HEADERS>)
target_link_libraries(causeway_torch INTERFACE ${torch_dir}/lib/libtorch_cpu.so ${torch_dir}/lib/libc10.so)
target_link_options(causeway_torch INTERFACE
  -Wl,-rpath,${torch_dir}/lib -Wl,-rpath,${cuda_lib_dir} -Wl,-rpath,${CAUSEWAY_DEPS}/nvidia/cuda_cupti/lib -Wl,--allow-shlib-undefined)

# Only to keep ATen's own work on the calling thread. It is the wheel's own libgomp, not the system's. Calling omp.h's
# functions takes no -fopenmp.
add_library(causeway_openmp INTERFACE)
add_library(causeway::openmp ALIAS causeway_openmp)
target_link_libraries(causeway_openmp INTERFACE ${torch_dir}/lib/libgomp.so.1)
target_link_options(causeway_openmp INTERFACE -Wl,-rpath,${torch_dir}/lib)
