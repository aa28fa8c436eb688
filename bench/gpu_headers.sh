#!/usr/bin/env bash
# Copies what an engine-only build needs besides LibTorch, the header-only libraries of three Debian
# packages, into a folder (2 MB) for a machine that lacks them: bench/gpu_check.sh takes it.
#   bench/gpu_headers.sh [FOLDER]     .gpu-headers without one
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-.gpu-headers}

for package in nlohmann-json3-dev libexpected-dev doctest-dev; do
  dpkg -L "$package" | while read -r file; do
    case $file in
      */include/* | */cmake/*) [ -d "$file" ] || install -D -m 644 "$file" "$folder$file" ;;
    esac
  done
done
du -sh "$folder"
