#pragma once
// Settings of the whole process that decide how much memory and time LibTorch's CPU kernels take.

namespace drystone::tensors {

/// Call first in main(), before any tensor is made; what the user has set in the environment stays.
/// Programs are linked with jemalloc where it is at hand: it gives each thread small blocks without
/// a lock, lets all share large ones, and keeps what is freed for some seconds. With glibc's heap:
/// - Freed memory is kept instead of being given back to the system and faulted in again: a
///   training step allocates the same large buffers each time (25 % of a small model's step
///   otherwise).
/// - All threads allocate from one heap: a thread's own would consist of pieces of 64 MB, between
///   which a training's large buffers leave gaps (836 MB instead of 516 MB in the same run). They
///   wait for each other where buffers are small.
/// With either, the caches of oneDNN's kernels, one entry a shape, hold tens of shapes, not a
/// thousand: texts have so many lengths that the entries are rarely met again, and each holds its
/// scratch memory. Figures: docs/measurements.md.
void tune_process();

/// Gives the system what was freed, holes between blocks included: in phases whose buffers do not
/// come back, such as loading a model (4-bit TinyLlama: 1.1 GB of heap instead of 1.9 GB).
void give_back_freed_memory();

}  // namespace drystone::tensors
