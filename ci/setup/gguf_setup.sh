#!/usr/bin/env bash
# Put llama-cpp-python into .venv.  It comes as source only, so llama.cpp is built once, and its
# wheel is kept in .cache/wheels: a new .venv takes it from there in seconds.
# CMAKE_ARGS reaches the build (a CUDA build: CMAKE_ARGS=-DGGML_CUDA=on) and has wheels of its own.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=.venv/bin/python
requirements=ci/requirements/gguf.txt
wanted=$(sed -n 's/^llama-cpp-python==//p' "$requirements")

have=$("$python" -c 'import importlib.metadata as m; print(m.version("llama-cpp-python"))' 2>/dev/null || true)
if [ "$have" = "$wanted" ]; then
  exit
fi

# llama.cpp is compiled for the very processor (-march=native): a wheel of another one may crash here
processor=$(grep -m1 -iE '^(flags|features)' /proc/cpuinfo 2>/dev/null || uname -mp)
build=$(cat ci/setup/llama_cpp.cmake - <<<"${CMAKE_ARGS:-} $processor" | cksum | cut -d' ' -f1)
CMAKE_ARGS="${CMAKE_ARGS:+$CMAKE_ARGS }-DCMAKE_PROJECT_llama_cpp_INCLUDE='$PWD/ci/setup/llama_cpp.cmake'"
CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$("$python" -c 'import os; print(os.cpu_count())')}
export CMAKE_ARGS CMAKE_BUILD_PARALLEL_LEVEL
wheels=.cache/wheels/$("$python" -c 'import sys, sysconfig
print(f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}")')-$build

pip() { "$python" -m pip --disable-pip-version-check "$@"; }

if ! compgen -G "$wheels/llama_cpp_python-$wanted-*.whl" >/dev/null; then
  if ! command -v c++ >/dev/null && [ -z "${CXX:-}" ]; then
    echo "error: building llama.cpp needs a C++ compiler, and there is no c++ here;" \
      "install one (Debian, Ubuntu: apt-get install g++; macOS: xcode-select --install)" \
      "and run make gguf-setup again. make train and make test do not need it." >&2
    exit 1
  fi
  echo "Building llama.cpp $wanted, once: about 3 minutes on two cores."
  echo "The wheel is kept in $wheels."
  partial=$wheels.partial log=$wheels.log
  rm -rf "$partial" "$log"
  mkdir -p "$partial"
  stopped() {
    rm -rf "$partial"
    echo "the build was stopped and begins anew next time; make train needs none" >&2
    exit 130
  }
  trap stopped INT TERM
  # The source may come from pip's cache, the wheel never: pip does not look at CMAKE_ARGS and would
  # hand out a wheel of another build.  The last line adds what else the list names.
  if ! {
    pip download --no-deps --no-binary :all: --dest "$partial" "llama-cpp-python==$wanted" &&
      pip wheel --verbose --no-deps --no-cache-dir --wheel-dir "$partial" "$partial"/*.tar.gz &&
      pip wheel --no-deps --find-links "$partial" --wheel-dir "$partial" --requirement "$requirements"
  } 2>&1 | "$python" ci/setup/narrate.py "llama.cpp's source" --log "$log" 2>/dev/null; then
    grep -E '(error|ERROR|fatal|Error):? ' "$log" | tail -5 >&2
    echo "error: llama.cpp could not be built; the whole log is in $log" >&2
    exit 1
  fi
  mkdir -p "$wheels"
  mv "$partial"/*.whl "$wheels"
  rm -rf "$partial" "$log"
fi
pip install --quiet --no-index --no-deps --find-links "$wheels" --requirement "$requirements"
"$python" -c 'import llama_cpp; print(f"llama-cpp-python {llama_cpp.__version__} is ready")'
