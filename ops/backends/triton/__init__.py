"""Kernels for NVIDIA GPUs (and AMD ones under ROCm) written in Triton, which CUDA builds of torch bring along.

`formats/` holds one small device function per GGML type; the kernels around them (`decode_tile.py` and what uses it)
are written once. This folder's name does not hide the real package: `import triton` is absolute, and only
`language.py` says it.
"""
