"""What a person reads before they trust anything: the README on the medium, and what is new. Pure."""

from __future__ import annotations

import re
from typing import Final

from appliance.errors import RequestError

_README: Final = """\
appliance {release} (serial {serial}), built {built} from commit
{commit}

A host that has the appliance already upgrades with its own program:

   appliance bundle import /media/usb
   appliance bundle upgrade --staged /var/lib/appliance/staging/{serial}

A bare host needs Python 3.11 or newer, openssl 3, coreutils (all from the
operating system's own medium), and two fingerprints on paper. Nothing from
here runs before you said so:

1. Is it their key? For two of the fingerprints on paper; KEYID is the first 16
   digits of one, and all 64 digits are compared:

   openssl pkey -pubin -in keys/KEYID.ed25519.pem -outform DER | sha256sum

2. Did they sign this list? For both keys; expect "Signature Verified
   Successfully":

   openssl pkeyutl -verify -pubin -inkey keys/KEYID.ed25519.pem -rawin \\
     -in SHA256SUMS -sigfile SHA256SUMS.KEYID.ed25519.sig

   On a host in FIPS mode the other key and signature; expect "Verified OK":

   openssl dgst -sha384 -verify keys/KEYID.p384.pem \\
     -signature SHA256SUMS.KEYID.p384.sig SHA256SUMS

3. Is every file the one that is listed? Expect no output (of several volumes,
   add --ignore-missing):

   sha256sum --check --strict --quiet SHA256SUMS

4. Install. This copies everything to the host's own disk, checks the copy by
   verify.sh, and installs from the copy:

   sh install.sh FINGERPRINT FINGERPRINT

verify.sh is steps 1 to 3 in one, and finds files that nobody listed; it is
short enough to be read, and its digest belongs on the same paper:

   sh verify.sh FINGERPRINT FINGERPRINT

With --fips it checks the other signatures; with --python it does without
openssl. Of several volumes: sh install.sh --volume in each, in any order, and
the line of step 4 in the last.

Exit codes, of verify.sh, install.sh and the program:

   0  done                          18  its signers took it back
   2  wrong usage                   20  this host lacks something (preflight)
  10  done; restart by hand         21  made for another platform
  11  not in the format             22  disk full, or a medium can not be read
  12  expired                       30  another installation is under way
  13  this host's clock is wrong    40  the migration failed; rolled back
  14  a file or a volume is missing 41  the new release was ill; rolled back
  15  a signature is wrong          50  rolling back failed
  16  a file's digest is wrong     102  older than what was installed
  17  a delta's base was altered

Guides: app/deploy/guides/. What is in here: sbom.cdx.json; under which terms:
licences/; what is new: RELEASE-NOTES.md.
"""


def readme(*, release: str, serial: int, built: str, commit: str) -> str:
    """`README.txt`. Fingerprints are not in it: they must come another way than the medium."""
    return _README.format(release=release, serial=serial, built=built, commit=commit)


def release_notes(changelog: str, version: str) -> str:
    """The changelog's section of a version, under a title. RequestError where it has none."""
    match = re.search(rf"^## {re.escape(version)}\b.*?(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if match is None:
        raise RequestError(f"the changelog has no section for {version}", code="no_release_notes")
    return f"# Release notes\n\n{match[0].rstrip()}\n"
