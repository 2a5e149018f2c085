#!/bin/sh
# Replaces the relays one by one by those of a new image, without a moment in which fewer run:
#   docker compose build relay (or: pull), then  sh deploy/compose/roll.sh
# A new one must be healthy before an old one gets its SIGTERM; it ends its bursts, so nothing is lost or sent twice.
set -eu

old=$(docker compose ps --quiet relay)
[ -n "$old" ] || { echo "No relay runs: docker compose up --detach" >&2; exit 1; }
count=$(echo "$old" | wc -l)
for relay in $old; do
    docker compose up --detach --wait --no-deps --no-recreate --no-build --scale "relay=$((count + 1))" relay
    # Longer than --drain-timeout.
    docker stop --time 40 "$relay"
    docker rm "$relay"
done
