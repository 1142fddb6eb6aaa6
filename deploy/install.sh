#!/bin/sh
# Installs this bundle on a host that has no release yet. Root; in the folder of the medium:
#     sh install.sh FINGERPRINT FINGERPRINT [-- OPTIONS OF `appliance bundle install`]
# Fingerprints come from paper (README.txt). FIPS hosts: VERIFY=--fips sh install.sh …; without openssl: VERIFY=--python
# It copies the medium to this host, lets verify.sh check the copy, builds the release from the copy, and hands over
# to its program. Nothing is fetched. Exit codes: deploy/guides/bundles.md. A host with a release upgrades instead:
#     appliance bundle import /media/… && appliance bundle upgrade --staged …
# Several volumes: one after the other, `sh install.sh --volume` in each, in any order; the last time with fingerprints.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
export PATH LC_ALL
umask 022
ROOT=${ROOT:-} # tests have one of their own
stop() { code=$1; shift; printf 'install.sh: %s\n' "$*" >&2; exit "$code"; }

only_copy=
[ "${1-}" != --volume ] || { only_copy=yes; shift; }
[ -n "$only_copy" ] || [ $# -ge 2 ] || stop 2 'usage: sh install.sh FINGERPRINT FINGERPRINT [-- OPTIONS]'
[ -n "$ROOT" ] || [ "$(id -u)" -eq 0 ] || stop 20 'only root installs'
[ ! -e "$ROOT/opt/appliance/current" ] || stop 20 'a release is here already: appliance bundle upgrade'
python=
for name in python3 python3.14 python3.13 python3.12 python3.11; do
  "$name" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && python=$name && break
done
[ -n "$python" ] || stop 20 'no Python 3.11 or newer: install it from the operating system (its medium, offline)'
"$python" -I -c 'import sqlite3, ssl, venv' || stop 20 "$python lacks sqlite3, ssl or venv"

# 1. Copy first: what is checked afterwards is what is installed. Only what the lists name; what else lies on the
#    medium stays there. What is there already is kept.
medium=$(cd "$(dirname "$0")" && pwd -P)
staging=$ROOT/var/lib/appliance/staging/first
mkdir -p "$staging"
chmod 755 "$ROOT/var/lib/appliance"
chmod 700 "$ROOT/var/lib/appliance/staging"
part='[A-Za-z0-9_][A-Za-z0-9._+@-]*'
with='SHA256SUMS(\.[0-9a-f]{16}\.(ed25519|p384)\.sig)?|metadata/([0-9]+\.(targets|snapshot)|timestamp)\.json'
cd "$medium"
echo "copying $medium"
{
  cat ./SHA256SUMS ./VOLUME-*.SHA256SUMS 2> /dev/null | cut -c 67-
  find . -type f | cut -c 3- | grep -Ex "$with" || true
} | grep -Ex "$part(/$part)*" | sort -u | while read -r file; do
  [ -f "$file" ] && ! cmp -s "$file" "$staging/$file" || continue
  mkdir -p "$staging/$(dirname "$file")" && cp "$file" "$staging/$file" || stop 22 "can not copy $file"
done || exit $?
[ -z "$only_copy" ] || { echo 'copied; go on with the next volume, the last time with fingerprints'; exit 0; }

# 2. Believe nothing: openssl and coreutils check the copy, by keys from paper. The script that checks comes from the
#    copy too: compare its digest with the printed one (README.txt), or type its commands.
prints=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  prints="$prints $1"
  shift
done
[ $# -eq 0 ] || shift
# shellcheck disable=SC2086 # words, one for each fingerprint
(cd "$staging" && sh ./verify.sh ${VERIFY:-} $prints) || exit $?

# 3. From here on verified code runs: the release is built at its final path, then its own program goes on.
folder=$("$python" -I -B -c 'import json, sys
about = json.load(open(sys.argv[1]))
print("%d-%s" % (about["serial"], about["release"]))' "$staging/manifest.json")
release=$ROOT/opt/appliance/releases/$folder
env -i PATH="$PATH" LANG=C.UTF-8 "$python" -I -B -c 'import sys
sys.path.insert(0, sys.argv.pop(1))
from appliance.bundle.install import release
release.main(sys.argv[1:])' "$staging/app" "$staging" "$release" || exit $?
for print in $prints; do
  set -- --fingerprint "$print" "$@"
done
exec env -i PATH="$PATH" LANG=C.UTF-8 TERM="${TERM:-dumb}" \
  "$release/bin/appliance" bundle install --staged "$staging" ${ROOT:+--root "$ROOT"} "$@"
