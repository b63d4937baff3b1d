#!/usr/bin/env bash
# Programs outside Python that the end-to-end tests need: Chromium, to open pages in a real browser.
# Installs it on Debian and Ubuntu if run as root; otherwise says what is missing.
set -euo pipefail

for browser in chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$browser" >/dev/null && exit 0
done

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "system-deps: installing chromium" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends chromium >/dev/null
    exit 0
fi

cat >&2 <<'END'
system-deps: no Chromium found. The end-to-end tests open the report in a real browser.
Install one, for example:  sudo apt-get install chromium   |   brew install --cask chromium
END
exit 1
