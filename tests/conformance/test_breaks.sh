#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
#
# tests/conformance/test_breaks.sh PROGRAM: breaks the mock on purpose, one rule at a time, and demands that the
# comparison with Xen shows it in the lines of that very rule.
set -u
here=$(cd "$(dirname "$0")" && pwd)
program=${1:?usage: test_breaks.sh PROGRAM}
failed=0

# check BREAK PROFILE RULE...: every line that differs belongs to one of the rules, and there is at least one.
check()
{
    local name=$1 profile=$2 output rules wrong
    shift 2
    output=$("$here/compare" "$program" "$profile" "$name")
    case $? in
    0)
        echo "FAILED $name: the comparison for $profile does not see it"
        failed=1
        return
        ;;
    1) ;;
    *)
        echo "FAILED $name: $output"
        failed=1
        return
        ;;
    esac
    rules=$(printf '|%s' "$@")
    wrong=$(grep '^[-+][A-Z]' <<<"$output" | grep -vE "^[-+](${rules#|})[.:]" | head -n 3)
    if [ -n "$wrong" ]; then
        echo "FAILED $name: other rules differ too: $wrong"
        failed=1
    else
        echo "ok $name: $profile differs in $*, $(grep -c '^+[A-Z]' <<<"$output") line(s)"
    fi
}

check nine-servers pvh R1
check overlap-allowed pvh R5
check bind-twice pvh R7 R20 R35
check lowest-id-first pvh R13 R37
check none-reads-zero hvm R13 R14 R16 R17 R18 R19
check no-page-split pvh R15 R16
check no-invalidate arm64 R19
check hole-maps hvm R21 R22 R28
check msi-mode-unchecked pvh R24
check wires-repeat hvm R25
exit $failed
