"""Wan GGUF: a ComfyUI node pack for Wan2.2 video models in GGUF form.

The host imports this folder by path and calls `comfy_entrypoint`; nothing of the host is imported before that, so the
package imports anywhere (tests, command line) under the name `wan_gguf`.
"""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Return the host's extension object; called once by ComfyUI while it loads custom nodes."""
    from .nodes.extension import WanGGUFExtension

    return WanGGUFExtension()
