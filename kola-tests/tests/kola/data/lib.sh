# Shared by all tests: source "$KOLA_EXT_DATA/lib.sh".
# shellcheck shell=bash

# Ends the test, saying why.
fatal() {
    echo "FAIL: $*" >&2
    exit 1
}

# Says what was proven.
ok() {
    echo "ok: $*"
}

# equals WHAT EXPECTED ACTUAL
equals() {
    [ "$2" = "$3" ] || fatal "$1: expected '$2', found '$3'"
    ok "$1: $3"
}

# The options that PATH's own mount, not a parent's, has; in commas for matching.
mount_options() {
    echo ",$(findmnt --noheadings --output OPTIONS --mountpoint "$1"),"
}
