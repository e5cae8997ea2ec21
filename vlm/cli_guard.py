"""The command that asks a guard alone, and the options that put one around a model."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vlm.cli_guard_training import evaluate, lexicon, train
from vlm.guard import DEFAULT

Guard = Annotated[
    str, typer.Option(help="Around the model: default, none, a folder of vlm guard train, or a Llama Guard 3.")
]
Policy = Annotated[str | None, typer.Option(help="YAML file of what the guard judges; the package's own where absent.")]


def named(guard: str) -> str | None:
    """What `vlm.load` takes for an option of the command line."""
    return None if guard == "none" else guard


class Commands(TyperGroup):
    """`vlm guard train ...` and `vlm guard eval ...`; whatever else follows `guard` is judged."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        known = args[0] in self.commands
        return super().resolve_command(ctx, args if known else ["judge", *args])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].startswith("--") and args[0] != "--help":  # an option before the words
            args = ["judge", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the commands to `vlm`."""
    commands = typer.Typer(cls=Commands, no_args_is_help=True, help="Ask a guard, train the small one, measure any.")
    commands.command(name="judge")(judge)
    commands.command(name="train")(train)
    commands.command(name="eval")(evaluate)
    commands.command(name="lexicon")(lexicon)
    app.add_typer(commands, name="guard")


def judge(
    items: Annotated[list[str], typer.Argument(metavar="IMAGE... TEXT", help="Pictures, if any, and the words.")],
    guard: Annotated[
        str, typer.Option(help="default, a folder of vlm guard train, or folder or hub id of a Llama Guard 3.")
    ] = DEFAULT,
    response: Annotated[str | None, typer.Option(help="Judge this answer instead of the question.")] = None,
    policy: Policy = None,
    json_path: Annotated[
        str | None, typer.Option("--json", help="Write the verdict to this file; - is standard output.")
    ] = None,
) -> None:
    """Ask a guard about a question with pictures, or an answer to it; exit code 0 is safe, 1 unsafe, 2 an error."""
    import json
    import time
    from pathlib import Path

    from vlm.guard.shield import load_shield
    from vlm.guard.taxonomy import CATEGORIES

    *pictures, text = items
    shield = load_shield(guard, policy)
    assert shield is not None, "there is a guard"
    if pictures:
        shield.needs_eyes()
    content = [*({"type": "image", "image": picture} for picture in pictures), {"type": "text", "text": text}]
    messages = shield.freeze([{"role": "user", "content": content}])
    began = time.monotonic()
    verdict = shield.policy.apply(shield.guard.check(messages, response))  # what fails here is an error to be seen
    shield.record(messages, response, verdict, time.monotonic() - began)
    found = {**verdict.to_dict(), "action": shield.policy.action_for(verdict)}
    if json_path == "-":
        print(json.dumps(found, indent=1))
    else:
        if json_path:
            Path(json_path).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        score = "" if verdict.score is None else f"  P(unsafe) {verdict.score:.3f}"
        names = ", ".join(str(CATEGORIES[c]) for c in verdict.categories) or verdict.reason
        print(f"{'safe' if verdict.safe else 'unsafe'}{score}{'  ' + names if names else ''}")
    sys.exit(0 if verdict.safe else 1)
