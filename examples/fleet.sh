#!/usr/bin/env bash
# fleet.sh: a check of the fleet for cron or CI. Prints a line for each plane that needs attention, with its root cause
# and the command, and for each outage of the next 30 days. Ends with 1 where there is one, and with 2 where something is
# unknown. `choreoctl config set` says where the agents are. Needs jq.
set -euo pipefail

status=0
fleet=$("${CHOREOCTL:-choreoctl}" status --no-input -o json) || status=$?
[ -n "$fleet" ] || exit 2

jq --raw-output '.attention[] | "\(.kind) \(.name): \(.message) [\(.rootCause)]\n  \(.hints[0].text // "choreoctl doctor")"' <<<"$fleet"
soon=$(jq --raw-output --arg latest "$(date --utc --date '30 days' +%FT%TZ)" \
  '.next[] | select(.date < $latest) | "\(.date): \(.message) (\([.planes[].name] | join(", ")))"' <<<"$fleet")
if [ -n "$soon" ]; then
  echo "$soon"
  [ "$status" != 0 ] || status=1
fi
exit "$status"
