"""Releases on a host: installed, upgraded, rolled back, repaired, uninstalled.

Root's part carries out steps (`machine`), each a line of the journal (`journal`), in an order that is decided
purely (`steps`). What was not committed is undone, by whoever comes next: the installer's next call, or the
service's own start (`settle`). Everything that opens the home runs as the service's user (`programs`).

`layout`, `release`, `repair` and `homecopy` need nothing but Python's own library: they run before a
release's environment exists, after the system's Python has changed, and as the service's user.
"""
