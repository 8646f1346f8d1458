#!/usr/bin/env bash
# expect_exit.sh STATUS COMMAND...: passes when the command ends with exactly that status.
want=$1
shift
"$@"
got=$?
if [[ $got -ne $want ]]; then
  echo "exit status $got, expected $want: $*" >&2
  exit 1
fi
