"""The demo itself, run in the environment: server, workflow, files, record."""

import argparse
import importlib.metadata
import json
import platform
import re
import time
from pathlib import Path

from .client import Result, ServerGoneError, generate
from .environment import venv_python
from .errors import CliError
from .host import host_version
from .output import contact_sheet, decode_frames, file_sha256, frames_sha256, png_bytes, slug, write_results
from .requirements import pack_version
from .server import HostServer
from .terminal import Progress
from .workflow import class_types, load_workflow, model_files, settings_of, titles, with_settings

VIDEO_NODE, FRAMES_NODE = "save_video", "save_frames"


def run(options: argparse.Namespace, host_dir: Path) -> int:
    """Make the files, print their paths (or one JSON object) on stdout."""
    begin = time.monotonic()
    workflow = with_settings(load_workflow(), options.settings)
    progress = Progress()
    progress.stage("Starting ComfyUI")
    with HostServer(venv_python(), host_dir, class_types(workflow)) as server:
        started = time.monotonic()
        made = make_video(server, workflow, progress)
    progress.stage("Writing the files")
    timings = {"server_start_s": round(started - begin, 3), "total_s": round(time.monotonic() - begin, 3)}
    made["record"]["timings"].update(timings)
    settings = made["record"]["settings"]
    stem = f"{slug(settings['prompt'])}_seed{settings['seed']}"
    paths = write_results(options.out, stem, made["video"], made["sheet"], made["record"])
    progress.finish()
    if options.json:
        print(json.dumps(summary(paths, made["record"])))
    else:
        for path in paths.values():
            print(path)
    return 0


def summary(paths: dict[str, Path], record: dict) -> dict:
    """What --json prints."""
    shown = ("frames_sha256", "language", "settings")
    return {**{kind: str(path) for kind, path in paths.items()}, **{name: record[name] for name in shown}}


def make_video(server: HostServer, workflow: dict, progress: Progress) -> dict:
    """Run the workflow on a running server; returns {"video": mp4 bytes, "sheet": PNG bytes, "record": dict}."""
    names = titles(workflow)

    def show(node: str, value: float, maximum: float) -> None:
        progress.stage(names.get(node, node))
        progress.step(value, maximum)

    begin = time.monotonic()
    try:
        result = generate(server.port, workflow, show, (VIDEO_NODE, FRAMES_NODE))
    except ServerGoneError as failure:
        raise CliError(server.explain(str(failure))) from failure
    finally:
        progress.finish()
    frames, videos = decode_frames(result.files[FRAMES_NODE]), result.files[VIDEO_NODE]
    if not frames or len(videos) != 1:
        raise CliError(f"ComfyUI made {len(frames)} frames and {len(videos)} videos; there is nothing to keep")
    settings = settings_of(workflow)
    record = make_record(server, workflow, result, frames_sha256(frames))
    record["timings"] = {"stages_s": result.stage_s, "run_s": round(time.monotonic() - begin, 3)}
    sheet = contact_sheet(frames, sheet_title(settings), settings["fps"])
    return {"video": videos[0], "sheet": png_bytes(sheet), "record": record}


def sheet_title(settings: dict) -> str:
    """The contact sheet's heading; the font has Latin letters only, so a prompt in other scripts is left out."""
    prompt = f"{settings['prompt']}   " if settings["prompt"].isascii() else ""
    return prompt + "   ".join(f"{name} {settings[name]}" for name in ("seed", "steps", "cfg", "shift", "solver"))


def read_prompt_report(output: dict) -> tuple[str, str]:
    """The prompt node's display -> (language code, negative prompt that was used).

    Its text is the language with its code in brackets, then a line `- <negative>`. Raises CliError if it is not there.
    """
    shown = "".join(output.get("text", []))
    match = re.match(r"[^\n]*\((\w+)\)\n- (.*)", shown, re.DOTALL)
    if match is None:
        raise CliError(f"the prompt node did not report language and negative prompt, but '{shown}'")
    return match.group(1), match.group(2)


def make_record(server: HostServer, workflow: dict, result: Result, frames_hash: str) -> dict:
    """Everything needed to make the same frames again, and to see what differs if they are not the same."""
    language, negative = read_prompt_report(result.outputs.get("prompt", {}))
    system = server.get_json("/system_stats")
    facts = server.facts()
    return {
        "settings": {**settings_of(workflow), "negative": negative},
        "language": language,
        "models": {path.name: file_sha256(path) for path in model_files(workflow)},
        "frames_sha256": frames_hash,
        "versions": {
            "wan_gguf": pack_version(),
            "comfyui": host_version(server.host_dir),
            "torch": facts.get("torch_version") or importlib.metadata.version("torch"),
            "python": platform.python_version(),
        },
        "device": system["devices"][0]["name"],
        "threads": facts.get("threads"),
        "platform": platform.platform(),
        "workflow": workflow,
    }
