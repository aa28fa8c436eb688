# What gpu_simulation.sh and gpu_check.sh share: options, the build, and parts that each have a time
# limit of their own, of which one that fails does not stop the next. Sourced.

device=cuda
tiny=0
build=build-gpu
headers=.gpu-headers
torch=
peak=
seconds=480

usage() {
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
}

while [ $# -gt 0 ]; do
  case $1 in
    --tiny) tiny=1 ;;
    --device) device=${2:?} && shift ;;
    --build) build=${2:?} && shift ;;
    --headers) headers=${2:?} && shift ;;
    --torch) torch=${2:?} && shift ;;
    --peak) peak=${2:?} && shift ;;
    --seconds) seconds=${2:?} && shift ;;
    *) usage ;;
  esac
  shift
done

SECONDS=0 # bash counts
logs=$build/logs
mkdir -p "$logs"
summary=()
failed=0

# part NAME LIMIT COMMAND…: what it prints goes to the terminal and into LOGS/NAME.
part() {
  local name=$1 limit=$2 begin=$SECONDS status=0
  shift 2
  [ "$limit" -le $((seconds - SECONDS)) ] || limit=$((seconds - SECONDS))
  printf '\n== %s\n' "$name"
  if [ "$limit" -le 0 ]; then
    status=124
  else
    timeout "$limit" "$@" 2>&1 | tee "$logs/$name" || status=$?
  fi
  case $status in
    0) summary+=("$name: passed, $((SECONDS - begin)) s") ;;
    124) summary+=("$name: FAILED, no time left after $((SECONDS - begin)) s") ;;
    *) summary+=("$name: FAILED with $status, $((SECONDS - begin)) s") ;;
  esac
  [ "$status" = 0 ] || failed=1
  return "$status"
}

finish() {
  printf '\n== summary, device %s, %s s in all\n' "$device" "$SECONDS"
  printf '%s\n' "${summary[@]}"
  exit "$failed"
}

# build_engine TESTS TARGET…: where cmake finds torch, by --torch, in .venv, or by python3.
build_engine() {
  local tests=$1 python=python3 prefix=$torch
  shift
  [ ! -x .venv/bin/python ] || python=.venv/bin/python
  [ -n "$prefix" ] || prefix=$("$python" -c 'import torch; print(torch.utils.cmake_prefix_path)')
  [ ! -d "$headers" ] || prefix="$prefix;$PWD/$headers/usr"
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG" \
    -DDRYSTONE_ENGINE_ONLY=ON -DDRYSTONE_BUILD_BENCH=ON "-DDRYSTONE_BUILD_TESTS=$tests" \
    "-DCMAKE_PREFIX_PATH=$prefix" >"$logs/configure" || { cat "$logs/configure"; return 1; }
  cmake --build "$build" -j "${DRYSTONE_JOBS:-$(nproc)}" --target "$@" >"$logs/compile" ||
    { tail -n 40 "$logs/compile"; return 1; }
}

# The machine, and its peak in dense bfloat16 products by the data sheets, TFLOP/s, where it is not
# given and known; otherwise what large products reach.
machine() {
  grep -m 1 'model name' /proc/cpuinfo || true
  [ "$device" = cpu ] || nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  [ -n "$peak" ] || peak=$(peak_by_name)
  local measured
  measured=$("$build/bench/step_timer" --peak bfloat16 "${device%%:*}" | sed 's/.*: \([0-9.]*\)}/\1/') ||
    return 1
  measured=$(awk "BEGIN { printf \"%.4f\", $measured / 1000 }")
  printf 'peak, TFLOP/s of bfloat16: %s by the data sheet, %s measured\n' "${peak:-unknown}" "$measured"
  printf '%s\n' "${peak:-$measured}" >"$logs/peak"
}

peak_by_name() {
  [ "$device" != cpu ] || return 0
  case $(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1) in
    *B200*) echo 2250 ;;
    *H200* | *"H100 80GB HBM3"* | *H100*SXM* | *GH200*) echo 989 ;;
    *H100*) echo 756 ;;
    *A100* | *A800*) echo 312 ;;
    *L40S*) echo 362 ;;
    *"RTX 4090"*) echo 165 ;;
    *A10* | *A10G*) echo 125 ;;
    *L4) echo 121 ;;
  esac
}
