#!/usr/bin/env bash
# Make .venv: one pip install of the locked requirements, then our packages, editable.
# `make setup` runs this when a lock or a package's pyproject.toml is newer than the last set-up.
# Your own pip settings (PIP_*, pip.conf) hold; TORCH_INDEX adds one index, for another torch build;
# LOCK=newest takes the newest libraries, without Unsloth, and .venv keeps to it.
set -euo pipefail
cd "$(dirname "$0")/../.."

here=$(pwd -P)
state=.venv/setup.state # "done" and what was set up, or "begun"
log=.venv/setup.log

say() { # WORDS...: on a terminal, in lines that end between words
  local columns=
  [ ! -t 1 ] || columns=$(stty size 2>/dev/null | cut -d' ' -f2)
  if [ "${columns:-0}" -gt 0 ]; then fold -s -w "$columns" <<<"$*"; else echo "$*"; fi
}

suits() { # a Python 3.11-3.13 that can make environments
  "$1" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
    >/dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3 python}; do
    if suits "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  say "error: Python 3.11, 3.12 or 3.13 with its venv module is needed;" \
    "tried: ${PYTHON:-python3.11 python3.12 python3.13 python3 python}." \
    "Install one (Debian, Ubuntu: apt-get install python3 python3-venv) or name it:" \
    "make setup PYTHON=/path/to/python3.12" >&2
  return 1
}

is_whole() { # .venv; one whose making was stopped may lack pip
  suits .venv/bin/python && .venv/bin/python -c 'import pip' 2>/dev/null
}

version() { "$1" -c 'import sys; print("Python %d.%d" % sys.version_info[:2])'; }

pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

narrated() { # WORDS LOG COMMAND...: how far a command is, in a line every few seconds
  local words=$1 log=$2
  shift 2
  "$@" 2>&1 | "${python:-.venv/bin/python}" ci/setup/narrate.py "$words" --log "$log" \
    --site "$(echo .venv/lib/python3.*/site-packages)" --downloads .venv/tmp
}

# --- what was asked for can be had -----------------------------------------------------------------
if [ -n "${PYTHON:-}" ]; then
  python=$(find_python)
  if suits .venv/bin/python && [ "$(version "$python")" != "$(version .venv/bin/python)" ]; then
    say "error: .venv has $(version .venv/bin/python), and PYTHON=$PYTHON is" \
      "$(version "$python"): make clean first, then make setup PYTHON=$PYTHON" >&2
    exit 1
  fi
fi
noted() { sed -n "s/^$1 = //p" .venv/pyvenv.cfg 2>/dev/null || true; }
made_in=$(noted made-in)
index=$(cksum <<<"${TORCH_INDEX:-}") # it may hold a password
if [ -n "${TORCH_INDEX:-}" ] && [ "${made_in:-$here}" = "$here" ] &&
  [ "$(noted torch-index)" != "$index" ] && is_whole; then
  say "error: .venv was set up without this TORCH_INDEX, and pip would keep the torch that is there:" \
    "make clean first, then make setup with the same TORCH_INDEX" >&2
  exit 1
fi
lock=$(noted lock)
lock=${lock:-base}
if [ -n "${LOCK:-}" ] && [ "$LOCK" != "$lock" ]; then
  if [ "$LOCK" != base ] && [ "$LOCK" != newest ]; then
    say "error: LOCK: expected base or newest, got $LOCK" >&2
    exit 1
  elif [ "${made_in:-$here}" = "$here" ] && is_whole; then
    say "error: .venv was set up with LOCK=$lock, and two locks do not mix:" \
      "make clean first, then make setup LOCK=$LOCK" >&2
    exit 1
  fi
  lock=$LOCK
fi
if [ "${1:-}" = --check ]; then
  exit
fi

stopped() { # EXIT-CODE: by Ctrl-C or SIGTERM
  trap - INT TERM
  # its own alone: of a terminal that was closed, this comes while the next set-up is at work
  rm -rf ".venv/tmp/$$"
  rmdir .venv/tmp 2>/dev/null || true
  say "set-up was stopped; what was unpacked is kept, and make setup goes on there" >&2
  exit "$1"
}
trap 'stopped 130' INT
trap 'stopped 143' TERM

# --- what is there ---------------------------------------------------------------------------------
inputs=$(cat "ci/requirements/$lock.txt" ci/requirements/dev.txt packages/*/pyproject.toml | cksum)
last=$(cat "$state" 2>/dev/null || true)
new=
if ! is_whole; then
  new=yes
  python=${python:-$(find_python)}
  say "Set-up, once: the locked requirements go into .venv ($(version "$python")) with pip."
  say "About 2 GB on disk with a CPU build of torch, 6 GB with a CUDA build."
  say "One or two minutes plus the download."
elif [ "${made_in:-$here}" != "$here" ]; then
  new=yes
  python=${python:-$(find_python)}
  say "Set-up anew: .venv was made for $made_in and does not work here."
elif [ "$last" = "done $inputs" ]; then
  exit # a file was touched, and holds what it held
elif [ "$last" = begun ]; then
  say "Set-up goes on: the last one was stopped before its end. What was unpacked is kept."
else
  say "Set-up again: a lock or a package's pyproject.toml has changed. A small change takes seconds."
fi

# make takes the stamps for proof: they go first, or a .venv that was half removed would pass
rm -f .venv/.stamp
if [ -n "$new" ]; then
  rm -f .venv/.gguf-stamp
  narrated "making .venv" /dev/null "$python" -m venv --clear .venv
  printf 'made-in = %s\ntorch-index = %s\nlock = %s\n' "$here" "$index" "$lock" >>.venv/pyvenv.cfg
  python=
fi
rm -rf .venv/tmp # of one that was killed
export TMPDIR="$here/.venv/tmp/$$" # pip's downloads, where their growth can be seen
mkdir -p "$TMPDIR"
echo begun >"$state"
: >"$log"
# a package that a killed pip has left half unpacked has no RECORD yet: it is not there
for about in .venv/lib/python3.*/site-packages/*.dist-info; do
  [ ! -d "$about" ] || [ -e "$about/RECORD" ] || rm -rf "$about"
done

# --- install ---------------------------------------------------------------------------------------
# --no-compile: Python compiles what is imported when it is imported; compiling all of torch and
# its company beforehand was most of the set-up's time
narrated "the locked packages" "$log" \
  pip install --no-compile ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
  -r "ci/requirements/$lock.txt" -r ci/requirements/dev.txt || {
  say "error: pip could not install the locked requirements; its own words: $log" >&2
  exit 1
}
narrated "our packages" "$log" \
  pip install --no-compile --no-deps --no-build-isolation \
  -e packages/rewards -e packages/run -e packages/gguf -e packages/rollout -e packages/trainer -e packages/evaluator -e packages/exporter -e packages/tasks -e packages/viewer || {
  say "error: pip could not install the packages; its own words: $log" >&2
  exit 1
}
pip check
rm -rf "$TMPDIR"
rmdir .venv/tmp 2>/dev/null || true
echo "done $inputs" >"$state"
