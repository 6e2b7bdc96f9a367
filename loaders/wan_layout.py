"""A Wan transformer's config and tensors from the header of a GGUF file."""

from typing import TYPE_CHECKING, Any

from .fit import check_tensors, recorded_shapes
from .gguf import GGUFHeader
from .identify import Shapes, WrongModelError, describe_other, identify, wan_prefix
from .wan_config import wan_config, wan_shapes

if TYPE_CHECKING:
    from .gguf import GGUFFile


def wan_layout(file: "GGUFHeader | GGUFFile") -> tuple[dict[str, Any], Shapes, dict[str, str]]:
    """The model's config, its tensors' logical shapes, and their names in the file. Raises WrongModelError."""
    if identify(file.tensors) != "wan":
        raise WrongModelError(f"{file.path.name}: is {describe_other(file.tensors)}")
    prefix = wan_prefix(file.tensors)
    stored_names = {name[len(prefix) :]: name for name in file.tensors if name.startswith(prefix)}
    shapes = recorded_shapes(file)
    stored = {name: shapes[stored_names[name]] for name in stored_names}
    config = wan_config(stored, file.path.name)
    image_dim = stored.get("img_emb.proj.1.weight", (1280,))[-1]
    expected = wan_shapes(config, image_dim)
    check_tensors(stored, expected, "Wan transformer", file.path.name)
    return config, expected, stored_names
