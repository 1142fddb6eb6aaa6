#!/bin/sh
# The programs that tests verify with and that this project did not write. Idempotent. As root on Debian it
# installs what is missing; for everybody else it says what to do. Tests skip without them, but not in CI.
set -eu
missing=""
want() { # PACKAGE, and a command that succeeds where it is there
  package=$1
  shift
  "$@" > /dev/null 2>&1 || missing="$missing $package"
}
want golang-go command -v go
want golang-golang-x-mod-dev test -d /usr/share/gocode/src/golang.org/x/mod/sumdb/tlog
want strace command -v strace
want postgresql sh -c 'ls /usr/lib/postgresql/*/bin/initdb'
want systemd command -v systemd-analyze
want openssl command -v openssl
# Bare hosts without a network (tests/offline).
want debootstrap command -v debootstrap
want debian-archive-keyring test -f /usr/share/keyrings/debian-archive-keyring.gpg
want iproute2 command -v ip
want nftables sh -c 'PATH=$PATH:/usr/sbin:/sbin command -v nft'
want xxd command -v xxd
want unzip command -v unzip
want nodejs command -v node
want npm command -v npm
want chromium command -v chromium
want fonts-dejavu-core test -d /usr/share/fonts/truetype/dejavu
if [ -z "$missing" ]; then
  echo "test tools: all there"
elif [ "$(id -u)" -eq 0 ] && command -v apt-get > /dev/null 2>&1; then
  echo "test tools: installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # shellcheck disable=SC2086 # a list of names
  apt-get install -y -qq --no-install-recommends $missing > /dev/null
else
  echo "test tools: missing; as root on Debian: apt-get install --no-install-recommends$missing"
fi
