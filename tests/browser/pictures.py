"""`make pictures`: the pictures of the guides, taken by the tests that show the same pages to be right.

Tests of this folder leave pictures by name (`Seat.picture`). Those that a guide names (pictures/NAME.png)
are drawn with at most 256 colours, and upright screens at half their size.
    python -m tests.browser.pictures [FILE …]      only what these test files show
"""

from __future__ import annotations

import base64
import os
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from playwright.sync_api import Page

from tests.browser import rooms

ROOT = Path(__file__).resolve().parent.parent.parent
GUIDES = ROOT / "deploy" / "guides"
KEPT = GUIDES / "pictures"
MAX_COLOURS = 256
# Pixels of a picture, as the browser decodes and scales it: nothing else here reads PNG.
_PIXELS = """async ([data, scale]) => {
  const image = await createImageBitmap(await (await fetch("data:image/png;base64," + data)).blob());
  const canvas = new OffscreenCanvas(Math.round(image.width * scale), Math.round(image.height * scale));
  const room = canvas.getContext("2d");
  room.imageSmoothingQuality = "high";
  room.drawImage(image, 0, 0, canvas.width, canvas.height);
  const bytes = room.getImageData(0, 0, canvas.width, canvas.height).data;
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) {
    text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  }
  return [canvas.width, canvas.height, btoa(text)];
}"""


def named() -> dict[str, set[str]]:
    """Each picture's name → the guides that show it."""
    found: dict[str, set[str]] = {}
    for guide in sorted(GUIDES.glob("*.md")):
        for name in re.findall(r"\]\(pictures/([\w-]+)\.png\)", guide.read_text()):
            found.setdefault(name, set()).add(guide.name)
    return found


def main(files: list[str]) -> int:
    """Run the tests, keep what guides name; how many of those were not taken."""
    wanted = named()
    with tempfile.TemporaryDirectory() as folder:
        tests = files or [str(Path(__file__).parent)]
        env = {**os.environ, "TEST_PICTURES": folder}
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", *tests], env=env, cwd=ROOT, check=False)
        if done.returncode:
            return done.returncode
        KEPT.mkdir(exist_ok=True)
        with rooms.browser() as running:
            page = running.new_page()
            for name in sorted(wanted):
                taken = Path(folder) / f"{name}.png"
                if taken.exists():
                    data = small(page, taken.read_bytes())
                    (KEPT / taken.name).write_bytes(data)
                    click.echo(f"  {name}.png  {len(data) >> 10} KiB")
    gone = [] if files else [path for path in sorted(KEPT.glob("*.png")) if path.stem not in wanted]
    for path in gone:
        path.unlink()
        click.echo(f"  {path.name} removed: no guide names it")
    missing = sorted(name for name in wanted if not (KEPT / f"{name}.png").exists())
    for name in missing:
        click.echo(
            f"  {name}.png is missing: no test takes it, but {', '.join(wanted[name])} names it", err=True
        )
    click.echo(f"{sum(path.stat().st_size for path in KEPT.glob('*.png')) >> 10} KiB in all")
    return len(missing)


def small(page: Page, png: bytes) -> bytes:
    """The same picture with a palette; half as large where it is an upright screen's."""
    width, height = struct.unpack(">II", png[16:24])
    scale = 0.5 if (width, height) == (rooms.LOBBY["width"], rooms.LOBBY["height"]) else 1
    width, height, data = page.evaluate(_PIXELS, [base64.b64encode(png).decode(), scale])
    pixels = np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)
    return _png(*_palette(pixels[:, :, :3]))


def _palette(pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The most frequent colours, and for each pixel the nearest of them."""
    flat = pixels.reshape(-1, 3).astype(np.int32)
    packed = (flat[:, 0] << 16) | (flat[:, 1] << 8) | flat[:, 2]
    found, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1)
    kept = colours[np.argsort(-counts, kind="stable")[:MAX_COLOURS]]
    nearest = np.empty(len(colours), np.uint8)
    for begin in range(0, len(colours), 1024):
        part = colours[begin : begin + 1024]
        nearest[begin : begin + 1024] = (
            ((part[:, None, :] - kept[None, :, :]) ** 2).sum(axis=2).argmin(axis=1)
        )
    return nearest[inverse].reshape(pixels.shape[:2]), kept.astype(np.uint8)


def _png(indices: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8]) -> bytes:
    """PNG (ISO/IEC 15948) of colour type 3, without filters: pages are flat areas."""
    height, width = indices.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), indices], axis=1)
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", head),
        (b"PLTE", palette.tobytes()),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
