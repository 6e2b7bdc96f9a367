"""The host as a headless server on a free loopback port, with this pack as its only custom node; always stopped again.

The server keeps everything it writes in a temporary folder of its own, except where the caller names an output folder.
The pack is reached through its parent folder and a whitelist that holds its name only, so no link is needed and
whatever else lies beside it is not imported.
"""

import atexit
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .device import has_accelerator
from .errors import CliError
from .paths import CLI, ROOT
from .process import clean_environment
from .server_log import failure_lines, port_was_taken

START_LIMIT_S = 600
STOP_LIMIT_S = 10
ANSWER_LIMIT_S = 60
_PROBE_LIMIT_S = 20  # while it starts: it is asked again
_FOLDERS = ("custom_nodes", "input", "models", "output", "temp", "user")
_OWN_GROUP: dict[str, Any] = {"start_new_session": True}  # so that Ctrl-C reaches this program only
if sys.platform == "win32":
    _OWN_GROUP = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}


class HostServer:
    """A running host; a context manager. `port` is set once it answers.

    `model_folders`: the host's folder key ("diffusion_models", "text_encoders", "vae", "loras" ...) -> folders it
    searches besides its own. `output` and `input_folder` replace the temporary ones and are never deleted. `options`:
    more of the host's command line.
    """

    def __init__(
        self,
        python: Path,
        host_dir: Path,
        required_nodes: Iterable[str] = (),
        pack: Path = ROOT,
        *,
        model_folders: Mapping[str, Sequence[Path]] | None = None,
        output: Path | None = None,
        input_folder: Path | None = None,
        options: Sequence[str] = (),
    ):
        self.python, self.host_dir, self.pack = python, host_dir, pack
        self.required_nodes = set(required_nodes)
        self.model_folders = {key: [Path(path) for path in paths] for key, paths in (model_folders or {}).items()}
        self.output, self.input_folder, self.options = output, input_folder, options
        self.port = 0
        self.base = Path()
        self._process: subprocess.Popen | None = None
        self._control: socket.socket | None = None

    def __enter__(self) -> "HostServer":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """Start the host and wait until it answers with the required nodes. Raises CliError with the log's reason.

        As soon as `stopping()`, it is not wanted any more and is stopped.
        """
        if self.pack.name.endswith(".disabled"):
            raise CliError(f"ComfyUI never loads a folder whose name ends in .disabled; rename {self.pack}")
        self.base = Path(tempfile.mkdtemp(prefix="wan-gguf-"))
        atexit.register(self.stop)
        for name in _FOLDERS:
            (self.base / name).mkdir()
        for last_try in (False, False, True):
            self.port = _free_port()
            self._spawn()
            if self._wait_until_up(stopping) or stopping() or not port_was_taken(self.log()):
                break
            if not last_try:
                self._end_process()
        if stopping():
            self.stop()
            return
        if not self.is_running():
            raise CliError(self.explain("ComfyUI ended while it was starting"))
        self._check_nodes()

    def stop(self) -> None:
        """End the server and its children and remove its folder; may be called again."""
        atexit.unregister(self.stop)
        self._end_process()
        if self.base != Path():
            shutil.rmtree(self.base, ignore_errors=True)
            self.base = Path()

    def is_running(self) -> bool:
        """Whether the server process is alive."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """All the server has written so far."""
        try:
            return (self.base / "server.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def explain(self, what: str) -> str:
        """`what`, followed by the lines of the log that give the reason."""
        lines = failure_lines(self.log())
        return "\n    ".join([f"{what}; its log says:", *lines]) if lines else f"{what}; its log is empty"

    def get_json(self, path: str, limit_s: float = ANSWER_LIMIT_S) -> dict:
        """GET from the server, never through a proxy. Raises OSError or http.client.HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=limit_s)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def facts(self) -> dict:
        """What the server's process knows: {"threads", "torch_version"}. Raises OSError if it does not answer."""
        if self._control is None:
            raise CliError("the server is not running")
        self._control.settimeout(ANSWER_LIMIT_S)
        self._control.sendall(b"?")
        with self._control.makefile("rb") as answer:
            return json.loads(answer.readline() or b"{}")

    def _spawn(self) -> None:
        """Start the process; it ends when the socket kept in `_control` closes, so also if this program is killed."""
        with socket.create_server(("127.0.0.1", 0)) as listener, open(self.base / "server.log", "wb") as log:
            launcher = [self.python, CLI / "host_launcher.py", listener.getsockname()[1], self.base, self.host_dir]
            self._process = subprocess.Popen(
                [str(part) for part in [*launcher, *self._arguments()]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.base,
                env=clean_environment(PYTHONUNBUFFERED="1"),
                **_OWN_GROUP,
            )
            listener.settimeout(0.2)
            while self._control is None and self.is_running():
                try:
                    self._control = listener.accept()[0]
                except TimeoutError:
                    continue

    def _arguments(self) -> list[str]:
        models = self.base / "extra_model_paths.yaml"
        # JSON is YAML too; not escaped to ASCII, because YAML has no surrogate pairs
        models.write_text(json.dumps(self._extra_paths(), ensure_ascii=False), encoding="utf-8")
        arguments = ["--listen", "127.0.0.1", "--port", str(self.port)]
        arguments += ["--base-directory", str(self.base), "--extra-model-paths-config", str(models)]
        for kind, folder in self._folders().items():
            arguments += [f"--{kind}-directory", str(folder)]
        arguments += ["--database-url", "sqlite:///:memory:", "--disable-auto-launch", "--disable-api-nodes"]
        # one word with '=': the folder's name may begin with a dash
        arguments += ["--disable-all-custom-nodes", f"--whitelist-custom-nodes={self.pack.name}"]
        arguments += self.options
        return arguments + (["--deterministic"] if has_accelerator(self.python) else ["--cpu"])

    def _extra_paths(self) -> dict[str, dict[str, str]]:
        """What extra_model_paths.yaml says; the host splits a value at its line ends."""
        folders = {key: "\n".join(map(os.path.abspath, paths)) for key, paths in self.model_folders.items() if paths}
        return {"wan_gguf": {**folders, "custom_nodes": str(self.pack.parent)}}

    def _folders(self) -> dict[str, Path]:
        folders = {kind: self.base / kind for kind in ("output", "input", "user", "temp")}
        for kind, own in (("output", self.output), ("input", self.input_folder)):
            if own is not None:
                own.mkdir(parents=True, exist_ok=True)
                folders[kind] = Path(os.path.abspath(own))
        return folders

    def _wait_until_up(self, stopping: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + START_LIMIT_S
        while self.is_running() and not stopping():
            if time.monotonic() > deadline:
                raise CliError(self.explain(f"ComfyUI did not answer within {START_LIMIT_S} s"))
            try:
                # another program may have taken the port meanwhile: only our own server has our folder in its arguments
                system = self.get_json("/system_stats", _PROBE_LIMIT_S)["system"]
                if str(self.base) in system.get("argv", [str(self.base)]):
                    return True
            except (OSError, http.client.HTTPException, ValueError, LookupError):
                pass
            time.sleep(0.2)
        return False

    def _check_nodes(self) -> None:
        missing = sorted(self.required_nodes - set(self.get_json("/object_info")))
        if "(IMPORT FAILED)" in self.log() or missing:  # without brackets it means a node of the host's own
            names = f" (missing: {', '.join(missing)})" if missing else ""
            raise CliError(self.explain(f"ComfyUI could not load this pack's nodes{names}"))

    def _end_process(self) -> None:
        process, self._process = self._process, None
        control, self._control = self._control, None
        if process is not None:
            _signal_group(process, signal.SIGTERM)
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                pass
            finally:
                if process.poll() is None or sys.platform != "win32":
                    _signal_group(process, getattr(signal, "SIGKILL", signal.SIGTERM))
                process.wait()
        if control is not None:
            control.close()


def _signal_group(process: subprocess.Popen, number: int) -> None:
    if sys.platform == "win32":
        process.terminate()
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)  # the launcher leads its own session, so its children are meant too


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
