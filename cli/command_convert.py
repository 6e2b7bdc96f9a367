"""`python3 cli convert SOURCE TARGET --type TYPE`: prepares the environment, then runs conversion.py there."""

import importlib
from pathlib import Path

from .environment import is_active
from .options import Parser
from .paths import CLI
from .preparation import prepare
from .process import hand_over

SUMMARY = "make a GGUF (or safetensors) from Wan or UMT5 weights of any source"
EPILOG = """\
Say what to make with one of --type, --target-size and --bits. The last two choose a type for every matrix by the error
that it is measured to have there, so that the whole is least; --dry-run prints the table without writing the file.
Types, coarse to fine: Q2_K, Q3_K_S, Q3_K_M, Q3_K_L, IQ4_XS, IQ4_NL, Q4_0, Q4_K_S, Q4_K_M, Q4_1, Q5_0, Q5_K_S, Q5_K_M,
Q5_1, Q6_K, Q8_0, F16, BF16, F32. The source may be one safetensors file, the folder or the index of one in parts, with
official, ComfyUI's or diffusers' names, in 16, 32 or 8 bits; or a GGUF in F32, F16, BF16 or Q8_0 (any, to safetensors).
TARGET appears when it is complete; until then it grows as TARGET.part, which Ctrl-C removes."""


def parser() -> Parser:
    """The command's options."""
    made = Parser(
        prog="python3 cli convert",
        description="Convert a Wan transformer or a UMT5 encoder; needs little memory, whatever its size.",
        epilog=EPILOG,
    )
    made.add_argument("source", type=Path, help="a .safetensors or .gguf file, a folder, or an .index.json")
    made.add_argument("target", type=Path, help="the file to make, NAME.gguf or NAME.safetensors")
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--type", dest="file_type", metavar="TYPE", help="a published mixture, see below; e.g. Q4_K_M")
    what.add_argument(
        "--target-size", metavar="SIZE", help="at most so many bytes for the whole file: 3GB (10^9), 3GiB (2^30), 3.2e9"
    )
    what.add_argument(
        "--bits", type=float, metavar="N", help="at most so many bits per weight, over the quantised matrices; e.g. 4.5"
    )
    made.add_argument(
        "--importance",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="for --target-size and --bits: what a recorded run says of the model's layers (see docs/convert.md); "
        "several are averaged",
    )
    made.add_argument(
        "--calibrate",
        type=Path,
        metavar="PROMPTS",
        help="record such a run now, in a local ComfyUI: a .txt with a prompt on each line, a .csv or a .jsonl",
    )
    made.add_argument(
        "--text-encoder",
        type=Path,
        metavar="FILE",
        help="for --calibrate: the model's encoder (the bundled model: its own)",
    )
    made.add_argument(
        "--vae", type=Path, metavar="FILE", help="for --calibrate with TI2V-5B: its VAE, which says the latent's shape"
    )
    made.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:STRENGTH]",
        help="merge a LoRA before anything is quantised (strength: 1); may be given several times",
    )
    made.add_argument(
        "--plain", action="store_true", help="write the metadata of the published files only, nothing of the source"
    )
    made.add_argument("--license", metavar="NAME", help="record this licence (default: what the source says)")
    made.add_argument(
        "--tokenizer", type=Path, metavar="FILE", help="spiece.model for a UMT5 source without a tokenizer inside"
    )
    made.add_argument("--force", action="store_true", help="overwrite TARGET if it exists")
    made.add_argument("--dry-run", action="store_true", help="say what would be written and how large; write nothing")
    made.add_argument("--json", action="store_true", help="print one JSON object on stdout instead of text")
    return made


def run(arguments: list[str]) -> int:
    """Called twice, as for the demo: by the user's Python, which only prepares, and by the environment's."""
    options = parser().parse_args(arguments)
    ready = prepare(dev=False)
    if not is_active():
        hand_over([ready.python, CLI, "convert", *arguments])
    # not at the top: it imports numpy and gguf, which only the environment has
    return importlib.import_module(".conversion", __package__).run(options)
