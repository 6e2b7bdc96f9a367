"""Whether two model files can be the high-noise and the low-noise expert of one model."""

from .describe import ModelFile
from .wan_names import expert_of, is_single, model_name, twin_name

_SAME = ("dim", "num_layers", "in_dim", "out_dim", "ffn_dim", "text_dim", "model_type")  # of both experts
SLOTS = {"high": "model", "low": "low_noise_model"}  # inputs of the sampler


def refuse_experts(high: ModelFile, high_name: str, low: ModelFile, low_name: str) -> str | None:
    """Why the two Wan files are no pair of experts, with the file that is needed, or None. The names are as chosen."""
    if high.path.resolve() == low.path.resolve():
        return _same_file(high, high_name)
    for file, name in ((high, high_name), (low, low_name)):
        by_name = name if file is high else ""  # a Wan2.1 of 14B is used as the low-noise expert by some, on purpose
        if is_single(file.config, by_name):
            return (
                f"{_slot(file is low)}: '{name}' is {_name(file, by_name)}, one model for all noise levels; leave "
                "low_noise_model unconnected, or choose both experts of Wan2.2 A14B"
            )
    different = [key for key in _SAME if high.config[key] != low.config[key]]
    if different:
        return (
            f"low_noise_model: '{low_name}' is {model_name(low.config)}, the model '{high_name}' is "
            f"{model_name(high.config)}; both experts must be of one model: choose "
            f"{twin_name(high_name, high.config, 'low')} for low_noise_model"
        )
    return _refuse_names(high, high_name, low_name)


def _name(file: ModelFile, by_name: str) -> str:
    is_by_shape = is_single(file.config, "")
    return model_name(file.config) if is_by_shape or not by_name else "called Wan2.1"


def _slot(is_low: bool) -> str:
    return SLOTS["low" if is_low else "high"]


def _same_file(file: ModelFile, name: str) -> str:
    found = f"low_noise_model: '{name}' is the file of the input model too"
    if is_single(file.config, name):
        return f"{found}; it is one model for all noise levels: leave low_noise_model unconnected"
    said = expert_of(name)
    slot, wanted = ("model", "high") if said == "low" else ("low_noise_model", "low")
    return f"{found}; choose {twin_name(name, file.config, wanted)} for {slot}"


def _refuse_names(high: ModelFile, high_name: str, low_name: str) -> str | None:
    """Both experts have the same shapes: what the files are called is all there is to go by."""
    said = expert_of(high_name), expert_of(low_name)
    if said == ("low", "high"):
        return (
            f"the two experts look swapped: model is '{high_name}', low_noise_model is '{low_name}'; choose "
            f"'{low_name}' for model and '{high_name}' for low_noise_model, or rename the files if the names are wrong"
        )
    if said == ("high", "high"):
        needed = twin_name(high_name, high.config, "low")
        return f"low_noise_model: '{low_name}' is a high-noise expert by its name, as '{high_name}' is; choose {needed}"
    if said == ("low", "low"):
        needed = twin_name(low_name, high.config, "high")
        return f"model: '{high_name}' is a low-noise expert by its name, as '{low_name}' is; choose {needed}"
    return None
