#!/bin/sh
# Is this folder what its signers signed? Run in a bundle's folder, or in the copy of it that you will install:
#     sh verify.sh [--fips | --python] [--volume] FINGERPRINT FINGERPRINT ...
# Fingerprints come from paper, never from the folder; two that signed are needed. --fips: ECDSA P-384 instead of
# Ed25519. --python: python3 and ed25519_verify.py instead of openssl >= 3. --volume: other media hold the rest.
# Ends with 0 (good), 2 (usage), 11 (form: a link, a name, the list), 14 (missing), 15 (signatures), 16 (other bytes,
# or a file nobody signed). Expiry, age and platform are for the program: `appliance bundle verify`.
PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C; export PATH LC_ALL
unset -f openssl python3 find grep sort uniq cut tr wc sha256sum printf 2>/dev/null
unset OPENSSL_CONF OPENSSL_CONF_INCLUDE OPENSSL_MODULES OPENSSL_ENGINES LD_PRELOAD LD_LIBRARY_PATH
stop() { code=$1; shift; printf 'REFUSED (%s): %s\n' "$code" "$*" >&2; exit "$code"; }
kind=ed25519 with=openssl volume=
while :; do
  case ${1-} in --fips) kind=p384 ;; --python) with=python ;; --volume) volume=yes ;; *) break ;; esac; shift
done
[ $# -ge 2 ] || stop 2 'usage: sh verify.sh [--fips | --python] [--volume] FINGERPRINT FINGERPRINT ...'
unlisted='SHA256SUMS(\.[0-9a-f]{16}\.(ed25519|p384)\.sig)?|metadata/([0-9]+\.(targets|snapshot)|timestamp)\.json'
[ -z "$volume" ] || unlisted="$unlisted|VOLUME-[0-9]+\\.SHA256SUMS|volume\\.json"
part='[A-Za-z0-9_][A-Za-z0-9._+@-]*'

# 1. Files and folders with plain names, and nothing else: no link, no device.
odd=$(find . ! -type f ! -type d; find . ! -name . \( -name '[!A-Za-z0-9_]*' -o -name '*[!A-Za-z0-9._+@-]*' \))
[ -z "$odd" ] || stop 11 "no bundle holds a link, a device or such a name: $odd"
[ -f SHA256SUMS ] || stop 14 'there is no SHA256SUMS here'
[ -s SHA256SUMS ] || stop 11 'the list is empty'

# Instead of openssl only the program that was released with this one is run; its digest stands here.
python=b2bc3e4452350f8d4ee851a704d36bea1a5eef1d8cc0cf066d8d2bcdfe5a38a6
[ $with = openssl ] || printf '%s  ed25519_verify.py\n' $python | sha256sum --check --status ||
  stop 16 'ed25519_verify.py is another one than verify.sh knows'

# 2. At least two of the keys on paper signed the list. A fingerprint is the SHA-256 of a public key in DER.
signers=
for paper in "$@"; do
  print=$(printf %s "$paper" | tr -d ' :' | tr A-F a-f); id=$(printf %.16s "$print")
  [ ${#print} -eq 64 ] || stop 2 "a fingerprint has 64 hexadecimal digits: $paper"
  case $print in *[!0-9a-f]*) stop 2 "a fingerprint has 64 hexadecimal digits: $paper" ;; esac
  key=keys/$id.$kind.pem sig=SHA256SUMS.$id.$kind.sig
  case $signers in *"$print"*) continue ;; esac
  [ -f "$sig" ] && [ -f "$key" ] || { printf 'no signature of %s here\n' "$id" >&2; continue; }
  case $with$kind in
    opensslp384) openssl dgst -sha384 -verify "$key" -signature "$sig" SHA256SUMS ;;
    openssl*) openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in SHA256SUMS -sigfile "$sig" ;;
    *) python3 -I ed25519_verify.py "$key" "$sig" SHA256SUMS "$print" ;;
  esac >/dev/null 2>&1 || stop 15 "$sig is no signature by $key"
  [ $with = python ] || [ "$(openssl pkey -pubin -in "$key" -outform DER | sha256sum | cut -c 1-64)" = "$print" ] ||
    stop 15 "$key is not the key on paper"
  signers="$signers $print"
done
[ "$(printf %s "$signers" | wc -w)" -ge 2 ] || stop 15 "fewer than two of the keys on paper signed this"

# 3. The list: lower-case digests, plain relative paths, each once.
! grep -Evxq "[0-9a-f]{64}  $part(/$part)*" SHA256SUMS || stop 11 'the list is malformed'
[ -z "$(cut -c 67- SHA256SUMS | sort | uniq -d)" ] || stop 11 'the list names a file twice'

# 4. The files of the folder are the files of the list.
missing=
for file in $({ cut -c 67- SHA256SUMS; find . -type f | cut -c 3- | grep -Evx "$unlisted"; } | sort | uniq -u); do
  [ ! -f "$file" ] || stop 16 "nobody signed $file"
  printf 'missing: %s\n' "$file"; missing=yes
done
[ -z "$missing" ] || [ -n "$volume" ] || stop 14 'files are missing (with --volume: other media hold them)'

# 5. Their bytes are what was signed.
sha256sum --check --strict --quiet ${volume:+--ignore-missing} SHA256SUMS || stop 16 'bytes are not what was signed'
printf 'good: every file here is in the list that these keys signed:%s\n' "$signers"
