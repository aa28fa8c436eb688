#!/usr/bin/env bash
# What was never run on a GPU, in at most 8 minutes: models and methods against the CPU, small
# grouped trainings against the same ones alone, and what a step of each method costs there.
#   bench/gpu_check.sh [--device cuda|cuda:N|cpu] [--tiny] [--seconds 480]
#                      [--build build-gpu] [--headers .gpu-headers] [--torch CMAKE-PREFIX]
# --tiny: fewer turns, to try the script. --device cpu: the tests' pretended device, and the CPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. bench/gpu_parts.sh

export -f build_engine machine peak_by_name
export device build headers torch peak logs

part build 300 bash -euo pipefail -c 'build_engine ON group_bench step_timer method_cost \
  drystone_models_tests drystone_adapters_tests' || finish
part machine 60 bash -euo pipefail -c machine || true

cases='*GPU*'
[ "$device" != cpu ] || cases='*GPU*,*another device*'
for folder in models adapters; do
  part "$folder" 120 "$build/bin/drystone_${folder}_tests" --test-case="$cases" || true
  if [ "$device" != cpu ] && grep -q 'nothing to compare' "$logs/$folder"; then
    summary+=("$folder: FAILED, its tests found no GPU")
    failed=1
  fi
done

shape=15m turns=5
[ "$tiny" = 0 ] || shape=tiny turns=1
for dtype in float32 bfloat16; do
  part "group-$dtype" 60 "$build/bench/group_bench" "$shape" --rows 5x1x32,5x3x48 --dtype "$dtype" \
    --device "$device" || true
done
for shape in encoder decoder; do
  part "methods-$shape" 100 "$build/bench/method_cost" "$shape" "$turns" all "$device" || true
done
finish
