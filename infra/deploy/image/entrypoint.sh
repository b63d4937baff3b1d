#!/bin/sh
# Set each secret file that is named like an environment variable, then become the command. Secrets are files
# because `docker inspect` and `kubectl describe` show the environment that a container is given.
set -eu
for file in "${SECRETS_FOLDER:-/run/secrets}"/[A-Z]*; do
    [ -f "$file" ] || continue
    export "${file##*/}=$(cat "$file")"
done
# The model that identifies languages is part of the image; the cache is a volume, and empty at first.
models=${IMAGE_CACHE:-/opt/cache}/models
if [ -d "$models" ] && [ -w "$GRISTMILL_CACHE" ] && [ ! -e "$GRISTMILL_CACHE/models" ]; then
    ln -s "$models" "$GRISTMILL_CACHE/models" || true # another container was first
fi
exec "$@"
