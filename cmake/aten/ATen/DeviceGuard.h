// Stands before ATen's header of this name, which every header of an operator includes. ATen's also has
// device_of(ITensorListRef), and for that one function, which nothing here calls, every file would compile the
// interpreter's types of values: two seconds each.
#ifndef CAUSEWAY_CMAKE_ATEN_ATEN_DEVICEGUARD_H_
#define CAUSEWAY_CMAKE_ATEN_ATEN_DEVICEGUARD_H_

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>

#endif  // CAUSEWAY_CMAKE_ATEN_ATEN_DEVICEGUARD_H_
