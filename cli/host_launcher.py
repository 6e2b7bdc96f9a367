"""Runs the host's main.py and ends with the program that started it, however that program ends.

Called as: python host_launcher.py PORT SCRATCH HOST_DIR [arguments of main.py]. A thread keeps a connection to that
port of the starting program: when it closes, this process removes the folder SCRATCH, which that program can no longer
do, and exits; a request on it is answered with facts about this process.
The connection is a socket and not stdin, because on Windows a thread that waits for stdin blocks library start-up.
"""

import json
import os
import runpy
import shutil
import socket
import sys
import threading


def _facts() -> dict:
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    return {
        "threads": torch.get_num_threads(),
        "torch_version": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _watch(connection: socket.socket, scratch: str) -> None:
    while True:
        try:
            request = connection.recv(64)
            if request:
                connection.sendall(json.dumps(_facts()).encode() + b"\n")
        except OSError:
            request = b""
        if not request:
            shutil.rmtree(scratch, ignore_errors=True)
            os._exit(1)


def main() -> None:
    """Connect, watch, become the host."""
    port, scratch, host_dir, *arguments = sys.argv[1:]
    connection = socket.create_connection(("127.0.0.1", int(port)))
    threading.Thread(target=_watch, args=(connection, scratch), daemon=True).start()
    script = os.path.join(host_dir, "main.py")
    sys.argv = [script, *arguments]
    sys.path[0] = host_dir  # as if Python had been called with main.py
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
