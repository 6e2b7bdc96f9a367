"""Memory and time of streamed decode beside the host's full decode: `python3 cli bench decode`.

For each number of frames three processes decode the same random latent with the reference model's VAE: the host's
`vae.decode`, the frames streamed and dropped, and streamed into an H.264 file. The table has the most anonymous memory
beyond that before the decode, with the VAE loaded and used once. Ends with 1 if the frames are not the same bytes
everywhere, or if the whole peak of a streaming process differs by more than 5 % between the numbers of frames. x264
looks 40 frames ahead and more, which 17 frames do not fill. Linux only.
"""

import argparse
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference_model"))
    import environment

    environment.register_pack()

from wan_gguf.benchmarks.command import run

SUMMARY = "memory and time of streamed decode, at several numbers of frames"
FRAMES = (17, 81, 241)


def _frames(text: str) -> list[int]:
    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        found = [0]
    if any(count < 1 or count % 4 != 1 for count in found):
        raise argparse.ArgumentTypeError(f"got '{text}'; numbers 1 + a multiple of 4, joined by commas, are allowed")
    return found


def _size(text: str) -> int:
    if not text.isdecimal() or not 16 <= int(text) <= 4096 or int(text) % 16:
        raise argparse.ArgumentTypeError(f"got '{text}'; a multiple of 16 from 16 to 4096 is allowed")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The options; the parser needs the standard library only."""
    made = argparse.ArgumentParser(prog="python3 cli bench decode", description=f"Measures {SUMMARY}.")
    made.add_argument("--json", action="store_true", help="print one JSON object on stdout instead of a table")
    made.add_argument(
        "--frames", type=_frames, default=list(FRAMES), metavar="A,B", help=f"default: {','.join(map(str, FRAMES))}"
    )
    made.add_argument("--size", type=_size, default=256, metavar="PX", help="side of the frames (default: 256)")
    made.add_argument("--vae", type=Path, metavar="FILE", help="another Wan VAE (default: the reference model's)")
    return made


def measure(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    from wan_gguf.benchmarks import decode_suite

    results = decode_suite.run(options)
    print(json.dumps(results, indent=1) if options.json else decode_suite.table(results), flush=True)
    for fault in results["faults"]:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if results["faults"] else 0


def main(arguments: list[str]) -> int:
    """Check the options, then measure; returns the exit code."""
    options = parser().parse_args(arguments)
    return run(__file__, lambda: measure(options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
