"""`python3 cli verify RESULT.json`: checks the records, prepares environment and host, then runs verify_result.py."""

import importlib
import os
from pathlib import Path

from .environment import is_active
from .errors import UsageError
from .options import Parser
from .paths import CLI
from .preparation import prepare
from .process import hand_over
from .record_form import read_record

SUMMARY = "make a result again from its record and compare the frames, bit for bit"


def parser() -> Parser:
    """The command's options."""
    made = Parser(
        prog="python3 cli verify",
        description="Make a result again from its record, in a ComfyUI of its own, and compare the hashes of the "
        "frames; before that of the model files and the start images kept with the record, and of the video file "
        "beside it.",
        epilog="Exit code: 0 if everything is equal, 1 if something differs or could not be made, 2 if the record or "
        "the options are wrong. What is guaranteed to be equal, and where: docs/reproducibility.md.",
    )
    made.add_argument(
        "results", nargs="+", type=Path, metavar="RESULT.json", help="the record that was written beside a video"
    )
    made.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="a folder with the model files, or with diffusion_models, text_encoders, vae and loras in it; besides it "
        "the models of COMFYUI_DIR and the bundled ones are looked through",
    )
    made.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return made


def run(arguments: list[str]) -> int:
    """Called twice, as for the demo: by the user's Python, which only checks and prepares, and by the environment's."""
    options = parser().parse_args(arguments)
    options.results = [Path(os.path.abspath(path.expanduser())) for path in options.results]
    if options.models is not None:
        options.models = Path(os.path.abspath(options.models.expanduser()))
        if not options.models.is_dir():
            raise UsageError(f"--models is {options.models}, which is no folder; name the folder of the model files")
    records = {path: read_record(path) for path in options.results}
    ready = prepare(dev=False)
    if not is_active():
        hand_over([ready.python, CLI, "verify", *arguments])
    # not at the top: it imports packages that only the environment has
    verify_result = importlib.import_module(".verify_result", __package__)
    return verify_result.run(records, options.models, options.json, ready.host)
