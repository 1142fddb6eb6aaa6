#!/bin/sh
# Checks evidence from an audit log with sh, sed, coreutils, xxd and openssl only. Trusts nothing but LOG_VKEY.
#   sh verify.sh LOG_VKEY                                     everything in this folder
#   sh verify.sh RECORD.json RECORD.tlog-proof LOG_VKEY       one entry
# RECORD.json must be the header's exact bytes. Exit code 0 and lines that begin with `ok` mean that the log
# signed a tree which holds this header at this index.
set -eu
LC_ALL=C
export LC_ALL
fail() { echo "refused: $1" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
hash() { xxd -r -p | sha256sum | cut -c 1-64; }
same() { [ "$(sha256sum < "$1")" = "$(sha256sum)" ]; }  # a file, and what comes in

# key VKEY: the log's name, key id and public key, for openssl.
key() {
  name=${1%%+*} rest=${1#*+}
  printf '%s' "${rest#*+}" | base64 -d > "$work/key"
  [ "$(head -c 1 "$work/key" | xxd -p)" = 01 ] || fail "this is not an Ed25519 key of a log"
  { printf '302a300506032b6570032100' | xxd -r -p; tail -c +2 "$work/key"; } > "$work/key.der"
}

# signed NOTE NAME KEY_ID: writes the note's text; fails unless the key signed it under that name.
signed() {
  [ -f "$1" ] || fail "$1 is missing"
  sed '/^$/,$d' "$1" > "$work/text"
  signature=$(sed '1,/^$/d' "$1" | while read -r dash who data; do
    [ "$dash" = "—" ] && [ "$who" = "$2" ] || continue
    [ "$(printf '%s' "$data" | base64 -d | head -c 4 | xxd -p)" = "$3" ] && printf '%s' "$data" && break
  done) || true
  [ -n "$signature" ] || fail "the note is not signed by this key"
  printf '%s' "$signature" | base64 -d | tail -c +5 > "$work/signature"
  openssl pkeyutl -verify -pubin -keyform DER -inkey "$work/key.der" -rawin -in "$work/text" \
    -sigfile "$work/signature" > /dev/null 2>&1 || fail "a signature is not valid"
}

# checkpoint NOTE: origin, size and root of a tree that the log signed.
checkpoint() {
  signed "$1" "$name" "${rest%%+*}"
  origin=$(sed -n 1p "$work/text") size=$(sed -n 2p "$work/text")
  root=$(sed -n 3p "$work/text" | base64 -d | xxd -p -c 64)
  [ "$origin" = "$name" ] || fail "the checkpoint belongs to another log"
}

# included RECORD PROOF: the header is in the tree of the proof's checkpoint. RFC 9162 §2.1.3.2.
included() {
  [ -f "$1" ] && [ -f "$2" ] || fail "$1 or $2 is missing"
  # The proof: lines up to the first empty one, then the checkpoint note.
  sed -n '1,/^$/p' "$2" | sed '$d' > "$work/head"
  sed '1,/^$/d' "$2" > "$work/note"
  [ "$(sed -n 1p "$work/head")" = "c2sp.org/tlog-proof@v1" ] || fail "this is not a tlog-proof"
  index=$(sed -n 's/^index \([0-9][0-9]*\)$/\1/p' "$work/head")
  [ -n "$index" ] || fail "the proof has no index"
  sed '1d;/^extra /d;/^index /d' "$work/head" > "$work/path"
  checkpoint "$work/note"
  [ "$index" -lt "$size" ] || fail "the index lies outside the tree"
  running=$({ printf '\000'; cat "$1"; } | sha256sum | cut -c 1-64)
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
}

# field FILE NAME: a string or a number of a flat JSON object in its one form.
field() { sed -n "s/.*\"$2\":\"\\{0,1\\}\\([^\",}]*\\).*/\\1/p" "$1" | head -n 1; }
mac() { openssl dgst -sha256 -mac HMAC -macopt "hexkey:$1" -r | cut -c 1-64; }

# content STEM: the sealed content is the header's, and where its key is here, opens to what is told.
content() {
  sealed=$(sed -n 's/.*"ct":{\([^}]*\)}.*/{\1}/p' "$1.json")
  [ -n "$sealed" ] || fail "$1 has a content that its header does not name"
  printf '%s\n' "$sealed" > "$work/ct"
  [ "$(sha256sum < "$1.ct" | cut -c 1-64)" = "$(field "$work/ct" sha256)" ] || fail "$1.ct is another content"
  [ -f "$1.key" ] || return 0
  prk=$(field "$1.key" prk) key=$(field "$1.key" key) nonce=$(head -c 12 "$1.ct" | xxd -p)
  [ "$(printf 'audit/v1/commit\001' | mac "$prk")" = "$(field "$work/ct" kc)" ] || fail "$1.key is another key"
  printf 'audit/v1\n%s\n%s\n%s\n%s\n%s' "$(field "$1.json" log)" "$(field "$1.json" seq)" \
    "$(field "$1.json" epoch)" "$(field "$1.json" step)" "$(field "$1.json" kind)" | sha256sum | cut -c 1-64 |
    xxd -r -p > "$work/aad"
  derived=$({ printf 'audit/v1/enc'; cat "$work/aad"; printf '\001'; } | mac "$prk")
  [ "$derived" = "$key" ] || fail "$1.key does not follow from what the header commits to"
  tail -c +13 "$1.ct" | head -c -16 |
    openssl enc -d -aes-256-ctr -K "$key" -iv "${nonce}00000002" > "$work/framed"
  length=$((0x$(tail -c +17 "$work/framed" | head -c 4 | xxd -p)))
  { tail -c +21 "$work/framed" | head -c "$length"; echo; } | same "$1.plain.json" ||
    fail "$1.plain.json is not what the ciphertext opens to"
  echo "ok: $1.plain.json is the content of that entry"
}

# fold: lines of hashes in, their root out, for a number of them that is a power of two.
fold() {
  cat > "$work/row"
  while [ "$(wc -l < "$work/row")" -gt 1 ]; do
    mkdir "$work/pairs"
    paste -d '\0' - - < "$work/row" | sed 's/^/01/' | xxd -r -p | split -b 65 -a 4 - "$work/pairs/"
    sha256sum "$work/pairs/"* | cut -c 1-64 > "$work/row.next"
    mv "$work/row.next" "$work/row"
    rm -r "$work/pairs"
  done
  cat "$work/row"
}

# place INDEX: a tile's file name, C2SP tlog-tiles.
place() {
  path=$(printf '%03d' $(($1 % 1000))) number=$(($1 / 1000))
  while [ "$number" -gt 0 ]; do
    path=$(printf 'x%03d/%s' $((number % 1000)) "$path") number=$((number / 1000))
  done
  echo "$path"
}
hashes() { xxd -p -c 32 "$1"; }

# ranged: headers.jsonl holds every entry from A to before B: it fits the tiles, and they fit the root.
ranged() {
  checkpoint checkpoint
  read -r begin end < range
  [ "$(wc -l < headers.jsonl)" -eq $((end - begin)) ] || fail "headers.jsonl is not as long as the range"
  [ "$begin" -lt "$end" ] && [ "$end" -le "$size" ] || fail "the range lies outside the tree"
  # Each tile of the leaves that the range touches holds the hashes of exactly these headers.
  tile=$((begin / 256))
  while [ $((tile * 256)) -lt "$end" ]; do
    first=$((tile * 256)) upto=$((tile * 256 + 256)) wide=256
    [ "$upto" -le "$size" ] || wide=$((size - first))
    file=tile/0/$(place $tile)
    [ "$wide" -eq 256 ] || file=$file.p/$wide
    hashes "$file" > "$work/tile"
    [ "$(wc -l < "$work/tile")" -eq "$wide" ] || fail "$file has another length"
    [ "$first" -ge "$begin" ] || first=$begin
    [ "$upto" -le "$end" ] || upto=$end
    mkdir "$work/leaves"
    sed -n "$((first - begin + 1)),$((upto - begin))p" headers.jsonl | sed 's/^/\x00/' |
      split -l 1 -a 3 - "$work/leaves/"
    truncate -s -1 "$work/leaves/"*
    sha256sum "$work/leaves/"* | cut -c 1-64 > "$work/found"
    rm -r "$work/leaves"
    sed -n "$((first - tile * 256 + 1)),$((upto - tile * 256))p" "$work/tile" | same "$work/found" ||
      fail "$file holds other entries than headers.jsonl"
    if [ "$wide" -eq 256 ]; then
      above $tile 0 "$(fold < "$work/tile")"
    fi
    tile=$((tile + 1))
  done
  # Every full tile above is what the one above it says; the ragged right edges make the root.
  level=0 width=$size edge=
  while [ "$width" -gt 0 ]; do
    if [ "$level" -gt 0 ]; then
      tile=0
      while [ $((tile * 256 + 256)) -le "$width" ]; do
        above $tile $level "$(hashes "tile/$level/$(place $tile)" | fold)"
        tile=$((tile + 1))
      done
    fi
    partial=$((width % 256)) bit=1 taken=0
    [ "$partial" -eq 0 ] || hashes "tile/$level/$(place $((width / 256))).p/$partial" > "$work/edge"
    while [ "$bit" -le "$partial" ]; do
      if [ $((partial & bit)) -ne 0 ]; then
        tree=$(sed -n "$((partial - taken - bit + 1)),$((partial - taken))p" "$work/edge" | fold)
        [ -z "$edge" ] && edge=$tree || edge=$(printf '01%s%s' "$tree" "$edge" | hash)
        taken=$((taken + bit))
      fi
      bit=$((bit * 2))
    done
    level=$((level + 1)) width=$((width / 256))
  done
  [ "$edge" = "$root" ] || fail "the tiles do not lead to the checkpoint's root"
  echo "ok: headers.jsonl is every entry from $begin to before $end of the log $origin at $size entries"
}

# above TILE LEVEL ROOT: what the tile one level up says of this one.
above() {
  up=$((size >> (8 * ($2 + 1)))) parent=tile/$(($2 + 1))/$(place $(($1 / 256)))
  [ $(($1 / 256 * 256 + 256)) -le "$up" ] || parent=$parent.p/$((up % 256))
  [ "$(hashes "$parent" | sed -n "$(($1 % 256 + 1))p")" = "$3" ] || fail "a tile is not what $parent says"
}

if [ $# -eq 3 ]; then
  key "$3"
  included "$1" "$2"
  exit 0
fi
[ $# -eq 1 ] || fail "usage: sh verify.sh LOG_VKEY, or: sh verify.sh RECORD.json RECORD.tlog-proof LOG_VKEY"
key "$1"
list=SHA256SUMS
[ ! -f CASE.SHA256SUMS ] || list=CASE.SHA256SUMS
# Every file here is in the list as it is, and nothing else is.
files=
for file in $(du -a . | cut -f 2- | cut -c 3- | sort); do
  case $file in SHA256SUMS | SHA256SUMS.note | SHA256SUMS.auditors) continue ;; esac
  [ ! -f "$file" ] || files="$files $file"
done
sha256sum $files | same SHA256SUMS || fail "SHA256SUMS does not fit: a file was changed, added or dropped"
key_id=$({ printf '%s/evidence\n' "$name"; cat "$work/key"; } | sha256sum | cut -c 1-8)
signed "$list.note" "$name/evidence" "$key_id"
printf '%s/evidence\nsha256 %s SHA256SUMS\n' "$name" "$(sha256sum < "$list" | cut -c 1-64)" |
  same "$work/text" || fail "the signature is over another list of digests"
echo "ok: the log signed $list"
if [ "$list" = CASE.SHA256SUMS ]; then
  # What was added since: keys and contents, which prove themselves below, and what auditors signed.
  sort "$list" > "$work/case"
  sort SHA256SUMS | comm -23 - "$work/case" | while read -r digest file; do
    case $file in
      record-*.key | record-*.plain.json | CASE.SHA256SUMS | CASE.SHA256SUMS.note) ;;
      record-*.redacted.json) [ -f SHA256SUMS.auditors ] || fail "nobody vouches for $file" ;;
      *) fail "$file is not the one that was in the case" ;;
    esac
  done
fi
for record in record-*.json epoch-*.json; do
  case $record in *.plain.json | *.redacted.json | *'*'*) continue ;; esac
  stem=${record%.json}
  included "$record" "$stem.tlog-proof"
  [ "$stem" = "epoch-${stem#epoch-}" ] || [ "$index" = "${stem#record-}" ] || fail "$stem is of another place"
  [ ! -f "$stem.ct" ] || content "$stem"
  [ -f "$stem.ct" ] || [ ! -f "$stem.key" ] || fail "$stem is disclosed without its ciphertext"
  [ -f "$stem.key" ] || [ ! -f "$stem.plain.json" ] || fail "$stem.plain.json is here without its key"
  [ ! -f "$stem.redacted.json" ] || echo "told: $stem.redacted.json, which is vouched for and not proved"
done
[ ! -f headers.jsonl ] || ranged
