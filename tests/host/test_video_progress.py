"""The decode's progress: the host's bar, and a text with the time left by the last pieces."""

import comfy.utils
import pytest

from wan_gguf.host import progress
from wan_gguf.host.video_progress import FrameProgress


@pytest.fixture
def shown(monkeypatch):
    """Every text that reaches the server, and every value of the bar."""
    texts, values = [], []

    class Server:
        def send_progress_text(self, text, node_id):
            texts.append((node_id, text))

    monkeypatch.setattr(progress, "running_server", Server)
    monkeypatch.setattr(
        comfy.utils.ProgressBar, "update_absolute", lambda bar, value, *_: values.append((value, bar.total))
    )
    return texts, values


def test_the_time_left_goes_by_the_pieces_and_not_by_the_loading_before(shown):
    now = [0.0]
    frames = FrameProgress(17, "7", lambda: now[0])
    now[0] = 100.0  # the VAE is loaded
    frames.start()
    for done, new in ((1, 1), (9, 8), (17, 8)):
        now[0] += 2.0 * new
        frames.show(done, new)
    assert shown[0] == [("7", "frame 1/17, 0:32 left"), ("7", "frame 9/17, 0:16 left"), ("7", "frame 17/17, 0:00 left")]
    assert shown[1] == [(1, 17), (9, 17), (17, 17)]
