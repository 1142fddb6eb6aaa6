"""What Python and the C library would open at its first use, used before nothing can be opened any more.

Found with strace, over whole lives of workers that were not sealed yet. A part that is forgotten here ends a
worker at some later moment, and the record calls that misbehaviour (tests/integration/test_real_sandbox.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import os
import sys
import threading
import time
import warnings

from appliance.engine import resident

_MODULES = (
    *(
        "jinja2.debug",
        "linecache",
        "traceback",
        "numpy.random",
        "numpy.ctypeslib",
        "stringprep",
        "unicodedata",
    ),
    *("encodings.ascii", "encodings.latin_1", "encodings.utf_8", "encodings.utf_16", "encodings.idna"),
    *("_strptime", "calendar", "json.decoder", "json.encoder", "queue", "select"),
)
_ARENAS, _BLOCKS, _BLOCK_BYTES = 4, 64, 64 * 1024


def everything(*, has_threads: bool = True) -> None:
    """Of whatever may be asked for later."""
    for name in _MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with contextlib.suppress(OSError):  # a C library without one does not look for it
        ctypes.CDLL("libgcc_s.so.1")  # a thread that ends looks for it
    hashlib.sha256(b"").hexdigest()  # OpenSSL reads its configuration
    _read_time_zone()
    if has_threads:
        _warm_allocator()
    resident.own()
    # An error's traceback would be read from the sources, and may quote what it was about.
    sys.excepthook = _say
    threading.excepthook = lambda met: _say(met.exc_type)
    sys.unraisablehook = lambda met: _say(met.exc_type)
    warnings.simplefilter("ignore")
    sys.meta_path[:] = [_Nothing]


def _read_time_zone() -> None:
    """With a name the C library does not look at the file again at each use."""
    os.environ.setdefault("TZ", ":/etc/localtime")  # noqa: TID251 - for the C library, not for us
    time.tzset()
    time.strftime("%d %b %Y")


def _warm_allocator() -> None:
    """The C library asks the kernel about overcommitting when a thread's arena shrinks for the first time."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    together = threading.Barrier(_ARENAS)

    def use() -> None:
        together.wait()
        taken = [libc.malloc(_BLOCK_BYTES) for _ in range(_BLOCKS)]
        for each in reversed(taken):
            libc.free(each)

    threads = [threading.Thread(target=use) for _ in range(_ARENAS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def _say(kind: type[BaseException], *_: object) -> None:
    sys.stderr.write(f"uncaught: {kind.__name__}\n")


class _Nothing:
    """What is imported from now on is not there: an error, and no end."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        sys.stderr.write(f"not loaded before the seal: {name}\n")
