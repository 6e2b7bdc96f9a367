"""Default negative prompts, for a negative prompt left empty.

Source: `sample_neg_prompt` in wan/configs/shared_config.py of Wan2.1 and Wan2.2, which the official code uses when
the caller's negative prompt is empty. The English one is our translation of it, item by item.
"""

from .language import Language, detect_language

DEFAULT_NEGATIVES: dict[Language, str] = {
    "zh": (
        "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，"
        "残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，"
        "三条腿，背景人很多，倒着走"
    ),
    "en": (
        "garish colors, overexposed, static, blurry details, subtitles, stylized, artwork, painting, picture, "
        "motionless, gray cast all over, worst quality, low quality, JPEG artifacts, ugly, mutilated, extra fingers, "
        "badly drawn hands, badly drawn face, deformed, disfigured, malformed limbs, fused fingers, frozen image, "
        "cluttered background, three legs, crowd of people in the background, walking backwards"
    ),
}
NEGATIVE_POLICIES = ("prompt language", "chinese", "english", "none")


def resolve_negative(negative: str, prompt: str, policy: str) -> str:
    """The negative prompt to encode: `negative` untouched unless it is blank, else the default that `policy` picks.

    "prompt language" follows `detect_language(prompt)`; "none" is the empty text. Raises ValueError for another policy.
    """
    if policy not in NEGATIVE_POLICIES:
        raise ValueError(f"default negative must be one of {', '.join(NEGATIVE_POLICIES)}, got {policy!r}")
    if negative.strip():
        return negative
    if policy == "none":
        return ""
    if policy == "prompt language":
        return DEFAULT_NEGATIVES[detect_language(prompt)]
    return DEFAULT_NEGATIVES["zh" if policy == "chinese" else "en"]
