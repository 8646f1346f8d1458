#!/bin/bash
# Installs the module and its library, and runs the test with Debian's Python. Run by on_mount.sh (tests/preload).
#
#   run.sh BUILD_DIR PYTHON
set -eu
for part in library python; do cmake --install "$1" --prefix "$WORK/usr" --component "$part" >/dev/null; done
PYTHONPATH=$(dirname "$(find "$WORK/usr" -name pmfs.py)")
export PYTHONPATH PYTHONDONTWRITEBYTECODE=1
exec timeout 100 "$2" "$(dirname "$0")/module_test.py"
