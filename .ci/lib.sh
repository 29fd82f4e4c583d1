# The stages of .ci/run.  Each step runs under a time limit, with its output in a log that is shown when it fails; its
# counts go to a file of their own in $work/results, "passed failed skipped".

say() { printf '[%4ds] %s\n' $((SECONDS - started)) "$*"; }

result() {      # name passed failed skipped
    local name=${1//[^A-Za-z0-9._-]/_}
    printf '%d %d %d\n' "$2" "$3" "$4" > "$work/results/$name"
}

fail() {        # name reason
    say "FAILED $1: $2"
    result "$1" 0 1 0
}

# What a log says of its failures, the names first: whoever reads may see the beginning only.
show_failure() {        # log
    grep -aE '^(FAILED|ERROR) |^=== DIFFERENCE | FAILED \([0-9-]+\)$' "$1" | cut -c1-300
    grep -aE '^E  ' "$1" | cut -c1-300 | head -n 20
    tail -n "${CI_LOG_LINES:-150}" "$1" | grep -avE '^[.sxXFE]+ *(\[ *[0-9]+%\])?$'
}

# Runs a command; keeps its log; reads "N passed", "N failed", "N skipped", "N errors" off its last lines where they
# stand there, else counts the step itself.
step() {        # name seconds command...
    local name=$1 limit=$2 log status began=$SECONDS
    shift 2
    log=$work/logs/${name//[^A-Za-z0-9._-]/_}.log
    # A shell's background jobs ignore Ctrl-C, and so would all that they start: the tests of it need it back.
    env --default-signal=INT,QUIT setsid timeout --kill-after=20 "$limit" "$@" > "$log" 2>&1 < /dev/null &
    echo "$!" > "$work/running/$!"
    wait "$!"
    status=$?
    rm -f "$work/running/$!"
    local line passed failed skipped errors
    line=$(tail -n 3 "$log" | grep -E '[0-9]+ (passed|failed|skipped|error)' | tail -n 1)
    passed=$(grep -oE '[0-9]+ passed' <<< "$line" | grep -oE '[0-9]+'); passed=${passed:-0}
    failed=$(grep -oE '[0-9]+ failed' <<< "$line" | grep -oE '[0-9]+'); failed=${failed:-0}
    errors=$(grep -oE '[0-9]+ error' <<< "$line" | grep -oE '[0-9]+'); errors=${errors:-0}
    skipped=$(grep -oE '[0-9]+ skipped' <<< "$line" | grep -oE '[0-9]+'); skipped=${skipped:-0}
    failed=$((failed + errors))
    if [[ -z $line && $status == 0 ]]; then passed=1; fi
    if [[ $status != 0 && $failed == 0 ]]; then failed=1; fi
    result "$name" "$passed" "$failed" "$skipped"
    if [[ $failed != 0 ]]; then
        say "FAILED $name after $((SECONDS - began)) s (exit status $status$([[ $status == 124 || $status == 137 ]] && echo ', out of time'))"
        show_failure "$log" | sed "s|^|    $name: |"
    else
        say "passed $name in $((SECONDS - began)) s: $passed passed, $skipped skipped"
    fi
    return "$status"
}

# Ends the steps that are still running, each of which is a session of its own.
end_steps() {
    local running
    for running in "$work"/running/*; do
        [[ -f $running ]] && kill -TERM -- "-$(basename "$running")" 2> /dev/null
    done
    jobs -p | xargs -r kill 2> /dev/null
    wait 2> /dev/null
    rm -rf "$work"
}

# --- tools ------------------------------------------------------------------------------------------------------------

install_tools() {
    local missing=()
    command -v gcc > /dev/null || command -v cc > /dev/null || missing+=(gcc libc6-dev)
    command -v make > /dev/null || missing+=(make)
    command -v clang > /dev/null || missing+=(clang)
    command -v spin > /dev/null || missing+=(spin)
    if command -v clang > /dev/null && ! clang_can_sanitize; then
        missing+=("libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev")
    fi
    [[ ${#missing[@]} == 0 ]] && return
    say "not installed here: ${missing[*]}"
    if [[ $(id -u) != 0 ]] || ! command -v apt-get > /dev/null; then
        say "they can't be installed here (no root or no apt-get): what needs them is left out"
        return
    fi
    DEBIAN_FRONTEND=noninteractive timeout 300 apt-get -qq update > "$work/logs/apt.log" 2>&1
    local package
    for package in "${missing[@]}"; do
        DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq install -y --no-install-recommends "$package" \
            >> "$work/logs/apt.log" 2>&1 || say "$package could not be installed"
    done
    if command -v clang > /dev/null && ! clang_can_sanitize; then
        DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq install -y --no-install-recommends \
            "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev" >> "$work/logs/apt.log" 2>&1
    fi
}

can_sanitize() {        # compiler sanitizer
    local out=$work/sanitize
    echo 'int main(void) { return 0; }' > "$out.c"
    "$1" "-fsanitize=$2" "$out.c" -o "$out" > /dev/null 2>&1
}

clang_can_sanitize() { can_sanitize clang thread; }

# --- interpreters -----------------------------------------------------------------------------------------------------

describe() { "$1" -c 'import sys, sysconfig; print(sys.version.split()[0] + ("t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""), sys.executable)'; }

label() { describe "$1" | cut -d' ' -f1; }

# One line each: the interpreters >= 3.10 of pyenv and of PATH that are CPython and have their headers, the first that is
# found of each minor version (free-threaded builds apart).
find_pythons() {
    local candidates=() candidate name directory found seen=" "
    for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do candidates+=("$candidate"); done
    while read -r directory; do
        for candidate in "$directory"/python3.[0-9] "$directory"/python3.[0-9][0-9] "$directory"/python3.[0-9][0-9]t \
                         "$directory"/python3; do
            candidates+=("$candidate")
        done
    done < <(tr ':' '\n' <<< "$PATH")
    for candidate in "${candidates[@]}"; do
        [[ -x $candidate ]] || continue
        name=$("$candidate" -c '
import os, sys, sysconfig
headers = os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))
if sys.implementation.name == "cpython" and sys.version_info >= (3, 10) and headers:
    import venv
    print("%d.%d" % sys.version_info[:2] + ("t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""))
' 2> /dev/null) || continue
        [[ -n $name && $seen != *" $name "* ]] || continue
        seen+="$name "
        found+="$name $candidate"$'\n'
    done
    sort -V <<< "${found:-}" | sed '/^$/d' | cut -d' ' -f2-
}

# The interpreter that the single-version stages use: 3.11 if it is there, else the first.
preferred() {
    local python
    for python in "$@"; do
        if [[ $(label "$python") == 3.11.* ]]; then echo "$python"; return; fi
    done
    echo "$1"
}

# --- stages -----------------------------------------------------------------------------------------------------------

copy_tree() {           # to
    mkdir -p "$1" && tar -C "$root" --exclude=./.git --exclude=./build --exclude='./*.egg-info' --exclude=./.venv \
        --exclude='*.so' --exclude=__pycache__ -cf - . | tar -C "$1" -xf -
}

make_environment() {    # python directory extras
    "$1" -m venv "$2/venv" || { timeout 300 apt-get -qq install -y python3-venv && "$1" -m venv "$2/venv"; } || return 1
    copy_tree "$2/tree" && cd "$2/tree" || return 1
    "$2/venv/bin/python" -m pip --disable-pip-version-check --quiet install --retries 5 -e ".[$3]"
}

interpreter_stage() {   # python
    local python=$1 name directory
    name=$(label "$python")
    directory=$work/$name
    mkdir -p "$directory"
    export -f make_environment copy_tree
    export root
    if ! MPFAST_REQUIRE_NATIVE=1 step "$name install" 600 bash -c 'make_environment "$@"' - "$python" "$directory" test; then
        return
    fi
    # Real programs come from PyPI; the tests of one that can't be had for this version say so and are skipped.
    local requirement
    for requirement in $("$directory/venv/bin/python" -c 'import importlib.metadata as m
for r in m.requires("mpfast"): "realworld" in r and print(r.partition(";")[0].strip())'); do
        timeout 300 "$directory/venv/bin/python" -m pip --disable-pip-version-check --quiet install \
            --only-binary :all: "$requirement" >> "$work/logs/$name-realworld.log" 2>&1 ||
            say "$name: $requirement could not be installed"
    done
    cd "$directory/tree" || return
    step "$name tests" 1500 "$directory/venv/bin/pytest" -q --maxfail=40 -p no:cacheprovider tests
    step "$name conformance" 1200 "$directory/venv/bin/python" tests/conformance/run.py --jobs 4
}

core_stage() {
    [[ -f tests/core/Makefile ]] || { say "no C tests"; return; }
    copy_tree "$work/core"
    local target
    for target in check check-asan check-tsan check-model; do
        grep -q "^$target:" tests/core/Makefile || { say "tests/core has no $target"; continue; }
        case $target in
            check-model) command -v spin > /dev/null || { say "spin is missing: $target left out"; continue; } ;;
            check-tsan) can_sanitize "${CC:-cc}" thread || clang_can_sanitize ||
                { say "no compiler with ThreadSanitizer: $target left out"; continue; } ;;
            check-asan) can_sanitize "${CC:-cc}" address || can_sanitize clang address ||
                { say "no compiler with AddressSanitizer: $target left out"; continue; } ;;
        esac
        step "core $target" 1200 make -C "$work/core/tests/core" "$target"
    done
}

bench_stage() {         # python
    local directory
    directory=$work/$(label "$1")
    [[ -f benchmarks/__main__.py || -f benchmarks/run.py ]] || { say "no benchmarks"; return; }
    if [[ ! -x $directory/venv/bin/python ]]; then
        mkdir -p "$directory"
        export -f make_environment copy_tree
        export root
        step "benchmarks install" 600 bash -c 'make_environment "$@"' - "$1" "$directory" test || return
    fi
    cd "$directory/tree" || return
    if [[ -f benchmarks/__main__.py ]]; then
        step "benchmarks --quick" 600 "$directory/venv/bin/python" -m benchmarks --quick
    else
        step "benchmarks --quick" 600 "$directory/venv/bin/python" benchmarks/run.py --quick
    fi
    cd "$root" || return
}

summary() {
    local passed=0 failed=0 skipped=0 p f s file
    for file in "$work"/results/*; do
        [[ -f $file ]] || continue
        read -r p f s < "$file"
        passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
        [[ $f == 0 ]] || say "failed: $(basename "$file") ($f)"
    done
    say "done"
    echo "$passed passed, $failed failed, $skipped skipped"
    [[ $failed == 0 && $passed != 0 ]]
}
