#pragma once
// Counter-based random numbers: Philox4x32-10 (Salmon et al., 2011, Parallel random numbers: as
// easy as 1, 2, 3). A number is a function of its key and place, whoever asks and in what order.

#include <array>
#include <cstdint>

#include <ATen/core/Tensor.h>

namespace drystone::tensors {

/// Ten rounds. The known-answer vectors of the paper's Random123 hold.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                    std::array<std::uint32_t, 2> key);

/// Rows of a standard normal matrix that never exists as a whole: element (i, j) is word j mod 4 of
/// counter (⌊j / 4⌋, i, 0, 0), by Box–Muller in pairs of words. Only additions, products, quotients
/// and square roots of IEEE single precision: the same bits on every processor and device, whatever
/// the number of threads and whichever rows are asked for. At most 6.7 in size.
/// @return  rows [first, first + count) as [count, columns] fp32
at::Tensor philox_normal(std::uint64_t key, std::int64_t first, std::int64_t count,
                         std::int64_t columns, at::Device device = at::kCPU);

/// The same by tensor operations: what other devices run.
at::Tensor philox_normal_by_tensors(std::uint64_t key, std::int64_t first, std::int64_t count,
                                    std::int64_t columns, at::Device device);

}  // namespace drystone::tensors
