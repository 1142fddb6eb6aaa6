#!/bin/sh
# Checks an entry of an audit log with sh, coreutils, xxd and openssl only. Trusts nothing but LOG_VKEY.
#   sh verify.sh RECORD.json RECORD.tlog-proof LOG_VKEY
# RECORD.json must be the header's exact bytes. Exit code 0 and the line `ok` mean that the log signed a
# tree which holds this header at this index.
set -eu
LC_ALL=C
export LC_ALL
fail() { echo "refused: $1" >&2; exit 1; }
[ $# -eq 3 ] || fail "usage: sh verify.sh RECORD.json RECORD.tlog-proof LOG_VKEY"
record=$1 proof=$2 vkey=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The proof: lines up to the first empty one, then the checkpoint note.
sed -n '1,/^$/p' "$proof" | sed '$d' > "$work/head"
sed '1,/^$/d' "$proof" > "$work/note"
[ "$(sed -n 1p "$work/head")" = "c2sp.org/tlog-proof@v1" ] || fail "this is not a tlog-proof"
index=$(sed -n 's/^index \([0-9][0-9]*\)$/\1/p' "$work/head")
[ -n "$index" ] || fail "the proof has no index"
sed '1d;/^extra /d;/^index /d' "$work/head" > "$work/path"

# The checkpoint: origin, size, root; signed by the one key that we were given.
sed '/^$/,$d' "$work/note" > "$work/text"
origin=$(sed -n 1p "$work/text") size=$(sed -n 2p "$work/text")
root=$(sed -n 3p "$work/text" | base64 -d | xxd -p -c 64)
name=${vkey%%+*} rest=${vkey#*+}
[ "$origin" = "$name" ] || fail "the checkpoint belongs to another log"
printf '%s' "${rest#*+}" | base64 -d > "$work/key"
[ "$(head -c 1 "$work/key" | xxd -p)" = 01 ] || fail "this is not an Ed25519 key of a log"
{ printf '302a300506032b6570032100' | xxd -r -p; tail -c +2 "$work/key"; } > "$work/key.der"
signature=$(sed '1,/^$/d' "$work/note" | while read -r dash who data; do
  [ "$dash" = "—" ] && [ "$who" = "$name" ] || continue
  [ "$(printf '%s' "$data" | base64 -d | head -c 4 | xxd -p)" = "${rest%%+*}" ] && printf '%s' "$data" && break
done) || true
[ -n "$signature" ] || fail "the checkpoint is not signed by this key"
printf '%s' "$signature" | base64 -d | tail -c +5 > "$work/signature"
openssl pkeyutl -verify -pubin -keyform DER -inkey "$work/key.der" -rawin -in "$work/text" \
  -sigfile "$work/signature" > /dev/null 2>&1 || fail "the checkpoint's signature is not valid"

# Inclusion, RFC 9162 §2.1.3.2.
hash() { xxd -r -p | sha256sum | cut -c 1-64; }
[ "$index" -lt "$size" ] || fail "the index lies outside the tree"
running=$({ printf '\000'; cat "$record"; } | sha256sum | cut -c 1-64)
position=$index last=$((size - 1))
while read -r line; do
  sibling=$(printf '%s' "$line" | base64 -d | xxd -p -c 64)
  [ ${#sibling} -eq 64 ] && [ "$last" -ne 0 ] || fail "the proof is malformed"
  if [ $((position & 1)) -eq 1 ] || [ "$position" -eq "$last" ]; then
    running=$(printf '01%s%s' "$sibling" "$running" | hash)
    while [ $((position & 1)) -eq 0 ] && [ "$position" -ne 0 ]; do
      position=$((position >> 1)) last=$((last >> 1))
    done
  else
    running=$(printf '01%s%s' "$running" "$sibling" | hash)
  fi
  position=$((position >> 1)) last=$((last >> 1))
done < "$work/path"
[ "$last" -eq 0 ] && [ "$running" = "$root" ] || fail "the proof does not lead to the checkpoint's root"
echo "ok: entry $index is in the log $origin as it was signed at $size entries, root $root"
