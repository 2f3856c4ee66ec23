#!/bin/sh
# Is this machine able to run `make quickstart`? Names what is missing and the command that installs it. POSIX sh.
python="${1:-python3}"
fail() { printf 'preflight: %s\n  remedy: %s\n' "$1" "$2" >&2; exit 5; }

[ "$(uname -s)" = "Linux" ] || fail "this is $(uname -s); Plinth runs on Linux" "use a Linux machine, virtual machine or WSL 2"
command -v "$python" >/dev/null 2>&1 || fail "$python is not installed" "sudo apt-get install python3 python3-venv"
"$python" - <<'PY' || fail "$("$python" --version 2>&1) is not supported" "install Python 3.11 or 3.12, then: make quickstart PYTHON=python3.12"
import sys
sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
PY
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python has no venv module" \
  "sudo apt-get install $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
free_kb=$(df -Pk . | awk 'NR==2 {print $4}')
[ "$free_kb" -gt 4000000 ] || fail "only $((free_kb / 1024)) MiB free here; installation needs about 3 GiB" "free some space or clone to another disk"
