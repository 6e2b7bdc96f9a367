"""Wan GGUF Convert: a model file of the host's folders becomes a GGUF beside it, with the pack's own converter."""

from comfy_api.latest import io, ui

from ..convert.ggml_types import FILE_TYPES
from ..convert.merge import Lora
from ..host.conversion_files import list_sources, refresh_lists, source_path, target_folder
from ..host.lora import list_loras, lora_path
from ..host.progress import WorkBar, stop_if_interrupted
from .category import CATEGORY
from .conversion import Wish, check_source, convert_wish, describe_summary, target_name

NO_LORA = "none"


class WanGGUFConvert(io.ComfyNode):
    """Schema and calls only; the work is in `convert`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanGGUFConvert",
            display_name="Wan GGUF Convert",
            category=CATEGORY,
            description="Makes a GGUF of a Wan model or a UMT5 text encoder, once, and puts it into the folder where "
            "the loaders find it. It needs little memory whatever the size, can merge a LoRA into the weights, and "
            "writes the file under its name only when it is complete.",
            search_aliases=["convert", "quantize", "gguf", "safetensors to gguf", "转换", "量化"],
            is_output_node=True,
            inputs=[*_file_inputs(), *_lora_inputs(), *_switches()],
            outputs=[
                io.String.Output(
                    "file_name",
                    display_name="file name",
                    tooltip="The name of the new file as the loaders list it; press R to refresh their lists.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, source_name: str | None = None, file_name: str | None = None) -> bool | str:
        if file_name is not None:  # what is linked is None here, and checked at execution
            try:
                target_name(file_name, source_name or "", FILE_TYPES[0])
            except ValueError as error:
                return str(error)
        if source_name is not None:
            try:
                check_source(source_path(source_name))
            except (ValueError, OSError) as error:
                return f"source_name: {error}"
        return True

    @classmethod
    def fingerprint_inputs(cls, source_name: str, lora_name: str = NO_LORA, **_: object) -> list[tuple[int, int]]:
        files = [source_path(source_name), *([] if lora_name == NO_LORA else [lora_path(lora_name)])]
        return [(status.st_size, status.st_mtime_ns) for status in (file.stat() for file in files)]

    @classmethod
    def execute(
        cls,
        source_name: str,
        file_type: str,
        file_name: str,
        lora_name: str = NO_LORA,
        lora_strength: float = 1.0,
        overwrite: bool = False,
        plain: bool = False,
    ) -> io.NodeOutput:
        name = target_name(file_name, source_name, file_type)
        lora = None if lora_name == NO_LORA else Lora(lora_path(lora_name), lora_strength)
        target = target_folder(source_name) / name
        wish = Wish(source_path(source_name), file_type, target, lora, overwrite, plain)
        bar = WorkBar(None if cls.hidden is None else cls.hidden.unique_id)
        summary, said = convert_wish(wish, bar.show, stop_if_interrupted)
        refresh_lists()
        return io.NodeOutput(name, ui=ui.PreviewText(describe_summary(summary, said)))


def _file_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "source_name",
            options=list_sources(),
            display_name="source",
            tooltip="The model to convert, from models/diffusion_models or models/text_encoders: .safetensors in 32, "
            "16 or 8 bits, the index of one in several parts, or a .gguf in F32, F16, BF16 or Q8_0. After adding a "
            "file, press R to refresh the list.",
        ),
        io.Combo.Input(
            "file_type",
            options=list(FILE_TYPES),
            default="Q4_K_M",
            display_name="type",
            tooltip="How the weights are stored: the number is about the bits per weight, and _S, _M and _L give more "
            "to the tensors that need it. Q4_K_M is a good start; Q8_0 is nearly the original at half its size.",
        ),
        io.String.Input(
            "file_name",
            default="",
            placeholder="empty: the source's name and the type · 留空则由源文件名和类型组成",
            display_name="file name",
            tooltip="Name of the new file, without folders; .gguf is added. Empty takes the source's name and the "
            "type. The file goes to the source's folder, or to the first one of that kind that can be written to.",
        ),
    ]


def _lora_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "lora_name",
            options=[NO_LORA, *list_loras()],
            default=NO_LORA,
            optional=True,
            display_name="LoRA name",
            tooltip="A LoRA from models/loras that is merged into the weights before they are quantised; none for the "
            "model as it is. The new file then needs no LoRA loader for it.",
        ),
        io.Float.Input(
            "lora_strength",
            default=1.0,
            min=-100.0,
            max=100.0,
            step=0.01,
            optional=True,
            display_name="LoRA strength",
            tooltip="A factor on what the LoRA changes: 1 as trained, negative values reverse it. Not used without a "
            "LoRA.",
        ),
    ]


def _switches() -> list[io.Input]:
    return [
        io.Boolean.Input(
            "overwrite",
            default=False,
            optional=True,
            display_name="overwrite",
            tooltip="Replaces a file of that name, once the new one is complete. Off: an existing file is an error and "
            "stays as it is.",
        ),
        io.Boolean.Input(
            "plain",
            default=False,
            optional=True,
            display_name="plain",
            tooltip="Writes only the metadata that published files have. Off: also where the file comes from (names "
            "and hashes of the sources, LoRA, licence, quantiser); loading it does not need that.",
        ),
    ]


NODES = [WanGGUFConvert]
