"""What the user is told when a video cannot be made: what happened, where the latent is, and what helps."""

import contextlib
import errno
import logging
from collections.abc import Iterator
from pathlib import Path

import av.error

from .latent_file import FINISH, is_name_fault

# None: a file that came out shorter than what was written into it
_NO_ROOM = {None, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


class RecordNotWrittenError(OSError):
    """The video is there and whole, and <name>.json is not."""

    def __init__(self, video: Path, error: OSError):
        super().__init__(error.errno, error.strerror)
        self.video = video


def cannot_write(folder: Path, error: Exception, latent: Path | None) -> OSError:
    """What to raise when a file could not be written there; `latent`: where that is, None if on no disk."""
    return _failure(f"the video cannot be written in {folder}", error, latent)


@contextlib.contextmanager
def telling_where(latent: Path) -> Iterator[None]:
    """Whatever ends the work, the user learns where the latent is."""
    try:
        yield
    except RecordNotWrittenError as error:
        what = f"the video {error.video} is complete, only its record {error.video.stem}.json cannot be written"
        raise _failure(what, error, latent) from error
    except (OSError, av.error.FFmpegError) as error:
        raise cannot_write(latent.parent, error, latent) from error
    except ValueError as error:
        raise ValueError(f"{error}; the latent is safe in {latent}; {FINISH} '{latent}'") from error
    except BaseException:
        logging.warning("Wan GGUF: the decode has not been finished; %s '%s'", FINISH, latent)
        raise


def _failure(what: str, error: Exception, latent: Path | None) -> OSError:
    number, reason = getattr(error, "errno", None), getattr(error, "strerror", None) or str(error)
    remedy = _remedy(error)
    if latent is None:
        where = f"the latent is in ComfyUI's memory only; {remedy and f'{remedy} and '}queue again: what was sampled "
        where += "is not sampled again while ComfyUI runs"
    else:
        where = f"the latent is safe in {latent}; {remedy and f'{remedy}, then '}{FINISH} '{latent}'"
    text = f"{what} ({reason}); {where}"
    return OSError(text) if number is None else OSError(number, text)


def _remedy(error: Exception) -> str:
    """What helps against it, where that is known."""
    number = getattr(error, "errno", None)
    if is_name_fault(error) and not isinstance(error, av.error.FFmpegError):
        return "choose another filename_prefix"
    if number in _NO_ROOM:
        return "make room or choose another folder"
    if number in _REFUSED:
        return "allow writing there or choose another folder"
    if isinstance(error, av.error.FFmpegError):
        return "choose another codec or pixel format"
    return ""
