#!/bin/sh
# Makes the secrets that compose.yaml reads, once. What is there already is kept.
#
#   sh deploy/secrets.sh
#
# Back `secrets/brain_key` up apart from the database: without it nothing in the log can be read again.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets

random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# A container's user is not this one, so each file may be read by others; the folder keeps them out on this machine.
put() {
    if [ -e "secrets/$1" ]; then
        echo "kept   secrets/$1"
        return
    fi
    printf '%s' "$2" >"secrets/$1.tmp"
    chmod 0444 "secrets/$1.tmp"
    mv "secrets/$1.tmp" "secrets/$1"
    echo "made   secrets/$1"
}

put brain_key "$(random 32)"
put postgres_password "$(random 24)"
put database_password "$(random 24)"
put database_url "postgres://cairn:$(cat secrets/database_password)@postgres:5432/cairn"
put qdrant_api_key "$(random 24)"
put grafana_password "$(random 12)"
