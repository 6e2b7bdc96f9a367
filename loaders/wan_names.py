"""What Wan models are called: the published models by their shapes, and the two experts of A14B by the file's name.

Both experts of Wan2.2 A14B have the same tensors in the same shapes, so only the name of a file tells which it is.
As people write it: Wan2.2-T2V-A14B-HighNoise-Q4_K_M.gguf, wan2.2_i2v_low_noise_14B.gguf, smoothMix_i2vHigh.gguf.
"""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

_NAMES = {  # width, channels in, channels out, image branch
    (5120, 16, 16, False): "Wan2.2 T2V-A14B or Wan2.1 T2V-14B",
    (5120, 36, 16, False): "Wan2.2 I2V-A14B",
    (5120, 36, 16, True): "Wan2.1 I2V-14B",
    (3072, 48, 48, False): "Wan2.2 TI2V-5B",
    (1536, 16, 16, False): "Wan2.1 T2V-1.3B",
    (1536, 36, 16, True): "Wan2.1 I2V-1.3B",
}
_WIDTHS = {1536: "Wan2.1 1.3B", 3072: "Wan2.2 TI2V-5B", 5120: "Wan2.2 A14B and Wan2.1 14B"}
_SINGLE_WIDTHS = (1536, 3072)  # only the 14B models have two experts
_EXPERT_FILES = {16: "Wan2.2-T2V-A14B", 36: "Wan2.2-I2V-A14B"}  # by channels in

# A word of its own or the end of one in camel case, so that "slow", "flow" and "lowvram" are none.
_WORD = re.compile(
    r"(?:(?<![A-Za-z])(?P<plain>high|low|High|Low|HIGH|LOW)|(?<=[a-z])(?P<camel>High|Low))"
    r"(?P<noise>[ _-]?(?:noise|Noise|NOISE))?(?![a-z])"
)
_NOT_NOISE = re.compile(r"[ _-]*(?:v?ram|res|resolution|poly|quality|mem|memory|bit|fps|end|light|key|contrast)", re.I)
_OPPOSITE = {"high": "low", "low": "high", "High": "Low", "Low": "High", "HIGH": "LOW", "LOW": "HIGH"}
_WAN_21 = re.compile(r"wan[ _.-]?2[._]?1(?!\d)", re.I)
_WAN_22 = re.compile(r"2[._]?2(?!\d)")


def model_name(config: Mapping[str, Any]) -> str:
    """The published model of these settings (`wan_config`), else its width and channels in words."""
    key = config["dim"], config["in_dim"], config["out_dim"], config["model_type"] == "i2v"
    described = f"a Wan model of width {key[0]} with {key[1]} channels in and {key[2]} out"
    return _NAMES.get(key, described)


def width_name(width: int) -> str:
    """5120 -> "width 5120 (Wan2.2 A14B and Wan2.1 14B)"."""
    return f"width {width}" + (f" ({_WIDTHS[width]})" if width in _WIDTHS else "")


def is_published_width(width: int) -> bool:
    """False for models that are small on purpose."""
    return width in _WIDTHS


def is_single(config: Mapping[str, Any], file_name: str) -> bool:
    """Whether the model surely is one for all noise levels: by its shape, or because the file is called Wan2.1."""
    if config["dim"] in _SINGLE_WIDTHS or config["model_type"] == "i2v":
        return True
    stem = PurePath(file_name).stem
    return bool(_WAN_21.search(stem)) and not _WAN_22.search(stem)


def expert_of(file_name: str) -> str | None:
    """ "high" or "low" where the file's name, or else its folder's, says one of them; None for neither and for both."""
    for part in (PurePath(file_name).stem, *reversed(PurePath(file_name).parts[:-1])):
        said = {_word(match).lower() for match in _words(part)}
        if said:
            return said.pop() if len(said) == 1 else None
    return None


def twin_name(file_name: str, config: Mapping[str, Any], wanted: str) -> str:
    """The file of the `wanted` expert: the same name with the other word, or the published files' pattern."""
    path = PurePath(file_name)
    if expert_of(path.name) in ("high", "low") and expert_of(path.name) != wanted:
        name = path.name
        for match in reversed(_words(path.stem)):
            group = "plain" if match["plain"] else "camel"
            name = name[: match.start(group)] + _OPPOSITE[_word(match)] + name[match.end(group) :]
        return name
    if config["dim"] != 5120 or config["in_dim"] not in _EXPERT_FILES:
        return f"the {wanted}-noise file of the same model"
    return f"{_EXPERT_FILES[config['in_dim']]}-{wanted.capitalize()}Noise-*.gguf"


def _words(text: str) -> list[re.Match[str]]:
    return [match for match in _WORD.finditer(text) if match["noise"] or not _NOT_NOISE.match(text, match.end())]


def _word(match: re.Match[str]) -> str:
    return match["plain"] or match["camel"]
