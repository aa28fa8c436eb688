#pragma once
// How many threads one LibTorch operation may use.

namespace drystone::tensors {

/// Sets the threads inside one operation (intra-op), for LibTorch, OpenMP and MKL alike, for
/// operations that the *calling thread* starts. Call it first thing in every thread that computes:
/// - OpenMP's and MKL's settings are per thread: a call in main() does nothing for a worker that
/// has
///   computed before.
/// - A thread that never called takes over, at its first operation, the number that *any* thread
/// set
///   last; this function settles that first, so that a later call elsewhere cannot undo it.
/// - The number is part of what fixes the bits: sums are split by it. Equal results need an equal
///   number.
/// - In a simulation with n workers give each worker one thread: two layers of n threads on n cores
///   run several times slower than either.
/// @throws core::InvalidArgument  num_threads < 1
void use_threads(int num_threads);

}  // namespace drystone::tensors
