"""The demo itself, run in the environment: server, workflow, files, record."""

import argparse
import json
import time
from pathlib import Path

from .client import Result, ServerGoneError, generate
from .environment import venv_python
from .errors import CliError
from .output import contact_sheet, decode_frames, png_bytes, slug, write_results
from .record import FRAMES_NODE, VIDEO_NODE, local_conditions, make_record, model_hashes
from .server import HostServer
from .sheet_font import title_font
from .terminal import Progress
from .workflow import class_types, load_workflow, settings_of, titles, with_settings


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
    begin = time.monotonic()
    result = run_workflow(server, workflow, progress, (VIDEO_NODE, FRAMES_NODE))
    frames, videos = decode_frames(result.files[FRAMES_NODE]), result.files[VIDEO_NODE]
    if not frames or len(videos) != 1:
        raise CliError(f"ComfyUI made {len(frames)} frames and {len(videos)} videos; there is nothing to keep")
    settings = settings_of(workflow)
    record = make_record(workflow, result, frames, videos[0], model_hashes(workflow), local_conditions(server))
    record["timings"] = {"stages_s": result.stage_s, "run_s": round(time.monotonic() - begin, 3)}
    sheet = contact_sheet(frames, sheet_title(settings), settings["fps"])
    return {"video": videos[0], "sheet": png_bytes(sheet), "record": record}


def run_workflow(
    server: HostServer, workflow: dict, progress: Progress, fetch: tuple[str, ...], extra_pnginfo: dict | None = None
) -> Result:
    """Run it as client.generate does, showing its stages. Raises CliError with the server's log."""
    names = titles(workflow)

    def show(node: str, value: float, maximum: float) -> None:
        progress.stage(names.get(node, node))
        progress.step(value, maximum)

    try:
        return generate(server.port, workflow, show, fetch, extra_pnginfo)
    except ServerGoneError as failure:
        raise CliError(server.explain(str(failure))) from failure
    finally:
        progress.finish()


def sheet_title(settings: dict) -> str:
    """The contact sheet's heading; a prompt that no font of this machine can write is left out."""
    prompt = f"{settings['prompt']}   " if title_font(settings["prompt"]) else ""
    return prompt + "   ".join(f"{name} {settings[name]}" for name in ("seed", "steps", "cfg", "shift", "solver"))
