#!/usr/bin/env bash
# Make .venv: one pip install of the locked requirements, then the five packages, editable.
# `make setup` runs this when a lock or a package's pyproject.toml is newer than the last set-up.
# Your own pip settings (PIP_*, pip.conf) hold; TORCH_INDEX adds one index, for another torch build.
set -euo pipefail
cd "$(dirname "$0")/.."

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
  echo "error: Python 3.11, 3.12 or 3.13 with its venv module is needed;" \
    "tried: ${PYTHON:-python3.11 python3.12 python3.13 python3 python}." \
    "Install one (Debian, Ubuntu: apt-get install python3 python3-venv) or name it:" \
    "make setup PYTHON=/path/to/python3.12" >&2
  return 1
}

narrate() { # of pip's words: errors, the large downloads, and the long silence after them
  local line
  while IFS= read -r line; do
    case $line in
      *Downloading*[MG]B\)) echo "  ${line#*Downloading }" ;;
      "Installing collected packages:"*)
        echo "  unpacking $(wc -w <<<"${line#*: }") packages: silent for half a minute or so"
        ;;
      *ERROR* | *error:*) echo "$line" >&2 ;;
    esac
  done
}

pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

if suits .venv/bin/python; then
  echo "Set-up again: a lock or a package's pyproject.toml has changed. A small change takes seconds."
else
  python=$(find_python)
  echo "Set-up, once: the locked requirements go into .venv ($("$python" --version)) with pip."
  echo "About 2 GB on disk with a CPU build of torch, 6 GB with a CUDA build."
  echo "One or two minutes plus the download."
  "$python" -m venv --clear .venv
fi
# --no-compile: Python compiles what is imported when it is imported; compiling all of torch and
# its company beforehand was most of the set-up's time
pip install --no-compile ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
  -r ci/requirements/base.txt -r ci/requirements/dev.txt 2>&1 | tee .venv/setup.log | narrate || {
  echo "error: pip could not install the locked requirements; its own words: .venv/setup.log" >&2
  exit 1
}
pip install --quiet --no-compile --no-deps --no-build-isolation \
  -e packages/rewards -e packages/rollout -e packages/trainer -e packages/evaluator -e packages/exporter
pip check
