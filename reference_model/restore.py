"""Turns the shipped files back into checkpoints in work/, to train further: `python3 reference_model/restore.py`

Then, for example, `cache_latents.py` and `train_dit.py --resume dit`.
"""

import environment

environment.enter(__file__)

from safetensors.torch import load_file

from export import FILES
from training import WORK, save
from wan_gguf.loaders.umt5 import load_umt5
from wan_gguf.loaders.wan import load_wan
from wan_gguf.ops.dequantize import dequantize


def main() -> None:
    encoder = load_umt5(FILES / "wan_reference_umt5_f16.gguf")
    save("text", {name: dequantize(packed) for name, packed in encoder.tensors.items()})
    (WORK / "spiece.model").write_bytes(encoder.spiece_model)
    transformer = load_wan(FILES / "wan_reference_dit_f16.gguf")
    save("dit", {name: dequantize(packed) for name, packed in transformer.tensors.items()})
    low_noise = load_wan(FILES / "wan_reference_dit_low_noise_q8_0.gguf")
    save("dit_low_noise", {name: dequantize(packed) for name, packed in low_noise.tensors.items()})
    vae = load_file(FILES / "wan_reference_vae.safetensors")
    save("vae", {name: weight.float() for name, weight in vae.items()})
    print("work/ now holds text, dit, dit_low_noise, vae and spiece.model")


if __name__ == "__main__":
    main()
