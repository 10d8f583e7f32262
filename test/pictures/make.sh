#!/usr/bin/env bash
# Makes the pictures of docs/pictures anew, from a run in a VM, Jaeger's page and a
# headless browser. A page has few colours: with a palette the files are half as large.
set -euo pipefail
cd "$(dirname "$0")/../.."
# Jaeger's page asks for the system's font, and takes DejaVu where there is none.
test/vm/deps.sh chromium fonts-dejavu-core pngquant
out=$PWD/docs/pictures
mkdir -p "$out"
go -C test run ./pictures -otel-kprobe "$PWD/bin/otel-kprobe" -demo-app "$PWD/bin/demo-app" -out "$out"
pngquant --force --ext .png --speed 1 "$out"/*.png
ls -l "$out"
