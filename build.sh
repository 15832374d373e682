#!/usr/bin/env bash
# All the set-up there is. Needs Python 3.11 or newer; makes .venv, dist and .cache here and nothing elsewhere.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
    cat <<'EOF'
usage: ./build.sh COMMAND

  demo    set up, build dist/openai.wasm, and run it in its sandbox against the bundled fake OpenAI
  test    set up, then run every check: lint, types, layers, tests (more arguments go to pytest)
  build   set up, and build dist/openai.wasm
  bench   set up, build, and print the benchmark tables
  clean   remove what the others made
EOF
}

say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }

find_python() {
    local name
    for name in python3.13 python3.12 python3.11 python3 python3.14; do
        if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "build.sh: Python 3.11 or newer is needed (Debian: apt-get install python3 python3-venv)" >&2
    return 1
}

# What constraints.txt has for the extras named in $1: of three parts, the second is for the extra ray, the last for tests.
pinned() {
    if [ "$1" = test ]; then cat constraints.txt; else sed '/^# Only for /,$d' constraints.txt; fi
}

# A virtual environment with the extras named in $1, made again when what it was made from changes.
set_up() {
    local extras=$1 python stamp
    stamp="$extras $(cat pyproject.toml constraints.txt | sha256sum | cut -d' ' -f1)"
    if [ -x .venv/bin/python ] && grep -qsxF "$stamp" .venv/made-from; then
        return
    fi
    say "setting up .venv"
    python=$(find_python)
    if [ ! -x .venv/bin/pip ]; then
        if ! "$python" -m venv .venv; then
            if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
                apt-get update -qq && apt-get install -y -qq python3-venv
                "$python" -m venv --clear .venv
            else
                echo "build.sh: Python lacks venv (Debian: apt-get install python3-venv)" >&2
                return 1
            fi
        fi
    fi
    local pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
    "${pip[@]}" --require-hashes --no-deps --requirement <(pinned "$extras")
    "${pip[@]}" --no-deps --no-index --no-build-isolation --editable .
    echo "$stamp" >>.venv/made-from
}

# dist/openai.wasm, built again when its sources change.
build_openai() {
    .venv/bin/python .ci/openai.py
}

# Shows a command as one would type it, then runs it.
show() {
    say "\$ $(.venv/bin/python -c 'import shlex, sys; print(shlex.join(sys.argv[1:]))' host "$@")"
    .venv/bin/host "$@"
}

demo() {
    set_up build,serve
    build_openai
    local port=""
    log=$(mktemp) # global, like fake_pid: the trap outlives this function
    .venv/bin/host fake openai --port 0 >"$log" &
    fake_pid=$!
    trap 'kill $fake_pid 2>/dev/null || true; wait $fake_pid 2>/dev/null || true; rm -f "$log"' EXIT
    for _ in $(seq 100); do
        port=$(sed -n 's|.*127\.0\.0\.1:\([0-9]*\)/v1.*|\1|p' "$log")
        [ -n "$port" ] && break
        sleep 0.05
    done
    [ -n "$port" ] || { echo "build.sh: the fake OpenAI did not start" >&2; return 1; }
    export OPENAI_API_KEY=${OPENAI_API_KEY:-sk-demo-0123456789abcdef}

    show inspect dist/openai.wasm
    local grants=(--upstream "https://api.openai.com=http://127.0.0.1:$port" --allow-domain api.openai.com --secret OPENAI_API_KEY --no-prompt)
    show run dist/openai.wasm "${grants[@]}" \
        --input '{"operation": "chat.completions.create", "params": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello in one word"}]}}'
    show run dist/openai.wasm "${grants[@]}" --stream \
        --input '{"operation": "chat.completions.create", "params": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Write a haiku"}], "max_tokens": 5}}'
    show run dist/openai.wasm "${grants[@]}" --input '{"operation": "models.list"}'
    say "the same with nothing granted: denied, with what would allow it"
    show run dist/openai.wasm --no-prompt --input '{"operation": "models.list"}' || echo "(exit status $?)" >&2
    say "done: the catalyst ran in its sandbox, and only what was granted could be reached"
}

# Guest code, against the bindings that componentize-py makes of wit/, for the Python inside a component.
mypy_guest() {
    rm -rf .cache/bindings
    componentize-py --quiet -d wit -w catalyst bindings .cache/bindings
    MYPYPATH=.cache/bindings:catalyst/openai:. mypy --strict --python-version 3.14 \
        --explicit-package-bases --follow-imports silent catalyst/sdk catalyst/openai
}

run_tests() {
    set_up test
    unset PYTHONDONTWRITEBYTECODE # hundreds of processes would each compile all they import
    export PATH=$PWD/.venv/bin:$PATH
    say "ruff" && ruff check . && ruff format --check .
    say "import-linter" && lint-imports
    say "mypy" # one thread, beside the compiler of the component, which has several
    { mypy && mypy_guest; } &
    local types=$!
    build_openai
    wait "$types"
    # Tests wait for almost as long as they compute: three processes keep two processors busy.
    say "pytest" && pytest -n "$(($(nproc) * 3 / 2))" --dist worksteal "$@"
}

case ${1:-} in
demo) demo ;;
test) shift && run_tests "$@" ;;
build) set_up build,serve && build_openai ;;
bench) set_up test && build_openai && .venv/bin/python -m tests.benchmarks ;;
clean) rm -rf .venv .cache dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis ;;
-h | --help | help) usage ;;
*) usage >&2 && exit 2 ;;
esac
