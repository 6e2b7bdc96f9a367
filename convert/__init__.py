"""Wan transformers and UMT5 encoders from any source to GGUF or safetensors: sources, the published rule, writing.

Nothing here needs torch or the host: a source is read, quantised and written in pieces of a few million weights.
"""
