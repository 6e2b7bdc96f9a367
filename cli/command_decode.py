"""`python3 cli decode LATENT`: checks the options, prepares environment and host, then runs decode.py there."""

import argparse
import importlib
from pathlib import Path

from .environment import is_active
from .options import Parser
from .paths import CLI
from .preparation import prepare
from .process import hand_over
from .video_choices import CODECS, PIXEL_FORMATS, TILINGS

SUMMARY = "finish an interrupted job: make the video of a saved latent"
EPILOG = """What is not given here is as the latent's own job was set: codec, quality, frame rate, VAE; another codec
starts from its usual quality. Writes NAME.mp4 (or .webm, .mkv) and NAME.json, where NAME is the latent's; a name that
is taken gets -2, -3, ... so nothing is overwritten. The latent stays where it is."""


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    made = Parser(prog="python3 cli decode", description="Make the video of a saved latent.", epilog=EPILOG)
    made.add_argument("latent", type=Path, help="a .latent file, as 'Wan GGUF Save Video' keeps it")
    made.add_argument("--vae", type=Path, metavar="FILE", help="the VAE, .safetensors (default: the one of the job)")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder for the files (default: the latent's own)")
    made.add_argument("--codec", choices=CODECS, help="how the video is compressed")
    made.add_argument("--crf", type=int, metavar="N", help="quality, 0 (best) to 51, with vp9 to 63; -1: the usual")
    made.add_argument("--pixel-format", choices=PIXEL_FORMATS, help="how colours are stored")
    made.add_argument("--fps", type=float, metavar="X", help="frames per second; 0: the model's own")
    made.add_argument("--tiling", choices=TILINGS, help="auto, off, or the side of the tiles in pixels")
    made.add_argument("--json", action="store_true", help="print one JSON object with paths and hashes on stdout")
    return made


def run(arguments: list[str]) -> int:
    """Called twice, as for the demo: by the user's Python, which only prepares, and by the environment's."""
    options = parser().parse_args(arguments)
    ready = prepare(dev=False)
    if not is_active():
        hand_over([ready.python, CLI, "decode", *arguments])
    # not at the top: decode.py imports packages that only the environment has
    return importlib.import_module(".decode", __package__).run(options, ready.host)
