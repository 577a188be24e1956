#!/usr/bin/env bash
# fleet.sh: a check of the fleet for cron or CI. Prints a line for each plane that needs attention, with its root cause
# and the command that fixes it, and for the next outages (at most five) within 30 days. Exits 1 if it printed a line, and 2 if
# something is unknown. `choreoctl config set` saves which cluster runs the agents. Needs jq.
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
