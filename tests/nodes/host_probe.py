"""Loads the pack exactly as the host loads custom nodes; the host validates and executes prompts; run as a program.

    python host_probe.py <host> <pack folder> <model folder>     JSON on stdin, answers as JSON on stdout

stdin is {"validate": [prompt, ...], "execute": [[prompt, ...], ...]}: the prompts of one list share the host's cache.

A process of its own, because the host gives the pack another import name than the tests do.
"""

import asyncio
import json
import sys
from pathlib import Path


class Listener:
    """The part of the host's server that its executor talks to; without a client it is sent nothing."""

    client_id = None
    last_node_id = None

    def send_sync(self, *_args: object) -> None:
        """Nobody listens."""


def main(host: str, pack: str, model_folder: str) -> None:
    """Answers: [valid, {node id: [[message, details], ...]}] to a prompt to validate, {event: data} to one to run."""
    sys.path.insert(0, host)
    wanted = json.loads(sys.stdin.buffer.read())
    sys.argv = sys.argv[:1]
    from comfy.cli_args import args

    args.cpu = True
    import execution
    import folder_paths

    import nodes

    folder_paths.set_output_directory(str(Path(pack).parent / "output"))
    folder_paths.set_user_directory(str(Path(pack).parent / "user"))
    for key in ("diffusion_models", "text_encoders", "vae", "loras"):
        folder_paths.add_model_folder_path(key, model_folder)

    async def answers() -> dict:
        await nodes.init_public_apis()
        before = set(nodes.NODE_CLASS_MAPPINGS)
        loaded = await nodes.load_custom_node(pack)
        new = sorted(set(nodes.NODE_CLASS_MAPPINGS) - before)
        return {
            "loaded": loaded,
            "object_info": {name: nodes.NODE_CLASS_MAPPINGS[name].GET_NODE_INFO_V1() for name in new},
            "web_dirs": list(nodes.EXTENSION_WEB_DIRS.values()),
            "answers": [await validate(execution, prompt) for prompt in wanted["validate"]],
            "runs": [await run(execution, prompts) for prompts in wanted["execute"]],
        }

    async def validate(execution, prompt: dict) -> list:
        valid, _, _, node_errors = await execution.validate_prompt("test", prompt, None)
        reasons = {
            node: [[reason["message"], reason["details"]] for reason in entry["errors"]]
            for node, entry in node_errors.items()
        }
        return [valid, reasons]

    async def run(execution, prompts: list[dict]) -> list[dict]:
        headroom = {"ram": 0.0, "ram_inactive": 0.0}
        executor = execution.PromptExecutor(Listener(), execution.CacheType.CLASSIC, headroom)
        events = []
        for number, prompt in enumerate(prompts):
            _, _, outputs, _ = await execution.validate_prompt(str(number), prompt, None)
            await executor.execute_async(prompt, str(number), {}, outputs)
            events.append(
                dict(executor.status_messages) | {"shown": getattr(executor, "history_result", {}).get("outputs", {})}
            )
        return events

    result = json.dumps(asyncio.run(answers()), ensure_ascii=False)
    sys.__stdout__.buffer.write(b"\nPROBE " + result.encode() + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
