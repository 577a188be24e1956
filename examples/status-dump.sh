#!/usr/bin/env bash
# status-dump.sh: prints all build planes of a control plane, to be looked at elsewhere with `choreoctl get -f FILE` and
# `choreoctl describe -f FILE`, and on standard error how they stand. A plane holds no private key.
set -euo pipefail

choreoctl=${CHOREOCTL:-choreoctl}
"$choreoctl" get -o wide --sort-by state >&2
"$choreoctl" get -o yaml
