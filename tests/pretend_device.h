#pragma once
// A device beside the CPU for tests on machines without a GPU: LibTorch's PrivateUse1.
//
// What fails on a GPU fails here: the program's own reads and writes of device memory are
// segmentation faults, operations refuse tensors of the CPU beside the device's, and whenever the
// program would wait for the device, that is noted. Values are those of the CPU's kernels.

#include <string>
#include <vector>

#include <c10/core/Device.h>

namespace drystone::test {

c10::Device pretend_device();

/// The operators since the last call for which a program waits until a GPU has computed all that it
/// was told: values read back, sizes that depend on values, copies that are not asynchronous.
std::vector<std::string> take_waits();

}  // namespace drystone::test
