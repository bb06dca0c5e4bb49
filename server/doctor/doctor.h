// Finds out whether this machine is ready to serve, and what to do where it is not. `causewayd doctor` shows it.
#ifndef CAUSEWAY_SERVER_DOCTOR_DOCTOR_H_
#define CAUSEWAY_SERVER_DOCTOR_DOCTOR_H_

#include <string>
#include <vector>

#include "causeway/v1/config.pb.h"
#include "engine/device/cuda_library.h"
#include "engine/engine.h"

namespace causeway {

// kAdvice: it will run, and could run better. kProblem: it will not run as configured.
enum class Grade { kGood, kAdvice, kProblem };

struct Finding {
  std::string what;  // "huge pages"
  Grade grade = Grade::kGood;
  std::string found;   // "never"
  std::string remedy;  // what to do; empty where nothing is to be done
};

// Examines processor, memory and limits as the kernel tells them. They are read below `root`: "" is this machine; a
// test puts a folder there. `cpu_threads` is the configured number.
std::vector<Finding> ExamineMachine(const std::string& root, int cpu_threads);
// Examines GPUs, the library that runs them, and the speed of memory.
std::vector<Finding> ExamineDevices();
// Reports what the CUDA library says: versions, each GPU, the links between them, memory for copies to them.
std::vector<Finding> ExamineGpus(const std::vector<Device>& gpus, const CudaSystem& system);
// Whether the configured devices are at hand, and which part of them would be used.
Finding ExamineFleet(const EngineOptions& options);
// Examines the folder for offloaded weights: whether it can be written, its file system, its free room, and its speed,
// measured with a file of at most `sample_bytes`.
Finding ExamineOffloadFolder(const std::string& folder, int64_t sample_bytes);
inline constexpr int64_t kOffloadSampleBytes = int64_t{256} << 20;
// Whether the addresses that the daemon would listen on are free.
std::vector<Finding> ExamineAddresses(const v1::ServerConfig& config);
// Whether the model can be read, how fast, and whether it fits. Where its weights are not there yet, whether it will
// fit.
std::vector<Finding> ExamineModel(const EngineOptions& options);

Grade Worst(const std::vector<Finding>& findings);
// The table wraps at `width` columns.
std::string DoctorTable(const std::vector<Finding>& findings, size_t width);
std::string DoctorJson(const std::vector<Finding>& findings);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_DOCTOR_DOCTOR_H_
