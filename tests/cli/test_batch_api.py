"""The client of a batch against servers that answer as no ComfyUI does: one line each, whatever they send."""

import asyncio

import pytest
from aiohttp import web

from wan_gguf.cli import batch_api, batch_patience, batch_run
from wan_gguf.cli.batch_api import ForeignAnswerError, NoSuchFileError, RefusedError, connected
from wan_gguf.cli.client import ServerGoneError
from wan_gguf.cli.errors import CliError
from wan_gguf.tests.cli.batch_case import BatchCase, check_results, colours, serving
from wan_gguf.tests.cli.fake_comfy import workflow

PLACE = {"filename": "a.png", "subfolder": "", "type": "output"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waiting is for real servers."""
    monkeypatch.setattr(batch_run, "SETTLE_S", 0.02)
    monkeypatch.setattr(batch_patience, "PAUSES_S", (0.02,))


def answering(path: str, method: str = "*", **answer):
    """A proxy that answers requests for one path itself, except those of a websocket."""

    async def proxy(request):
        if request.path == path and method in ("*", request.method):
            return web.Response(**answer)
        return None

    return proxy


def asked(proxy, question):
    """What `question(api)` gives with that proxy before the server."""

    async def scenario():
        async with serving() as fake, connected(fake.address, "test") as api:
            fake.proxy = proxy
            return await question(api)

    return asyncio.run(scenario())


BODIES = {
    "bytes that are no UTF-8": b"\xff\xfe\x00\x80" * 10,
    "HTML": b"<html>login</html>",
    "a list": b"[1, 2]",
    "null": b"null",
    "a string": b'"words"',
    "nothing": b"",
    "deep JSON": b"[" * 100_000,
    "no end": b'{"system": {}, ',
    "devices without a name": b'{"system": {}, "devices": [{}]}',
    "devices that are words": b'{"system": {}, "devices": ["cpu"]}',
}


@pytest.mark.parametrize("path", ["/system_stats", "/queue", "/prompt"])
@pytest.mark.parametrize("body", BODIES)
def test_what_is_no_answer_of_comfyui_ends_with_one_line(tmp_path, path, body):
    """At the start at once; later the server may be away, so with patience."""

    async def scenario():
        async with serving() as fake:
            fake.proxy = answering(path, body=BODIES[body], content_type="application/json")
            batch = BatchCase(tmp_path, fake.address, colours(2), patience_s=0.1)
            with pytest.raises(CliError) as ended:
                await batch.run()
            assert set(batch.states.values()) <= {"waiting", "queued"}  # nothing failed
            return str(ended.value)

    said = asyncio.run(scenario())
    assert f"{path} answered HTTP 200, but not as ComfyUI does" in said and "\n" not in said
    assert ("is it a ComfyUI server?" in said) == (path == "/system_stats")


@pytest.mark.parametrize("status", [404, 405, 400])
def test_a_wrong_address_is_refused_at_once(tmp_path, status):
    async def scenario():
        async with serving() as fake:
            fake.status = status
            with pytest.raises(RefusedError, match=f"answered HTTP {status}, .* is it a ComfyUI server"):
                await BatchCase(tmp_path, fake.address, colours(1), patience_s=1e6).run()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "queue", ['{"queue_running": [{"id": 1}], "queue_pending": []}', '{"queue_running": [], "queue_pending": null}']
)
def test_a_queue_of_another_form_is_none(queue):
    with pytest.raises(ForeignAnswerError):
        asked(answering("/queue", text=queue), lambda api: api.queue())


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, '{"error": "nope"}', "ComfyUI refused the workflow: nope (HTTP 400)"),
        (400, '{"error": {"message": "x"}, "node_errors": []}', "ComfyUI refused the workflow: x (HTTP 400)"),
        (
            400,
            '{"error": {}, "node_errors": {"1": {"errors": [{"message": "m", "details": null}, 3]}, "2": []}}',
            "ComfyUI refused the workflow: 1: m; 1: 3 (HTTP 400)",
        ),
        (400, '{"error": null, "node_errors": 1}', "ComfyUI refused the workflow: no reason was given (HTTP 400)"),
        (413, "<html>", "the workflow is too long for the server, or for a proxy before it (HTTP 413)"),
    ],
)
def test_a_refusal_is_one_line_whatever_its_form(status, body, reason):
    with pytest.raises(RefusedError) as refused:
        asked(answering("/prompt", status=status, text=body), lambda api: api.post(workflow(1), "id"))
    assert str(refused.value) == reason


@pytest.mark.parametrize("status", [400, 404, 405, 408, 418, 425, 429, 501, 502, 503, 504, 520, 521, 524, 599])
def test_a_proxys_page_refuses_no_workflow(status):
    with pytest.raises(ServerGoneError, match=f"HTTP {status}"):
        asked(answering("/prompt", status=status, text="<html>"), lambda api: api.post(workflow(1), "id"))


def test_that_a_file_is_gone_is_believed_of_comfyui_only(tmp_path):
    """Its own 404 has no words; and if its other answers are a proxy's, so may this one be."""

    def ask(proxy, call=lambda api: api.download(PLACE, tmp_path / "a")):
        return asked(proxy, call)

    with pytest.raises(NoSuchFileError):
        ask(None)
    assert ask(None, lambda api: api.has_file(PLACE)) is False
    for page in ({"status": 404, "text": "<html>"}, {"status": 200, "text": "<html>", "content_type": "text/html"}):
        with pytest.raises(ForeignAnswerError):
            ask(answering("/view", **page))
        with pytest.raises(ForeignAnswerError):
            ask(answering("/view", **page), lambda api: api.has_file(PLACE))

    async def away(_request):
        return web.Response(status=404)

    with pytest.raises(ForeignAnswerError):
        ask(away)
    with pytest.raises(ForeignAnswerError):
        ask(away, lambda api: api.has_file(PLACE))


def test_a_class_with_odd_signs_in_its_name_is_asked_for_as_one():
    async def question(api):
        return await api.knows("A/B? (c) %2F")

    async def proxy(request):
        seen.append(request.match_info.get("name"))

    seen: list = []
    assert asked(proxy, question) and seen == ["A/B? (c) %2F"]


@pytest.mark.parametrize(("status", "works"), [(301, False), (302, False), (307, True), (308, True)])
def test_a_proxy_that_sends_requests_on_is_named_where_it_would_turn_post_into_get(tmp_path, status, works):
    async def scenario():
        async with serving() as fake:

            async def onwards(request):
                return web.Response(status=status, headers={"Location": fake.address + request.path_qs})

            front = web.Application()
            front.router.add_route("*", "/{path:.*}", onwards)
            runner = web.AppRunner(front)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            address = f"http://127.0.0.1:{runner.addresses[0][1]}"
            try:
                batch = BatchCase(tmp_path, address, colours(2))
                if works:
                    await batch.run()
                    check_results(batch, (1, 2))
                else:
                    with pytest.raises(CliError, match=f"^{address} sends requests on to {fake.address}; name that"):
                        await batch.run()
            finally:
                await runner.cleanup()

    asyncio.run(scenario())


def test_a_websocket_that_is_never_opened_ends(monkeypatch):
    monkeypatch.setattr(batch_api, "HANDSHAKE_S", 0.1)

    async def silent(request):
        if request.path == "/ws":
            await asyncio.sleep(0.5)

    with pytest.raises(ServerGoneError, match="no websocket"):
        asked(silent, lambda api: api.open_socket())
