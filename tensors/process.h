#pragma once
// Settings of the whole process that decide how much memory and time LibTorch's CPU kernels take.

namespace drystone::tensors {

/// Call first in main(), before any tensor is made; what the user has set in the environment stays.
/// - Freed memory is kept instead of being given back to the system and faulted in again: a
///   training step allocates the same large buffers each time (25 % of a small model's step
///   otherwise).
/// - All threads allocate from one heap: a thread's own would consist of pieces of 64 MB, between
///   which a training's large buffers leave gaps (836 MB instead of 516 MB in the same run).
/// - The caches of oneDNN's kernels, one entry a shape, hold tens of shapes, not a thousand: texts
///   have so many lengths that the entries are rarely met again, and each holds its scratch memory.
/// Figures: docs/measurements.md.
void tune_process();

/// Gives the system what was freed, holes between blocks included: in phases whose buffers do not
/// come back, such as loading a model (4-bit TinyLlama: 1.1 GB of heap instead of 1.9 GB).
void give_back_freed_memory();

}  // namespace drystone::tensors
