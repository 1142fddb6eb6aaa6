"""What a person reads before they trust anything: the README on the medium, and what is new. Pure."""

from __future__ import annotations

import re
from typing import Final

from appliance.errors import RequestError

_README: Final = """\
appliance {release} (serial {serial}), built {built} from commit
{commit}

What to type on a bare host, in this folder, once you have copied it from the
medium to the host's own disk. Nothing from here runs before step 4. You need
openssl 3, coreutils and the fingerprints on paper (or from your portal).

1. Is it their key?  For at least two of the files keys/*.ed25519.pem, compare
   with the paper:

   openssl pkey -pubin -in keys/KEYID.ed25519.pem -outform DER | sha256sum

2. Did they sign this list?  For each of those keys; expect "Signature Verified
   Successfully":

   openssl pkeyutl -verify -pubin -inkey keys/KEYID.ed25519.pem -rawin \\
     -in SHA256SUMS -sigfile SHA256SUMS.KEYID.ed25519.sig

   A host in FIPS mode checks the other signature; expect "Verified OK":

   openssl dgst -sha384 -verify keys/KEYID.p384.pem \\
     -signature SHA256SUMS.KEYID.p384.sig SHA256SUMS

3. Is every file the one that is listed?  Expect no output:

   sha256sum --check --strict --quiet SHA256SUMS

4. Install:

   sh install.sh

verify.sh is steps 1 to 3, and finds files that nobody listed; read it, it is
short. Where there is no openssl, ed25519_verify.py does step 2 with python3.
On a host that has the appliance already, its own program does all of this:

   appliance bundle install /media/usb

Exit codes, of verify.sh, install.sh and the program:

   0  done                          20  this host lacks something (preflight)
  10  done; restart by hand         21  made for another platform
  11  metadata not in the format    22  disk full, or the medium can not be read
  12  expired                       30  another installation is under way
  13  this host's clock is wrong    40  the migration failed; rolled back
  14  a file or a volume is missing 41  the new release was unhealthy; rolled back
  15  a signature is wrong          50  rolling back failed
  16  a file's digest is wrong     102  older than what was installed

Guides: app/deploy/guides/bundles.md, media.md, host.md. What is in here:
sbom.cdx.json; under which terms: licences/.
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
