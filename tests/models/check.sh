#!/bin/sh
# Runs every model: as it stands it must hold; with each of its -D faults it must be found wrong.
# Usage: check.sh [model.pml ...]   Needs spin and a C compiler.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# verify MODEL [FAULT]: the number of errors that the exhaustive search finds, at most 1
errors() {
    rm -f pan pan.* ./*.trail
    spin -a ${2:+-D"$2"} "$here/$1" > spin.log 2>&1 || { cat spin.log >&2; exit 1; }
    cc -O2 -DNOCLAIM -DCOLLAPSE -DSAFETY -w -o pan pan.c
    ./pan -m100000 ${3:-} > pan.log 2>&1
    if grep -Eq 'search was not completed|max search depth too small|out of memory' pan.log && ! grep -q 'errors: 1' pan.log; then
        cat pan.log >&2
        exit 1
    fi
    sed -n 's/.*errors: \([0-9]*\).*/\1/p' pan.log
}

check() {
    model=$1
    shift
    found=$(errors "$model" "" ${invalid_end:-})
    states=$(sed -n 's/ *\([0-9.e+]*\) states, stored.*/\1/p' pan.log)
    if [ "$found" != 0 ]; then
        echo "$model: does not hold"
        cat pan.log
        exit 1
    fi
    echo "$model: holds ($states states)"
    for fault; do
        found=$(errors "$model" "$fault" ${invalid_end:-})
        if [ "$found" = 0 ]; then
            echo "$model: does not notice $fault"
            exit 1
        fi
        echo "$model: notices $fault"
    done
}

for model in ${*:-mutex.pml park.pml ring.pml crew.pml}; do
    case $model in
    mutex.pml) invalid_end= check mutex.pml NO_RECHECK KEEP_TOKEN LOSE_WAITERS ;;
    park.pml) invalid_end=-E check park.pml NO_LIFE NO_EPOCH NO_CHAIN ;; # -E: a waiter may wait for ever for a permit
    ring.pml) invalid_end=-E check ring.pml NO_VOID NO_ORDINAL NO_FRONT ;; # -E: a worker that has nothing to do sleeps for ever
    crew.pml) invalid_end=-E check crew.pml NO_ROUSE NO_LOOK NO_RESET ;; # -E: likewise
    *) echo "no such model: $model" >&2; exit 2 ;;
    esac
done
