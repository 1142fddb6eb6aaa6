#!/bin/sh
# Run a command where nothing but loopback exists, and prove that first: a check that can not fail
# is no check (the positive control wants the connection outside to be impossible).
set -eu
exec unshare --user --map-root-user --net --mount sh -eu -c '
    ip link set lo up
    if python3 - <<CONTROL
import socket, sys
try:
    socket.create_connection(("192.0.2.1", 9), timeout=2)
except OSError as error:
    sys.exit(0 if error.errno == 101 else 1)
sys.exit(1)
CONTROL
    then echo "network: unreachable, as it must be"
    else echo "test-offline: this namespace can reach a network" >&2; exit 1
    fi
    exec "$@"
' sh "$@"
