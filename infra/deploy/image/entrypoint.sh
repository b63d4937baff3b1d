#!/bin/sh
# Set each secret file that is named like an environment variable, then become the command. Secrets are files
# because `docker inspect` and `kubectl describe` show the environment that a container is given.
set -eu
for file in "${SECRETS_FOLDER:-/run/secrets}"/[A-Z]*; do
    [ -f "$file" ] || continue
    export "${file##*/}=$(cat "$file")"
done
exec "$@"
