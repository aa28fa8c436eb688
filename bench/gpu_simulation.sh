#!/usr/bin/env bash
# Clients that share passes, on a GPU, in at most 8 minutes: groups of 8 and 32 clients of ranks 4 to
# 64 on random bfloat16 bases of TinyLlama's and of an 8B Llama's shape, beside the same clients one
# by one. Fails where a client does not learn in a group what it learns alone.
#   bench/gpu_simulation.sh [--device cuda|cuda:N|cpu] [--tiny] [--peak TFLOP/s] [--seconds 480]
#                           [--build build-gpu] [--headers .gpu-headers] [--torch CMAKE-PREFIX]
# --tiny: small shapes, to try the script: on the CPU with --device cpu.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. bench/gpu_parts.sh

threads=$(nproc)
[ "$device" != cpu ] || threads=1
export -f build_engine machine peak_by_name
export device build headers torch peak logs

part build 240 bash -euo pipefail -c 'build_engine OFF group_bench step_timer' || finish
part machine 60 bash -euo pipefail -c machine || true

group() { # NAME LIMIT SHAPE ROWS DTYPE
  part "$1" "$2" "$build/bench/group_bench" "$3" --rows "$4" --dtype "$5" --device "$device" \
    --threads "$threads" --peak "$(cat "$logs/peak" 2>/dev/null || echo 0)" || true
}

if [ "$tiny" = 1 ]; then
  group exact 60 tiny 8x1x16,8x2x24 float32
  group tiny 60 tiny 8x1x16,32x1x16,8x4x32 bfloat16
else
  # Float32's rounding is small enough to tell a wrong adapter, row or step from it.
  group exact 60 15m 8x1x64,32x1x64,8x4x128 float32
  group tinyllama 150 tinyllama 8x1x128,32x1x128,8x4x512,8x8x512 bfloat16
  group llama-8b 240 llama-8b 8x1x128,32x1x128,8x4x512 bfloat16
fi
finish
