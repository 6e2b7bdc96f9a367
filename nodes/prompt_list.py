"""Wan GGUF Prompt List: rows of prompts and settings, as lists that flow through the graph."""

from collections.abc import Sequence
from dataclasses import dataclass

from comfy_api.latest import io, ui

from ..host.input_files import input_file, list_input_files
from ..sampling.guidance import validate_cfg
from ..sampling.noise import MAX_SEED, validate_seed
from ..text.prompt_checks import check_prompts
from ..text.prompt_list import (
    KINDS,
    SEED_POLICIES,
    Row,
    load_prompt_list,
    parse_prompt_list,
    with_seeds,
)
from .category import CATEGORY
from .empty_latent import MAX_FRAMES, MAX_SIZE_PX, MIN_SIZE_PX, check_size
from .sampler import MAX_STEPS

NO_FILE = "none"
ENDINGS = tuple(ending for endings in KINDS.values() for ending in endings)
_SHOWN_ROWS = 20


@dataclass(frozen=True)
class Defaults:
    """What a row gets where it says nothing; checked. Raises ValueError."""

    negative: str
    cfg: float
    steps: int
    width: int
    height: int
    frames: int
    name_prefix: str

    def __post_init__(self):
        validate_cfg(self.cfg)
        check_size(self.width, self.height, self.frames)


class WanGGUFPromptList(io.ComfyNode):
    """Schema and calls only; reading lists is in `text.prompt_list`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanGGUFPromptList",
            display_name="Wan GGUF Prompt List",
            category=CATEGORY,
            description="Turns a list of prompts into a batch of videos, one a row, typed here or from a file. All "
            "rows go through the following nodes together, so a batch loads each model once.",
            search_aliases=["batch", "prompt list", "csv", "jsonl", "queue", "批量", "提示词列表"],
            inputs=[*_list_inputs(), *_seed_inputs(), *_default_inputs()],
            outputs=_outputs(),
        )

    @classmethod
    def validate_inputs(
        cls,
        text: str | None = None,
        kind: str | None = None,
        list_name: str | None = None,
        seed_policy: str | None = None,
        seed: int | None = None,
        width: int | None = None,
        height: int | None = None,
        frames: int | None = None,
    ) -> bool | str:
        rows: tuple[Row, ...] = ()
        if text is not None and kind is not None and list_name is not None:  # else linked: known at execution only
            try:
                rows = read_rows(text, kind, list_name)
            except (ValueError, OSError) as error:  # the host repeats it for each input that is named here
                return f"{'list_name' if list_name != NO_FILE and not text.strip() else 'text'}: {error}"
        try:
            check_size(width, height, frames)
            check_seeds(rows, seed_policy, seed)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, list_name: str = NO_FILE, **_: object) -> tuple[int, int] | None:
        if list_name == NO_FILE:
            return None
        status = input_file(list_name).stat()
        return status.st_size, status.st_mtime_ns

    @classmethod
    def execute(
        cls, text: str, kind: str, list_name: str, seed_policy: str, seed: int, **defaults: float | str
    ) -> io.NodeOutput:
        rows = with_seeds(read_rows(text, kind, list_name), seed_policy, seed)
        columns = as_columns(rows, Defaults(**defaults))
        return io.NodeOutput(*columns, ui=ui.PreviewText(describe_rows(rows, columns[-1])))


def read_rows(text: str, kind: str, list_name: str) -> tuple[Row, ...]:
    """The rows of the file, or of the text where none is chosen, with their weights checked as the encoder will.

    Raises ValueError, OSError.
    """
    if list_name == NO_FILE:
        rows = parse_prompt_list(text, kind)
    elif text.strip():
        raise ValueError(
            f"the text must be empty while list_name is '{list_name}'; clear the text, or choose {NO_FILE}"
        )
    else:
        rows = load_prompt_list(input_file(list_name))
    check_prompts(rows)
    return rows


def check_seeds(rows: Sequence[Row], seed_policy: str | None, seed: int | None) -> None:
    """Raise ValueError unless every row gets a seed that can be; None is a linked value, known at execution only."""
    seed = validate_seed(0 if seed is None else seed)
    with_seeds(rows, SEED_POLICIES[0] if seed_policy is None else seed_policy, seed)


def as_columns(rows: Sequence[Row], defaults: Defaults) -> list[list]:
    """The node's outputs, one value a row in each; the size of a row counts as a whole."""
    filled = [
        (
            row.prompt,
            defaults.negative if row.negative is None else row.negative,
            row.seed,
            defaults.cfg if row.cfg is None else row.cfg,
            defaults.steps if row.steps is None else row.steps,
            defaults.width if row.width is None else row.width,
            defaults.height if row.height is None else row.height,
            defaults.frames if row.frames is None else row.frames,
            defaults.name_prefix + (f"{number:04}" if row.name is None else row.name),
        )
        for number, row in enumerate(rows, start=1)
    ]
    return [list(column) for column in zip(*filled, strict=True)]


def describe_rows(rows: Sequence[Row], names: Sequence[str]) -> str:
    """How many there are, and the first of them."""
    lines = [f"{name}: seed {row.seed}, {row.prompt}" for row, name in zip(rows, names, strict=True)]
    more = len(lines) - _SHOWN_ROWS
    return "\n".join([f"{len(rows)} rows", *lines[:_SHOWN_ROWS], *([f"and {more} more"] if more > 0 else [])])


def _list_inputs() -> list[io.Input]:
    return [
        io.String.Input(
            "text",
            multiline=True,
            default="",
            placeholder="one prompt a line · 每行一个提示词",
            display_name="text",
            tooltip="The list, of the kind chosen below; empty while a file is chosen. As text: one prompt a line, "
            "blank lines and lines that begin with # are left out.",
        ),
        io.Combo.Input(
            "kind",
            options=list(KINDS),
            default="text",
            display_name="kind",
            tooltip="What the text above is: text (one prompt a line), csv (a table, the first line names the columns) "
            "or jsonl (one JSON object a line). Columns: prompt, negative, seed, cfg, steps, size, frames, name. Of a "
            "file the ending says it.",
        ),
        io.Combo.Input(
            "list_name",
            options=[NO_FILE, *list_input_files(ENDINGS)],
            default=NO_FILE,
            display_name="list file",
            tooltip="A list in ComfyUI's input folder (.txt, .csv, .jsonl or .ndjson, in UTF-8); none takes the text "
            "above.",
        ),
    ]


def _seed_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "seed_policy",
            options=list(SEED_POLICIES),
            default=SEED_POLICIES[0],
            display_name="seed policy",
            tooltip="from the row: the row's seed, where it has none the one below; fixed: the one below for all rows; "
            "increment: the one below for the first row, 1 more for each further one.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=MAX_SEED,
            control_after_generate=True,
            display_name="seed",
            tooltip="Number from which the starting noise is drawn, given to the rows as the policy says.",
        ),
    ]


def _default_inputs() -> list[io.Input]:
    return [
        io.String.Input(
            "negative",
            multiline=True,
            default="",
            display_name="negative",
            tooltip="The negative prompt of rows that have none. Left empty, 'Wan GGUF Prompt' takes its default.",
        ),
        io.Float.Input(
            "cfg",
            default=5.0,
            min=1.0,
            max=15.0,
            step=0.1,
            round=0.01,
            display_name="cfg",
            tooltip="Guidance scale, 1.0 to 15.0, of rows that have none.",
        ),
        io.Int.Input(
            "steps",
            default=40,
            min=1,
            max=MAX_STEPS,
            display_name="steps",
            tooltip="Number of denoising steps of rows that have none.",
        ),
        *(
            io.Int.Input(
                name,
                default=default,
                min=MIN_SIZE_PX,
                max=MAX_SIZE_PX,
                step=16,
                display_name=name,
                tooltip=f"{name.capitalize()} of the video in pixels, of rows without a size: a multiple of 16, with "
                "the Wan2.2 VAE of 32.",
            )
            for name, default in (("width", 832), ("height", 480))
        ),
        io.Int.Input(
            "frames",
            default=81,
            min=1,
            max=MAX_FRAMES,
            step=4,
            display_name="frames",
            tooltip="Length of the video in frames, of rows that have none: 1 + a multiple of 4.",
        ),
        io.String.Input(
            "name_prefix",
            default="list/",
            display_name="name prefix",
            tooltip="Stands before every name; a / makes a folder. Rows without a name are numbered: list/0001, "
            "list/0002 and so on.",
        ),
    ]


def _outputs() -> list[io.Output]:
    to_prompt, to_sampler, to_latent = "'Wan GGUF Prompt'", "'Wan GGUF Sampler'", "'Wan GGUF Empty Video Latent'"
    columns = [
        (io.String, "prompt", "prompt", f"The prompt of each row, for the positive prompt of {to_prompt}."),
        (io.String, "negative", "negative", f"The negative prompt of each row, for that of {to_prompt}."),
        (io.Int, "seed", "seed", f"The seed of each row, for {to_sampler}."),
        (io.Float, "cfg", "cfg", f"The guidance scale of each row, for {to_sampler}."),
        (io.Int, "steps", "steps", f"The steps of each row, for {to_sampler}."),
        (io.Int, "width", "width", f"The width of each row in pixels, for {to_latent}."),
        (io.Int, "height", "height", f"The height of each row in pixels, for {to_latent}."),
        (io.Int, "frames", "frames", f"The frames of each row, for {to_latent}."),
        (io.String, "name", "name", "The name of each row, for the file name prefix of a node that saves."),
    ]
    return [
        kind.Output(name, display_name=shown, tooltip=tooltip, is_output_list=True)
        for kind, name, shown, tooltip in columns
    ]


NODES = [WanGGUFPromptList]
