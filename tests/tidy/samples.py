"""What each rule of tidy.py has to find, and what it has to leave alone."""


def guarded(name, body=""):
    return f"#ifndef {name}\n#define {name}\n{body}\n#endif  // {name}\n"


ME = "/ho" + "me/me/x"
LATER = "TO" + "DO"

BAD = {
    "check_include_folders": [
        ({"engine/cache/a.cc": '#include "engine/batch/step.h"\n', "engine/batch/step.h": ""},
         "engine/cache may not include engine/batch"),
        ({"engine/schedule/a.h": '#include "engine/execution/executor.h"\n', "engine/execution/executor.h": ""},
         "engine/schedule may not include"),
        ({"engine/plan/a.cc": '#include "engine/engine.h"\n', "engine/engine.h": ""},
         "engine/plan may not include engine "),
        ({"client/a.cc": '#include "engine/base/status.h"\n', "engine/base/status.h": ""},
         "client may not include engine/base"),
        ({"engine/text/a.cc": "#include <causeway/v1/admin.pb.h>\n"}, "engine/text may not include proto"),
        ({"server/rpc/a.cc": '#include "server/daemon/daemon.h"\n', "server/daemon/daemon.h": ""},
         "server/rpc may not include server/daemon"),
        ({"engine/model/a.cc": '#include "tests/support/t.h"\n', "tests/support/t.h": ""},
         "engine/model may not include tests/support"),
        ({"engine/base/a.cc": '#include "engine/base/gone.h"\n'}, "does not exist"),
        ({"tools/a.cc": '#include "engine/base/b.h"\n', "engine/base/b.h": ""}, "not in MAY_USE"),
    ],
    "check_link_graph": [
        ({"engine/cache/CMakeLists.txt": "causeway_library(causeway_cache SOURCES a.cc\n"
                                         "  DEPS causeway_base causeway_batch)\n"},
         "causeway_cache may not link causeway_batch"),
        ({"client/CMakeLists.txt": "causeway_library(causeway_client SOURCES a.cc DEPS causeway_engine)\n"},
         "may not link causeway_engine"),
        ({"engine/cache/CMakeLists.txt": "causeway_library(causeway_cache SOURCES a.cc)\n"
                                         "target_link_libraries(causeway_cache PRIVATE causeway_batch)\n"},
         "causeway_cache may not link causeway_batch"),
        ({"engine/base/CMakeLists.txt": "causeway_test(base_test SOURCES a_test.cc DEPS causeway_base causeway_plan "
                                        "TIMEOUT 5)\n"},
         "base_test may not link causeway_plan"),
        ({"engine/cache/CMakeLists.txt": "causeway_library(causeway_cache SOURCES a.cc  # (ids only)\n"
                                         "  DEPS causeway_batch)\n"},
         "causeway_cache may not link causeway_batch"),
        ({"engine/cache/CMakeLists.txt": "causeway_library(causeway_cache SOURCES a.cc DEPS causeway_leaves)\n"},
         "causeway_leaves is not in"),
        ({"engine/cache/CMakeLists.txt": "causeway_library(causeway_leaves SOURCES a.cc DEPS causeway_base)\n"},
         "causeway_leaves is not in"),
        ({"engine/plan/CMakeLists.txt": "causeway_library(causeway_plan SOURCES a.cc DEPS causeway::torch)\n"},
         "engine/plan is free of torch"),
        ({"server/CMakeLists.txt": "target_link_libraries(causeway_rpc PUBLIC ${torch_dir}/lib/libtorch_cpu.so)\n"},
         "server/rpc is free of torch"),
        ({"engine/text/CMakeLists.txt": "target_link_libraries(causeway_text PUBLIC gRPC::grpc++)\n"},
         "knows nothing of gRPC"),
    ],
    "check_foreign_headers": [
        ({"engine/text/a.cc": "#include <grpcpp/grpcpp.h>\n"}, "knows nothing of gRPC"),
        ({"engine/engine.h": '#include "google/protobuf/message.h"\n'}, "knows nothing of gRPC"),
        ({"engine/plan/a.h": "#include <ATen/core/Tensor.h>\n"}, "engine/plan is free of torch"),
        ({"server/rpc/a.h": "#include <c10/core/Device.h>\n"}, "server/rpc is free of torch"),
        ({"engine/execution/a.h": "#include <cuda_runtime.h>\n"}, "only engine/cuda includes CUDA"),
    ],
    "check_processors": [
        ({"engine/engine.cc": "int n = std::thread::hardware_concurrency();\n"},
         "hardware_concurrency: ask engine/threads"),
        ({"server/doctor/a.cc": "int n = sysconf(_SC_NPROCESSORS_ONLN);\n"}, "_SC_NPROCESSORS_ONLN: ask"),
        ({"client/a.cc": "int n = get_nprocs();\n"}, "get_nprocs: ask"),
        ({"engine/text/rust/src/a.rs": "std::thread::available_parallelism()\n"}, "available_parallelism: ask"),
    ],
    "check_forward_pass": [
        ({"engine/model/a.cc": "hidden.add_(x);\n"}, ".add_( goes past Ops"),
        ({"engine/model/a.h": "#include <ATen/ops/index_select.h>\n"}, "index_select.h> goes past Ops"),
    ],
    "check_kernels": [
        ({"engine/cuda/a.cu": "#include <ATen/core/Tensor.h>\n"}, "reaches the kernels of engine/cuda/a.cu"),
        ({"engine/ops/cpu/kernels_x.cc": '#include "engine/ops/cpu/a.h"\n',
          "engine/ops/cpu/a.h": '#include "engine/ops/ops.h"\n',
          "engine/ops/ops.h": "#include <c10/util/X.h>\n"}, "reaches the kernels of engine/ops/cpu/kernels_x.cc"),
    ],
    "check_emulated": [
        ({"engine/cuda/a.cu": "A<2><<<1, 32>>>(x);\n", "engine/cuda/a_test.cc": ""}, "without CAUSEWAY_LAUNCH"),
        ({"engine/cuda/a.cu": "CAUSEWAY_LAUNCH(1, 32, 0, s, A)(x);\n"}, "engine/cuda/a_test.cc is missing"),
    ],
    "check_lengths": [
        ({"engine/base/a.cc": "\n" * 401}, "401 lines"),
        ({"engine/base/a_test.cc": "\n" * 501}, "501 lines"),
        ({"engine/plan/plan_property_test.cc": "\n" * 511}, "511 lines"),
        ({"engine/plan/plan_property_test.cc": "\n" * 400}, "needs no place"),
    ],
    "check_widths": [
        ({"scripts/a.py": "x = 1\n" + "y" * 121 + "\n"}, "121 columns"),
        ({"docs/a.md": "word " * 25 + "\n"}, "124 columns"),
    ],
    "check_guards": [
        ({"engine/base/a.h": guarded("CAUSEWAY_ENGINE_BASE_B_H_")}, "CAUSEWAY_ENGINE_BASE_A_H_"),
        ({"engine/base/a.h": "#pragma once\n"}, "CAUSEWAY_ENGINE_BASE_A_H_"),
        ({"engine/base/a.h": guarded("CAUSEWAY_ENGINE_BASE_A_H_") + "int after;\n"}, "CAUSEWAY_ENGINE_BASE_A_H_"),
    ],
    "check_machine_paths": [
        ({"docs/a.md": "in /ro" + "ot/.cache here\n"}, "is a path of one machine"),
        ({"a.cc": 'Open("/ho' + 'me/someone/model");\n'}, "is a path of one machine"),
        ({"Makefile": "\tcp x /wo" + "rk/main\n"}, "is a path of one machine"),
    ],
    "check_promises": [
        ({"a.cc": f"// {LATER}: later\n"}, "without what would resolve it"),
        ({"a.py": "# FIX" + "ME\n"}, "without what would resolve it"),
    ],
    "check_built": [
        ({"engine/a/x_test.cc": "", "engine/a/CMakeLists.txt": "causeway_test(t SOURCES y_test.cc)"},
         "the test never runs"),
        ({"engine/a/x_test.cc": "", "engine/a/CMakeLists.txt": "causeway_test(t SOURCES max_test.cc xx_test.cc)"},
         "the test never runs"),
        ({"server/rpc/a.cc": "", "server/CMakeLists.txt": "causeway_library(r SOURCES a.cc)"}, "it is not built"),
    ],
    "check_readmes": [
        ({"engine/a/x.h": ""}, "is missing"),
        ({"engine/a/x.h": "", "engine/a/README.md": "\n" * 51}, "51 lines"),
    ],
    "check_doc_paths": [
        ({"docs/a.md": "see `engine/gone.cc`", "engine/x.cc": ""}, "engine/gone.cc does not exist"),
        ({"docs/a.md": "see `engine/plan/`", "engine/x.cc": ""}, "engine/plan/ does not exist"),
        ({"engine/a/README.md": "`gone.h` holds it"}, "gone.h does not exist"),
        ({"README.md": "[docs](docs/gone.md)", "docs/x.md": ""}, "leads nowhere"),
        ({"docs/a.md": "`engine/ops/x*.cc`", "engine/ops/y.cc": ""}, "does not exist"),
    ],
    "check_doc_names": [
        ({"docs/a.md": "`DeviceWorker` runs it", "a.h": "class Worker {};"}, "there is no DeviceWorker"),
        ({"docs/a.md": "`Worker::Gone` runs it", "a.h": "class Worker {};"}, "there is no Gone"),
        ({"README.md": "`gone()`", "a.h": "class Worker {};"}, "there is no gone"),
    ],
    "check_metrics": [
        ({"server/telemetry/a.cc": '"causeway_new_total"', "docs/metrics.md": ""}, "is not in docs/metrics.md"),
        ({"server/telemetry/a.cc": "", "docs/metrics.md": "| `causeway_old_total` | counter |"},
         "no code exports causeway_old_total"),
    ],
    "check_all_named": [
        ({"docs/architecture.md": "| `engine/base/` |", "engine/new/a.cc": ""}, "engine/new/ is not in its table"),
        ({"server/main.cc": 'if (command == "dance") return Dance();'}, "no page names `causewayd dance`"),
        ({"client/sing.cc": 'app.add_subcommand("sing", "")', "README.md": "causeway dance"},
         "no page names `causeway sing`"),
    ],
}

GOOD = {
    "check_include_folders": [
        {"engine/schedule/a.cc": '#include <vector>\n#include "engine/base/b.h"\n', "engine/base/b.h": ""},
        {"engine/model/a_test.cc": '#include "tests/support/t.h"\n', "tests/support/t.h": ""},
        {"server/rpc/a.cc": '#include "causeway/v1/admin.pb.h"\n#include "engine/plan/b.h"\n', "engine/plan/b.h": ""},
    ],
    "check_link_graph": [
        {"engine/schedule/CMakeLists.txt": "causeway_library(causeway_schedule SOURCES a.cc DEPS causeway_batch "
                                           "causeway_base absl::time)\n"},
        {"engine/model/CMakeLists.txt": "causeway_library(causeway_model SOURCES a.cc DEPS causeway_ops "
                                        "causeway::torch)  # not causeway_plan\n"
                                        "causeway_test(model_test SOURCES a_test.cc DEPS causeway_model "
                                        "causeway_test_checkpoint)\n"},
        {"server/CMakeLists.txt": "target_link_libraries(causewayd PRIVATE causeway_daemon gRPC::grpc++)\n"},
        {"cmake/Causeway.cmake": "target_link_libraries(${name} PUBLIC ${A_DEPS})\n",
         "cmake/Dependencies.cmake": "target_link_libraries(causeway_torch INTERFACE "
                                     "${torch_dir}/lib/libtorch_cpu.so)\n"}],
    "check_foreign_headers": [
        {"engine/model/a.h": "#include <ATen/core/Tensor.h>\n", "server/rpc/a.h": "#include <grpcpp/grpcpp.h>\n",
         "engine/cuda/a.cc": "#include <c10/cuda/X.h>\n"}],
    "check_processors": [{"engine/threads/a.cc": "sched_getaffinity(0, bytes, mask);\n",
                          "engine/a.cc": "ProcessorsAtHand()",
                          "docs/a.md": "not hardware_concurrency"}],
    "check_forward_pass": [{"engine/model/a.cc": "#include <ATen/ops/empty.h>\nx.view({1}).narrow(0, 0, 1);\n"
                                                 "ops.Add(x, y);\n",
                            "engine/model/a_test.cc": "x.add_(y);\n", "engine/ops/a.cc": "x.add_(y);\n"}],
    "check_kernels": [{"engine/cuda/a.cu": '#include "engine/cuda/a.h"\n', "engine/cuda/a.h": "#include <cstdint>\n",
                       "engine/cuda/b.cc": "#include <ATen/X.h>\n"}],
    "check_emulated": [{"engine/cuda/a.cu": "CAUSEWAY_LAUNCH(1, 32, 0, s, A)(x);\n", "engine/cuda/a_test.cc": "",
                        "engine/cuda/launch.h": "K<<<g, b, n, s>>>\n", "tests/a.sh": "cat <<<x\n"}],
    "check_lengths": [{"engine/base/a.cc": "\n" * 400, "engine/base/a_test.cc": "\n" * 450, "data.json": "\n" * 9000}],
    "check_widths": [{"scripts/a.py": "y" * 120 + "\n", "a.json": "y" * 200 + "\n",
                      "docs/a.md": "| " + "y" * 200 + " |\n```\n" + "x " * 80 + "\n```\n    " + "x " * 80 + "\n"}],
    "check_guards": [{"engine/base/a.h": "// What.\n" + guarded("CAUSEWAY_ENGINE_BASE_A_H_"),
                      "engine/ops/cpu/a-inl.h": "int x;\n"}],
    "check_machine_paths": [{"a.cc": f'Set("HOME", "{ME}");',
                             "README.md": "the work/home of ~/work/x, https://x.org/home/y"}],
    "check_promises": [{"a.cc": f"// {LATER}: goes once gRPC 1.60 is the oldest that is supported\n"}],
    "check_built": [
        {"engine/a/x_test.cc": "", "engine/a/CMakeLists.txt": "causeway_test(t\n  SOURCES x_test.cc)"},
        {"server/rpc/a.cc": "", "server/CMakeLists.txt": "causeway_library(r SOURCES rpc/a.cc)"},
        {"tests/support/a.cc": "",
         "tests/integration/CMakeLists.txt": "add_library(a STATIC ${CMAKE_SOURCE_DIR}/tests/support/a.cc)"},
        {"engine/a/fuzz.cc": "", "scripts/fuzz.sh": "clang++ engine/a/fuzz.cc"},
    ],
    "check_readmes": [{"engine/a/x.h": "", "engine/a/README.md": "What it is.\n", "engine/engine.h": ""}],
    "check_doc_paths": [
        {"docs/a.md": "`engine/a/x` and `engine/a/` and `config.json`, [more](b.md#part), [out](https://x.org)\n"
                      "```\n`engine/gone.cc`\n```\n",
         "engine/a/x.h": "", "docs/b.md": ""},
        {"engine/a/README.md": "`x.h`, `engine/a/y*.cc`", "engine/a/x.h": "", "engine/a/y_z.cc": ""},
    ],
    "check_doc_names": [{"docs/a.md": "`Worker::Run`, `run()`, `DeviceWorker`, `max_model_len`, `README`",
                         "a.h": "class DeviceWorker : Worker { void Run(); void run(); };"}],
    "check_metrics": [{"server/telemetry/a.cc": '.Name("causeway_a_total")',
                       "docs/metrics.md": "| `causeway_a_total` | counter |"}],
    "check_all_named": [
        {"docs/architecture.md": "| `engine/base/` |", "engine/base/a.cc": ""},
        {"server/main.cc": 'if (command == "plan") return Plan();', "docs/plan.md": "    causewayd plan --model x"},
        {"client/chat.cc": 'app.add_subcommand("chat", "")', "README.md": "build/bin/causeway --server x chat"},
    ],
}
