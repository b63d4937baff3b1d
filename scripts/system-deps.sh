#!/usr/bin/env bash
# Programs outside Python: Chromium, with which the end-to-end tests open pages in a real browser, the
# Prometheus and Pushgateway with which they collect a run's metrics, and the PostgreSQL and Redis of
# `make stack`. Installs what is missing on Debian and Ubuntu if run as root; otherwise says what is missing.
set -euo pipefail

has() {
    local program
    for program; do command -v "$program" >/dev/null && return 0; done
    return 1
}

missing=()
has chromium chromium-browser google-chrome google-chrome-stable || missing+=(chromium)
has postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
has redis-server || missing+=(redis-server)
has prometheus || missing+=(prometheus)
has prometheus-pushgateway || missing+=(prometheus-pushgateway)
[ ${#missing[@]} = 0 ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "system-deps: installing ${missing[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    # The packages would start a server each, on their usual ports; nothing here uses those.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod +x "$policy"
    fi
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    exit 0
fi

cat >&2 <<END
system-deps: missing: ${missing[*]}. The end-to-end tests open the report in a browser (chromium), scrape
a run (prometheus, prometheus-pushgateway) and start the servers of \`make stack\` (postgresql, redis-server).
Install them, for example:
    sudo apt-get install --no-install-recommends ${missing[*]}   |   brew install chromium prometheus postgresql redis
END
exit 1
