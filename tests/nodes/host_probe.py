"""Loads the pack exactly as the host loads custom nodes and asks the host to validate prompts; run as a program.

    python host_probe.py <host> <pack folder> <model folder>     prompts as JSON on stdin, answers as JSON on stdout

A process of its own, because the host gives the pack another import name than the tests do.
"""

import asyncio
import json
import sys


def main(host: str, pack: str, model_folder: str) -> None:
    """Answers are [valid, {node id: [[message, details], ...]}], one for each prompt."""
    sys.path.insert(0, host)
    prompts = json.loads(sys.stdin.buffer.read())
    sys.argv = sys.argv[:1]
    from comfy.cli_args import args

    args.cpu = True
    import execution
    import folder_paths

    import nodes

    for key in ("diffusion_models", "text_encoders", "vae"):
        folder_paths.add_model_folder_path(key, model_folder)

    async def answers() -> dict:
        await nodes.init_public_apis()
        before = set(nodes.NODE_CLASS_MAPPINGS)
        loaded = await nodes.load_custom_node(pack)
        new = sorted(set(nodes.NODE_CLASS_MAPPINGS) - before)
        found = [await validate(execution, prompt) for prompt in prompts]
        return {
            "loaded": loaded,
            "object_info": {name: nodes.NODE_CLASS_MAPPINGS[name].GET_NODE_INFO_V1() for name in new},
            "web_dirs": list(nodes.EXTENSION_WEB_DIRS.values()),
            "answers": found,
        }

    async def validate(execution, prompt: dict) -> list:
        valid, _, _, node_errors = await execution.validate_prompt("test", prompt, None)
        reasons = {
            node: [[reason["message"], reason["details"]] for reason in entry["errors"]]
            for node, entry in node_errors.items()
        }
        return [valid, reasons]

    result = json.dumps(asyncio.run(answers()), ensure_ascii=False)
    sys.__stdout__.buffer.write(b"\nPROBE " + result.encode() + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
