"""The only floor that touches ComfyUI: layers, patcher, model loading, prompt encoding, sampling, decoding, folders.

The line numbers and behaviours that the comments rely on are those of ComfyUI 0.30.0.
"""
