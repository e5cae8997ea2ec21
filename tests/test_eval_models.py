"""Models of three kinds answer the same requests; an endpoint may be busy, broken or wrong."""

import base64
import json
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from PIL import Image

from vlm.api import VLM
from vlm.evaluation.endpoint import Endpoint
from vlm.evaluation.models import Ours, Request, Transformers, content, fingerprint, open_model, usual_prompt
from vlm.evaluation.tasks.item import Picture
from vlm.image import open_image

HUB = Path(__file__).parent / "golden" / "hf"


def picture(name="p", color="red"):
    return Picture(name, lambda: Image.new("RGB", (20, 10), color))


def request(name="1", text="What is it?", images=None, **more):
    return Request(id=name, text=text, images=(picture(),) if images is None else images, max_new_tokens=4, **more)


def missing():
    return Picture("no.png", lambda: "no.png")


class Server(ThreadingHTTPServer):
    """Answers as it is told, in turn, then right for ever."""

    def __init__(self, script):
        self.script, self.bodies, self.keys, self.lock = list(script), [], [], threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        assert self.path == "/v1/chat/completions"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.keys.append(self.headers.get("Authorization"))
            status, reply = self.server.script.pop(0) if self.server.script else (200, right(body))
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def right(body):
    words = [part["text"] for part in body["messages"][0]["content"] if part["type"] == "text"]
    return {"choices": [{"message": {"content": f" {words[0]} "}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 4}}  # fmt: skip


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers = []

    def start(*script):
        servers.append(Server(script))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


GARBAGE = [b"<html>", {"choices": []}, {"choices": [{"message": {"content": None}}]}, b""]


def test_an_endpoint_is_asked_again_until_it_answers_right(serve):
    server = serve((429, {}), (500, b"oops"), (503, {}), *((200, g) for g in GARBAGE))
    (said,) = Endpoint(server.url, "m", key="k", pause=0.001, attempts=9).generate([request()])
    assert (said, said.finish_reason, said.error) == ("What is it?", "length", None)
    assert (said.prompt_tokens, said.completion_tokens) == (9, 4)
    assert len(server.bodies) == 8 and set(server.keys) == {"Bearer k"}
    body = server.bodies[0]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 4, 0)
    image, text = body["messages"][0]["content"]
    sent = open_image(base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,")))
    assert sent.size == (20, 10) and sent.getpixel((0, 0)) == (255, 0, 0) and text["text"] == "What is it?"


def test_what_fails_for_good_is_an_error_result_in_its_place(serve):
    server = serve(*[(502, {})] * 2)
    (said,) = Endpoint(server.url, "m", pause=0.001, attempts=2).generate([request()])
    assert said == "" and "502" in said.error and "2 times" in said.error
    server = serve((400, b"too\nlong"))
    (said,) = Endpoint(server.url, "m", pause=0.001).generate([request()])
    assert "too long" in said.error and len(server.bodies) == 1
    said = Endpoint(serve().url, "m").generate(
        [request("1", "a"), request("2", images=(missing(),)), request("3", "c")]
    )
    assert [str(s) for s in said] == ["a", "", "c"] and "no.png" in said[1].error


def test_a_server_that_is_not_there_is_an_error_result():
    (said,) = Endpoint("http://127.0.0.1:9/v1", "m", pause=0.001, attempts=2).generate([request()])
    assert said.finish_reason == "error" and "2 times" in said.error


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_address_ends_the_run(serve, status):
    with pytest.raises(ValueError, match=f"{status}.*OPENAI_API_KEY"):
        Endpoint(serve((status, {})).url, "m").generate([request()])


def test_names_of_models():
    made = open_model("openai:http://h:1/v1#org/m#x".replace("#x", ""))
    assert (made.url, made.model) == ("http://h:1/v1", "org/m")
    for name in ("openai:http://h/v1", "openai:ftp://h#m", "openai:#m"):
        with pytest.raises(ValueError, match="expected openai:http"):
            open_model(name)


def test_pictures_stand_where_the_words_name_them():
    a, b, c = picture("a"), picture("b"), picture("c")
    parts = content(request(text="See <image 2>, then <image 1>. Is <image 2> red? <image 9>", images=(a, b, c)))
    assert [p.get("text", p.get("image")) for p in parts] == [
        c, "See ", b, ", then ", a, ". Is ", "image 2", " red? ", "image 9",
    ]  # fmt: skip
    assert [p["type"] for p in content(request(images=()))] == ["text"]


@pytest.fixture
def ours(model, chat):
    made = Ours.__new__(Ours)
    made.vlm, made.identity = VLM(model, chat), {}
    return made


def test_our_model_keeps_order_and_places_errors(ours):
    blue = picture("q", "blue")
    asked = [
        request("1", "Is it?"), request("2", "x", images=(missing(),)), request("3", " "), request("4", images=()),
        request("5", "star " * 900), request("6", "Is <image 1> or <image 2>?", images=(picture(), blue)),
    ]  # fmt: skip
    said = ours.generate(asked)
    assert [bool(s.error) for s in said] == [False, True, True, False, True, False]
    assert said[0] == ours.vlm.answer(picture().open(), "Is it?", max_new_tokens=4)
    assert "no.png" in said[1].error and "context" in said[4].error and said[5].completion_tokens <= 4
    assert ours.tiles(20, 10) == 1


def test_a_picture_is_opened_once_for_all_its_questions(ours):
    opened = []

    def load():
        opened.append(1)
        return Image.new("RGB", (8, 8))

    shared = Picture("shared", load)
    assert len(ours.generate([request(str(i), images=(shared,)) for i in range(3)])) == 3 and len(opened) == 1


def test_weights_tell_models_apart(model):
    before = fingerprint(model)
    assert before == fingerprint(model)
    weight = next(model.parameters())
    with torch.no_grad():
        kept = weight.clone()
        weight.mul_(1.001)
        changed = fingerprint(model)
        weight.copy_(kept)
    assert changed != before == fingerprint(model)


def test_a_transformers_model_answers_alone_as_in_a_batch():
    tested = Transformers(str(HUB), device="cpu", dtype="float32")
    asked = [request("1", "Is it?"), request("2", "What colour is the large star?"), request("3", images=(missing(),))]
    said = tested.generate(asked)
    assert "no.png" in said[2].error and not said[0].error
    assert [str(s) for s in said[:2]] == [str(tested.generate([r])[0]) for r in asked[:2]]
    assert said[0].prompt_tokens < said[1].prompt_tokens and 0 < said[0].completion_tokens <= 4
    assert tested.identity["weights"] == fingerprint(tested.model)


@pytest.fixture
def plugin(monkeypatch):
    """The adapter beside a stand-in for the two names that it takes from lmms-eval."""

    class Base:
        def __init__(self):
            self.task_dict = {}

    class Manifest:
        def __init__(self, model_id, chat_class_path):
            self.model_id, self.chat_class_path = model_id, chat_class_path

    for name in ("lmms_eval", "lmms_eval.api", "lmms_eval.models"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "lmms_eval.api.model", types.SimpleNamespace(lmms=Base))
    monkeypatch.setitem(sys.modules, "lmms_eval.models.registry_v2", types.SimpleNamespace(ModelManifest=Manifest))
    monkeypatch.delitem(sys.modules, "vlm.evaluation.lmms_eval_plugin", raising=False)
    import vlm.evaluation.lmms_eval_plugin as module

    yield module
    del sys.modules["vlm.evaluation.lmms_eval_plugin"]


def test_lmms_eval_gets_answers_in_its_order(plugin, model, chat, tmp_path):
    VLM(model, chat).save(tmp_path / "tiny")
    module, _, name = plugin.MANIFEST.chat_class_path.rpartition(".")
    tested = getattr(sys.modules[module], name)(pretrained=str(tmp_path / "tiny"), batch_size="2", device="cpu")
    image = Image.new("RGB", (20, 10), "red")
    documents = ["Is it?", "What?", "How many red circles are there?"]
    tested.task_dict = {"t": {"test": documents}}

    def to_messages(text):
        return [{"role": "user", "content": [{"type": "image", "url": image}, {"type": "text", "text": text}]}]

    limits = [4, 2, 4]
    asked = [
        types.SimpleNamespace(args=("", to_messages, {"max_new_tokens": n, "until": ["\n\n"]}, i, "t", "test"))
        for i, n in enumerate(limits)
    ]
    alone = [VLM(model, chat).answer(image, d, max_new_tokens=n) for d, n in zip(documents, limits, strict=True)]
    assert tested.generate_until(asked) == [plugin.cut(str(a), "\n\n") for a in alone]
    with pytest.raises(ValueError, match="video"):
        plugin.to_request("1", [{"role": "user", "content": [{"type": "video", "url": "x"}]}], 4)
    with pytest.raises(NotImplementedError, match="generate_until"):
        tested.loglikelihood(asked)
    assert plugin.cut("a b. c", ["."]) == "a b" and plugin.cut("a", None) == "a"


def test_lmms_eval_finds_the_adapter():
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert 'gated_vlm = "vlm.evaluation.lmms_eval_plugin:MANIFEST"' in text.split('"lmms_eval.models"]')[1]


def test_ray_is_asked_for_by_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    from vlm.evaluation.ray_engine import require_ray

    with pytest.raises(ImportError, match=r'pip install "ray\[data\]"'):
        require_ray()


def test_a_model_of_ours_may_name_the_prompt_that_it_knows(tmp_path):
    assert usual_prompt(None) == "bare" and usual_prompt("hub/name") is None
    (tmp_path / "generation.json").write_text('{"temperature": 0}')
    assert usual_prompt(str(tmp_path)) is None
