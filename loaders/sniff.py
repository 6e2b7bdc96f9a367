"""What a file is by its first bytes, in words for an error message; a pickle is recognised here and never opened."""

_TEXT_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<head")


def sniff(head: bytes) -> str:
    """A phrase that completes "the file is ...", with the remedy if there is one; `head` is 64 bytes or more."""
    if not head:
        return "empty; download it again"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer; download the real file (git lfs pull, or the download button of the model's page)"
    if head.lstrip().lower().startswith(_TEXT_STARTS):
        return "a web page, not a model; download the file itself, not its page (a login may be needed)"
    if head.startswith(b"GGUF"):
        return "a GGUF file"
    if head.startswith((b"ggml", b"lmgg", b"tjgg", b"ggjt", b"fmgg", b"ggmf")):
        return "a model in a format older than GGUF; download a GGUF version"
    if head.startswith(b"PK\x03\x04") or (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        return "a pickle (.pt, .pth, .ckpt), which can run code when opened; use the .safetensors or .gguf version"
    if is_safetensors(head):
        return "a safetensors file"
    if head.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        return "a compressed archive; unpack it first"
    if not any(head):
        return "zeros; the download did not finish, download it again"
    return f"of an unknown kind (first bytes {head[:8].hex(' ')})"


def is_safetensors(head: bytes) -> bool:
    """True when the first bytes look like safetensors: the header's length, then a JSON object."""
    return len(head) > 9 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= 100_000_000
