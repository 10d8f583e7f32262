#!/usr/bin/env bash
# Prints how many emulated machines, or compilers of large programs, this machine has room
# for: each occupies a processor, and 3 GB of memory.
set -euo pipefail

in_memory=$(awk '/^MemAvailable:/ { print int($2 / 3000000) }' /proc/meminfo)
processors=$(nproc)
room=$((in_memory < processors ? in_memory : processors))
echo $((room < 1 ? 1 : room))
