#!/usr/bin/env bash
# Formats all C++ files of the repository; --check only names those that need it, and fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
format=.venv/bin/clang-format

mapfile -t files < <(git ls-files --cached --others --exclude-standard '*.cpp' '*.h')
existing=()
for file in "${files[@]}"; do [ ! -f "$file" ] || existing+=("$file"); done

if [ "${1:-}" != --check ]; then
  exec "$format" -i "${existing[@]}"
fi
failed=0
unformatted=$("$format" --dry-run "${existing[@]}" 2>&1 | sed -n 's/:.*code should be clang-formatted.*//p' | sort -u)
if [ -n "$unformatted" ]; then
  printf 'format: these are not as clang-format leaves them; run ./dev format:\n%s\n' "$unformatted" >&2
  failed=1
fi
# clang-format leaves comments alone: their length is checked here, in characters.
if LC_ALL=C.UTF-8 grep -nE '^.{101,}$' "${existing[@]}" >&2; then
  printf 'format: the lines above are longer than 100 columns\n' >&2
  failed=1
fi
exit $failed
