# Sourced by script/server and script/test: makes the Python environment that they run in.
#
# `prepare_environment NAME [PACKAGE]` installs requirements/NAME.txt, once for each content of that file, into
# .local/python<version>/ and sets $python; PACKAGE is one that has no wheel. Set PYTHON to choose the interpreter.

root=$(cd "$(dirname "$0")/.." && pwd)

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    is_new_enough "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.10 or newer"
    echo "$PYTHON"
    return
  fi
  for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
    if is_new_enough "$candidate"; then echo "$candidate"; return; fi
  done
  fail "Python 3.10 or newer is needed and none is on the PATH; set PYTHON to where it is"
}

# Makes the virtual environment. Debian keeps ensurepip apart (python3-venv); where it is absent, the pip that
# the machine has installs into the environment from outside.
make_environment() {
  rm -rf "$environment"
  mkdir -p "$(dirname "$environment")"
  if "$base" -c 'import ensurepip' 2>/dev/null; then
    "$base" -m venv "$environment"
  elif "$base" -m pip --version >/dev/null 2>&1; then
    "$base" -m venv --without-pip "$environment"
  else
    fail "$base has neither ensurepip nor pip; on Debian and Ubuntu: apt-get install python3-venv"
  fi
}

pip_install() {
  if [ -x "$environment/bin/pip" ]; then
    "$python" -m pip install "$@"
  else
    "$base" -m pip --python "$python" install "$@"
  fi
}

# Installs a lock, from wheels but for the package named second. Shows one line that counts the packages, and all
# that pip said where it failed. A lock is whole, so pip resolves nothing: before 23.3 it would take the newest release
# of what is needed with an extra, whatever the lock says. Python compiles what is imported when it is: pip would
# take as long for compiling everything as for the rest.
install_lock() {
  log=$environment/install.log
  total=$(grep -c '==' "$1")
  {
    pip_install --require-hashes --no-deps --only-binary :all: --no-binary "$2" --no-compile \
      --disable-pip-version-check --no-color --progress-bar off --requirement "$1" 2>&1 && echo "install: complete"
  } | tee "$log" | awk -v total="$total" '
    /^Collecting/ { printf "\r\033[K    %d of at most %d  %s", ++n, total, $2 }
    /^Installing collected/ { printf "\r\033[K    unpacking" }
    END { printf "\r\033[K" }' >&2
  grep -q '^install: complete$' "$log" || {
    cat "$log" >&2
    fail "the installation failed; the lines above say why. Run this again to go on"
  }
}

prepare_environment() {
  base=$(find_python) || exit 1
  version=$("$base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  environment=$root/.local/${prefix:-}python$version
  python=$environment/bin/python
  wanted=$root/requirements/$1.txt
  # A copy of the lock that was installed: the same bytes mean that there is nothing to do.
  installed=$environment/installed-$1.txt
  cmp -s "$wanted" "$installed" && is_new_enough "$python" && return
  if ! is_new_enough "$python"; then
    say "Making a Python $version environment in ${environment#"$root"/}"
    make_environment
  fi
  say "Installing requirements/$1.txt (once; later starts skip this)"
  install_lock "$wanted" "${2:-:none:}"
  cp "$wanted" "$installed"
}
