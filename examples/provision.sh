#!/usr/bin/env bash
# provision.sh NAME [FOLDER]: makes a CA, an agent's client certificate and a manifest for a build plane, checks them,
# and says what comes next. With APPLY=yes it applies the manifest to the control plane, too. Never prompts. A
# second run keeps the existing CA and certificate.
set -euo pipefail

name=${1:?usage: provision.sh NAME [FOLDER]}
folder=${2:-$name}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

choreoctl() { # the one that CHOREOCTL names, or else the one of this repository
  if [ -n "${CHOREOCTL:-}" ]; then
    "$CHOREOCTL" "$@"
  else
    cargo run --quiet --manifest-path "$root/Cargo.toml" -- "$@"
  fi
}

[ -e "$folder/ca.crt" ] || choreoctl certs ca --out-dir "$folder"
[ -e "$folder/tls.crt" ] || choreoctl certs client --plane-id "$name" --ca-dir "$folder"
choreoctl certs inspect "$folder/ca.crt" "$folder/tls.crt"
choreoctl create "$name" --client-ca-file "$folder/ca.crt" --dry-run client -o yaml >"$folder/plane.yaml"
choreoctl validate "$folder/plane.yaml"

if [ "${APPLY:-no}" = yes ]; then
  choreoctl apply -f "$folder/plane.yaml"
  exit
fi
cat <<EOF

Next:
  control plane   choreoctl apply -f $folder/plane.yaml
  plane's cluster choreoctl certs secret $folder -n openchoreo-build-plane --name $name-agent-tls | kubectl --context BUILD apply -f -
                  (BUILD is its context). Then copy the gateway's CA to the ConfigMap cluster-gateway-ca there, and install
                  the agent's chart with the values
                  clusterAgent.planeID=$name, clusterAgent.tls.clientSecretName=$name-agent-tls, clusterAgent.serverUrl=wss://HOST:PORT/ws
  then            choreoctl wait $name --for connected
EOF
