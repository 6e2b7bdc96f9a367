"""The demo's files: their name, the contact sheet, and writing all of them or none."""

import hashlib
import io
import json
import os
import re
import unicodedata
from contextlib import suppress
from pathlib import Path

from PIL import Image, ImageDraw, ImageSequence

from .lock import locked
from .paths import STATE
from .sheet_font import title_font

MAX_SLUG = 40  # characters; at most 160 bytes in UTF-8, so that names stay below every file system's 255
SHEET_FRAMES, SHEET_COLUMNS, TILE_PX = 24, 6, 192
_BACKGROUND, _INK = (24, 24, 24), (230, 230, 230)


def slug(prompt: str) -> str:
    """The prompt as part of a file name: letters and digits of any script, joined by `-`."""
    text = unicodedata.normalize("NFC", prompt).lower()
    words = re.findall(r"[^\W_]+", text)
    return "-".join(words)[:MAX_SLUG].strip("-") or "video"


def decode_frames(files: list[bytes]) -> list[Image.Image]:
    """PNG files, or others that Pillow reads -> RGB images, of an animated one all."""
    return [frame.convert("RGB") for file in files for frame in ImageSequence.Iterator(Image.open(io.BytesIO(file)))]


def frames_sha256(frames: list[Image.Image]) -> str:
    """SHA-256 of the raw RGB bytes of all frames in order, rows from the top."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(frame.tobytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def contact_sheet(frames: list[Image.Image], title: str, fps: float) -> Image.Image:
    """Frames left to right and down, each with its number and time; at most 24, evenly chosen.

    `title` is written as far as the fonts of this machine go, see `sheet_font`.
    """
    count = min(len(frames), SHEET_FRAMES)
    chosen = [round(index * (len(frames) - 1) / max(count - 1, 1)) for index in range(count)]
    tiles = [_tile(frames[number]) for number in chosen]
    width, height, margin, line = *tiles[0].size, 8, 16
    columns = min(SHEET_COLUMNS, count)
    rows = -(-count // columns)
    size = (columns * (width + margin) + margin, line + margin + rows * (height + line + margin) + margin)
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((margin, margin // 2), title, fill=_INK, font=title_font(title))
    for index, (number, tile) in enumerate(zip(chosen, tiles, strict=True)):
        x = margin + index % columns * (width + margin)
        y = line + margin + index // columns * (height + line + margin)
        draw.text((x, y), f"frame {number}   {number / fps:.2f} s", fill=_INK)
        sheet.paste(tile, (x, y + line))
    return sheet


def _tile(frame: Image.Image) -> Image.Image:
    longer = max(frame.size)
    if longer <= TILE_PX:
        factor = max(1, TILE_PX // longer)
        return frame.resize((frame.width * factor, frame.height * factor), Image.Resampling.NEAREST)
    return frame.resize([max(1, round(side * TILE_PX / longer)) for side in frame.size], Image.Resampling.LANCZOS)


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_results(folder: Path, stem: str, video: bytes, sheet: bytes, record: dict) -> dict[str, Path]:
    """Write <stem>.mp4, .png and .json, or with -2, -3 ... after the stem if one exists; each appears complete.

    If one cannot be written, none stays. `record` gets the files' names under "files". Returns kind -> path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(STATE / "output.lock"):
        paths = _free_names(folder, stem)
        names = {kind: path.name for kind, path in paths.items()}
        record = {**record, "files": names, "contact_sheet_sha256": hashlib.sha256(sheet).hexdigest()}
        text = json.dumps(record, ensure_ascii=False, indent=2) + "\n"
        contents = {"video": video, "contact_sheet": sheet, "record": text.encode()}
        partial = {kind: path.with_name(f".{path.name}.part") for kind, path in paths.items()}
        placed: list[Path] = []
        try:
            for kind, content in contents.items():
                partial[kind].write_bytes(content)
            for kind, path in paths.items():
                os.replace(partial[kind], path)
                placed.append(path)
        except BaseException:
            for path in [*partial.values(), *placed]:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            raise
    return paths


def _free_names(folder: Path, stem: str) -> dict[str, Path]:
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}-{number}"
        paths = {
            kind: folder / f"{name}.{end}"
            for kind, end in (("video", "mp4"), ("contact_sheet", "png"), ("record", "json"))
        }
        if not any(path.exists() for path in paths.values()):
            return paths
        number += 1
