"""Wan GGUF Prompt: positive and negative prompt in English or Chinese, cleaned as in the official code, encoded."""

from comfy_api.latest import io

from ..host.cached_encoding import encode_cached
from ..text.clean import clean_prompt
from ..text.language import detect_language
from ..text.negative import NEGATIVE_POLICIES, resolve_negative
from ..text.weights import WeightedSpan, parse_weights
from .category import CATEGORY
from .graph import refuse_wrong_vae

LANGUAGE_NAMES = {"en": "English", "zh": "中文"}


def _spans(input_name: str, text: str) -> list[WeightedSpan]:
    """Clean the text and read its weights; a faulty weight is an error that names the input."""
    try:
        return parse_weights(clean_prompt(text))
    except ValueError as error:
        raise ValueError(f"{input_name}: {error}") from error


def _positive_spans(text: str) -> list[WeightedSpan]:
    spans = _spans("positive", text)
    if not any(span.text.strip() for span in spans):
        raise ValueError("positive: the prompt is empty; describe the video in English or Chinese")
    return spans


class WanGGUFPrompt(io.ComfyNode):
    """Schema and calls only; the work is in `text` and `host.text_encoder`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanGGUFPrompt",
            display_name="Wan GGUF Prompt",
            category=CATEGORY,
            description="Encodes a positive and a negative prompt in English or Chinese. The text is cleaned as in the "
            "official Wan code. Weights may be written in ASCII or full-width brackets: (red:1.2) or "
            "（红色：1.2）.",
            search_aliases=["clip text encode", "text encode", "prompt", "negative prompt", "提示词", "文本编码"],
            inputs=_inputs(),
            outputs=_outputs(),
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            has_intermediate_output=True,  # the shown language survives a page reload and a cached run
        )

    @classmethod
    def validate_inputs(cls, positive: str | None = None, negative: str | None = None) -> bool | str:
        try:
            if positive is not None:  # None: linked, checked at execution
                _positive_spans(positive)
            if negative is not None:
                _spans("negative", negative)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, clip, positive: str, negative: str, default_negative: str, cache: bool = True) -> io.NodeOutput:
        refuse_wrong_vae(cls.hidden)
        positive_spans = _positive_spans(positive)
        language = detect_language(positive)
        negative_text = resolve_negative(negative, positive, default_negative)
        negative_spans = _spans("negative", negative_text)
        encoded = {
            name: encode_cached(clip, spans, name, cache)
            for name, spans in (("positive", positive_spans), ("negative", negative_spans))
        }
        shown = {
            "text": (f"{LANGUAGE_NAMES[language]} ({language})\n- {negative_text}",),
            "cache": tuple(f"{name}: {state}" for name, (_, state) in encoded.items()),
        }
        return io.NodeOutput(encoded["positive"][0], encoded["negative"][0], language, ui=shown)


def _inputs() -> list[io.Input]:
    return [
        io.Clip.Input(
            "clip",
            display_name="clip",
            tooltip="The UMT5 text encoder, from 'Wan GGUF Text Encoder Loader'.",
        ),
        io.String.Input(
            "positive",
            multiline=True,
            default="",
            placeholder="positive prompt · 正面提示词",
            display_name="positive",
            tooltip="What the video should show, in English or Chinese; up to 512 tokens, the rest is cut off. "
            r"Weights: (red:1.2) or （红色：1.2）. Write literal brackets as \( and \).",
        ),
        io.String.Input(
            "negative",
            multiline=True,
            default="",
            placeholder="negative prompt, empty: the default · 负面提示词，留空则使用默认值",
            display_name="negative",
            tooltip="What the video should not show; up to 512 tokens. Empty takes the default that is chosen "
            "below. Without effect at cfg 1.",
        ),
        io.Combo.Input(
            "default_negative",
            options=list(NEGATIVE_POLICIES),
            default="prompt language",
            display_name="default negative",
            tooltip="Used while the negative prompt is empty: the official negative prompt in the language of "
            "the positive one, the official Chinese one, its English translation, or none.",
        ),
        io.Boolean.Input(
            "cache",
            default=True,
            optional=True,
            display_name="cache",
            tooltip="Keeps encoded prompts on disk, up to 1 GiB, so that a repeated prompt does not load the text "
            "encoder; the result is the same, bit for bit. After a run the node shows hit or miss.",
        ),
    ]


def _outputs() -> list[io.Output]:
    return [
        io.Conditioning.Output(
            "positive_conditioning",
            display_name="positive",
            tooltip="The encoded positive prompt, for the sampler's input of that name.",
        ),
        io.Conditioning.Output(
            "negative_conditioning",
            display_name="negative",
            tooltip="The encoded negative prompt, for the sampler's input of that name.",
        ),
        io.String.Output(
            "language",
            display_name="language",
            tooltip="The language detected in the positive prompt: en for English, zh for Chinese.",
        ),
    ]


NODES = [WanGGUFPrompt]
