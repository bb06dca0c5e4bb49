// What the kernel and the control group say of this machine's memory and processor.
#ifndef CAUSEWAY_ENGINE_PLAN_MACHINE_H_
#define CAUSEWAY_ENGINE_PLAN_MACHINE_H_

#include <string>

#include "engine/plan/device.h"

namespace causeway {

// The CPU as a device, read from `root`/proc and `root`/sys; "" is the machine itself, a test puts a folder there.
// Memory is the kernel's, lowered to the tightest limit of the process's control group and the groups around it
// (versions 1 and 2); the page cache that a group could give back counts as free. What cannot be read leaves no limit.
Device ReadCpuDevice(const std::string& root);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_PLAN_MACHINE_H_
