"""The image Q&A page: a picture, a chat about it, examples that show what the model knows.

Notable here:
- Pictures reach the model through `vlm.image.open_image` alone; gradio only hands over a file name.
- Stop closes the generator, and with it the engine's cache; nothing goes on in the background.
- Examples are drawn by the project's own worlds when the page starts: nothing is downloaded.
- What the guard refused stays on the page and is shown to the model no more: later questions begin afresh.
"""

import os
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
from PIL.Image import Resampling

from vlm.api import VLM
from vlm.data.worlds import sample
from vlm.image import ImageError, open_image
from vlm.result import Result

CSS = """
.gradio-container { max-width: 1100px !important; margin: 0 auto !important; }
#note { opacity: 0.8; font-size: 0.9em; }
.remark { opacity: 0.75; font-size: 0.85em; }
.outside, .refused { display: inline-block; font-size: 0.85em; border-left: 3px solid #d97706; padding-left: 0.5em; }
"""
NOTE = (
    "The shipped model is small and knows drawn scenes: shapes, their colours, sizes, places and numbers. "
    "Photographs are outside of what it was trained on, and it errs inside of it too: see the figures in the README."
)
REFUSED = '<span class="refused">The guard refused this.</span>'
EXAMPLES = ("attribute", "count", "exist", "position", "relate", "count")  # families of questions


class Picture(gr.Image):
    """gr.Image without its own decoding: the file goes to our guarded opener as it was uploaded."""

    is_template = True  # gradio's way of saying: the page shows this as its parent class

    def preprocess(self, payload):
        return payload.path if payload is not None else None


def example_pictures(folder: Path, size: int = 96) -> list[list[str]]:
    """Draw pictures that the model has never seen, each with a question: [[path, question], ...]."""
    rows = []
    for number, family in enumerate(EXAMPLES):
        options = {"seed": 2026, "mixture": {"scenes": 1.0}, "size": size, "split": "val", "families": (family,)}
        drawn = next(d for i in count(10 * number) if (d := sample(i, n_questions=1, **options)).questions)
        path = folder / f"scene-{number + 1}.png"
        drawn.image.resize((4 * size, 4 * size), Resampling.NEAREST).save(path)
        rows.append([str(path), drawn.questions[0].text])
    return rows


def text_of(content: Any) -> str:
    """The words of a message's content, in whichever form gradio hands it over."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return content.get("text", "") if content.get("type", "text") == "text" else ""
    return " ".join(filter(None, map(text_of, content or [])))


def reply(said: str, end: Result | None = None) -> dict:
    """The model's message; in small letters below it what the guard did, and how sure the model is, or that the picture
    is none of its worlds.

    They are parts of their own, so that the model is not shown them as words of its own.
    """
    remarks = []
    if end is not None:
        remarks += [REFUSED] if end.finish_reason == "content_filter" else []
        remarks += [f'<span class="outside">The guard warns of the {warning}</span>' for warning in end.warnings]
        kind = "outside" if end.in_domain is False else "remark"
        remarks += [f'<span class="{kind}">{end.remark}</span>'] if end.remark else []
    return {"role": "assistant", "content": [{"type": "text", "text": text} for text in (said, *remarks)]}


def to_messages(picture: str, history: list[dict]) -> list[dict]:
    """Gradio's history -> the model's messages; the picture stands before the first question."""
    messages: list[dict] = []
    for m in history:
        content = m["content"]
        if m["role"] == "assistant" and isinstance(content, list):
            if REFUSED in map(text_of, content[1:]):
                messages.pop()
                continue
            content = content[:1]  # the rest is our remark
        messages.append({"role": m["role"], "content": text_of(content)})
    first = next(m for m in messages if m["role"] == "user")
    first["content"] = [{"type": "image", "image": picture}, {"type": "text", "text": first["content"]}]
    return messages


def about_guard(model: VLM) -> str:
    """Who watches over the page."""
    if model.shield is None:
        return "No guard is active: every request is answered."
    return (
        f"Guard: **{model.shield.name}** judges every question with its picture, and every answer; what falls under "
        "one of its hazards is refused. It errs both ways."
    )


def build(model: VLM) -> gr.Blocks:
    """The page for one model."""

    def ask(question: str, history: list[dict]) -> tuple[str, list[dict]]:
        if not (question or "").strip():
            raise gr.Error("Type a question about the picture first.")
        return "", [*history, {"role": "user", "content": question.strip()}]

    def answer(picture: str | None, history: list[dict], temperature: float, tokens: int) -> Iterator[list[dict]]:
        if not history or history[-1]["role"] != "user":
            yield history
            return
        said, pieces, end = "", None, None
        try:
            if not picture:
                raise ImageError("Give a picture first: drop one on the left, or choose an example.")
            open_image(picture)
            pieces = model.chat(
                to_messages(picture, history), stream=True, max_new_tokens=int(tokens), temperature=temperature
            )
            for piece in pieces:
                said += piece
                end = piece if isinstance(piece, Result) else None
                yield [*history, reply(said, end)]
            if not said:
                yield [*history, reply("(the model had nothing to say)", end)]
        except ValueError as error:
            message = str(error).replace(str(picture), Path(str(picture)).name)
            yield [*history, reply(f"⚠ {message}")]
        finally:
            if pieces is not None:
                pieces.close()

    def start_over() -> list:
        return []

    folder = tempfile.TemporaryDirectory(prefix="examples-")  # gradio copies what it shows into its own cache
    with folder, gr.Blocks(title="Ask a picture", delete_cache=(3600, 86400)) as page:
        examples = example_pictures(Path(folder.name))
        gr.Markdown("# Ask a picture\nA vision-language model that sees through gated cross-attention.")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                picture = Picture(type="filepath", label="Picture", height=330, sources=["upload", "clipboard"])
                describe = gr.Button("Describe the picture")
                with gr.Accordion("Settings", open=False):
                    temperature = gr.Slider(0, 1.5, value=0, step=0.1, label="Temperature (0: the likeliest answer)")
                    tokens = gr.Slider(8, 256, value=96, step=8, label="Longest answer, in tokens")
            with gr.Column(scale=3, min_width=300):
                chat = gr.Chatbot(label="Chat", height=370, placeholder="Ask something about the picture.")
                question = gr.Textbox(
                    label="Question", placeholder="How many red circles are there?", submit_btn=True, lines=1
                )
                with gr.Row():
                    stop = gr.Button("Stop", variant="stop", size="sm")
                    clear = gr.Button("Clear", size="sm")
        gr.Examples(examples, [picture, question], label="Examples: choose one, then send the question")
        gr.Markdown(f"{about_guard(model)} {NOTE}", elem_id="note")

        inputs = [picture, chat, temperature, tokens]
        runs = [
            question.submit(ask, [question, chat], [question, chat], api_visibility="private").success(
                answer, inputs, chat, concurrency_id="model", api_name="answer"
            ),
            describe.click(lambda h: ask("Describe the picture.", h)[1], chat, chat, api_visibility="private").then(
                answer, inputs, chat, concurrency_id="model", api_visibility="private"
            ),
        ]
        stop.click(None, cancels=runs, api_visibility="private")
        clear.click(start_over, None, chat, cancels=runs, api_visibility="private")
        picture.input(start_over, None, chat, api_visibility="private")
    return page.queue(max_size=32, default_concurrency_limit=1)


def serve(
    model: VLM, *, host: str = "127.0.0.1", port: int | None = 7860, share: bool = False, block: bool = True
) -> gr.Blocks:
    """Launch the page; returns at once with `block=False`."""
    page = build(model)
    page.launch(
        server_name=host, server_port=port, share=share, prevent_thread_lock=not block, quiet=not block, ssr_mode=False,
        max_file_size="20mb", css=CSS, theme=gr.themes.Soft(), footer_links=[],
    )  # fmt: skip
    return page
