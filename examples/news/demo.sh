#!/usr/bin/env bash
# A real federation on this machine: a coordinator, four training clients of ranks 64, 16, 8 and 4
# and an evaluator, each a process of its own, over encrypted loopback connections.
# `./dev demo` calls it after building and preparing the data.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=${DRYSTONE_BIN:-build/bin}
run=${DRYSTONE_DEMO_DIR:-runs/news-demo}
port=${DRYSTONE_DEMO_PORT:-5570}
parties=$run/parties

rm -rf "$run"
mkdir -p "$run"
echo "Making keys, roster and one folder a party in $parties"
"$bin/drystone" provision examples/news/demo.toml --out "$parties" \
  --address "tcp://127.0.0.1:$port" --bind "tcp://127.0.0.1:$port" --log-level warning

clients=()
stop() { kill "${clients[@]}" 2>/dev/null || true; }
trap stop EXIT INT TERM

for folder in "$parties"/client-* "$parties"/evaluator; do
  "$bin/drystone-client" "$folder/client.toml" >"$folder/log.txt" 2>&1 &
  clients+=($!)
done
"$bin/drystone-coordinator" "$parties/coordinator/coordinator.toml"

failed=0
for client in "${clients[@]}"; do wait "$client" || failed=1; done
clients=()
if [ "$failed" -ne 0 ]; then
  echo "demo: a client failed; see $parties/*/log.txt" >&2
  exit 1
fi
global=$parties/coordinator/run/global
cat <<END

The adapter, in PEFT's form:   $global
Check every signature and recompute every round from the clients' own updates:
  $bin/drystone inspect $parties/coordinator/run --verify
END
