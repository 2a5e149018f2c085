#!/bin/sh
# Installs what the tests and the demo need and this machine lacks: PostgreSQL, PgBouncer, RabbitMQ and Prometheus
# server programs, venv.
# Does nothing where servers are given by the environment, a Docker engine answers, or the programs are there.
# The packages' own services are not started: the tests start private servers.
set -eu

have_postgres() {
    [ -n "${SIGNALBUS_TEST_DATABASE_URL:-}" ] || docker_answers || have_postgres_programs
}

have_postgres_programs() {
    command -v postgres >/dev/null 2>&1 && return 0
    for program in /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres \
        /opt/homebrew/opt/postgresql*/bin/postgres /usr/local/opt/postgresql*/bin/postgres; do
        [ -x "$program" ] && return 0
    done
    return 1
}

# It stands in front of a private PostgreSQL only; where there will be none, it is of no use.
have_pgbouncer() {
    command -v pgbouncer >/dev/null 2>&1 || [ -x /usr/sbin/pgbouncer ] ||
        { have_postgres && ! have_postgres_programs; }
}

have_rabbitmq() {
    [ -n "${SIGNALBUS_TEST_AMQP_URL:-}" ] || docker_answers || command -v rabbitmq-server >/dev/null 2>&1 ||
        [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || [ -x /opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server ]
}

docker_answers() {
    command -v docker >/dev/null 2>&1 && docker info >/dev/null 2>&1
}

# Its rules are tested by promtool, and one test scrapes a relay with it.
have_prometheus() {
    command -v prometheus >/dev/null 2>&1 && command -v promtool >/dev/null 2>&1
}

# The status page is tested in a real browser.
have_browser() {
    command -v chromedriver >/dev/null 2>&1 || return 1
    for program in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$program" >/dev/null 2>&1 && return 0
    done
    return 1
}

have_venv() {
    "${PYTHON:-python3}" -c 'import ensurepip, venv' >/dev/null 2>&1
}

packages=""
have_venv || packages="$packages python3-venv"
have_postgres || packages="$packages postgresql"
have_pgbouncer || packages="$packages pgbouncer"
have_rabbitmq || packages="$packages rabbitmq-server"
have_prometheus || packages="$packages prometheus"
have_browser || packages="$packages chromium chromium-driver"
command -v openssl >/dev/null 2>&1 || packages="$packages openssl"
command -v ps >/dev/null 2>&1 || packages="$packages procps"
command -v curl >/dev/null 2>&1 || packages="$packages curl"
# Completion is tested in each shell, the routes of alerts by amtool. Where they would have to be built, they are not needed.
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    command -v amtool >/dev/null 2>&1 || packages="$packages prometheus-alertmanager"
    command -v zsh >/dev/null 2>&1 || packages="$packages zsh"
    command -v fish >/dev/null 2>&1 || packages="$packages fish"
fi
[ -n "$packages" ] || exit 0

explain() {
    echo "Missing on this machine:$packages" >&2
    echo "Install them (Debian, Ubuntu: apt-get install$packages; macOS: brew install postgresql pgbouncer rabbitmq prometheus)," >&2
    echo "or start a Docker engine, or set SIGNALBUS_TEST_DATABASE_URL and SIGNALBUS_TEST_AMQP_URL." >&2
    exit 1
}

command -v apt-get >/dev/null 2>&1 || explain
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    explain
fi

echo "Installing:$packages"
# A policy of 101 keeps the packages from starting their services; an existing policy is put back afterwards.
policy=/usr/sbin/policy-rc.d
saved=""
if [ -e "$policy" ]; then
    saved=$(mktemp)
    $as_root cp -p "$policy" "$saved"
fi
restore() {
    if [ -n "$saved" ]; then
        $as_root cp -p "$saved" "$policy"
        $as_root rm -f "$saved"
    else
        $as_root rm -f "$policy"
    fi
}
trap restore EXIT
trap 'exit 1' INT TERM
printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
$as_root chmod 755 "$policy"

# No cluster of the package's own; where postgresql-common is configured already, its setting is left alone.
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    $as_root mkdir -p /etc/postgresql-common
    echo "create_main_cluster = false" | $as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
fi
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o Dpkg::Options::=--force-confold $packages >"${TMPDIR:-/tmp}/signalbus-install.log" 2>&1 || {
    tail -n 20 "${TMPDIR:-/tmp}/signalbus-install.log" >&2
    explain
}
rm -f "${TMPDIR:-/tmp}/signalbus-install.log"
