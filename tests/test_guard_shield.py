"""The guard around a model: nothing judged unsafe is shown, and what goes wrong is refused."""

import json
import stat
import threading

import pytest
from PIL import Image

import vlm
from tests.guards import TEXT, WordGuard, guard_chat, guard_model, said, user
from vlm.api import VLM
from vlm.chat_template import TemplateChat
from vlm.checkpoints import Checkpoint, save_checkpoint
from vlm.guard.llama_guard import LlamaGuard
from vlm.guard.policy import Policy, Verdict
from vlm.guard.shield import Shield, load_shield, picture_hash, text_hash
from vlm.image import ImageError

RED = Image.new("RGB", (28, 28), "red")


@pytest.fixture(scope="module")
def plain(model, chat):
    return VLM(model, chat)


@pytest.fixture
def guarded(plain):
    """The same model behind a guard of words."""

    def call(*, policy=None, guard=None, **words):
        made = VLM(plain.model, plain.chat_format, shield=Shield(guard or WordGuard(**words), policy or Policy()))
        made.engine = plain.engine
        return made

    return call


class Answers(WordGuard):
    """Finds a category in every answer, besides those of the words."""

    def __init__(self, key, **words):
        super().__init__(**words)
        self.key = key

    def check(self, messages, response=None):
        return super().check(messages) if response is None else Verdict(False, (self.key,), 0.9, "response")


def refused(result, *names):
    return result.finish_reason == "content_filter" and all(n in result for n in names) and result.error is None


def test_answers_that_pass_are_those_of_the_model(plain, guarded):
    m, calls = guarded(zebra="S1"), ("How many?", "Is there a blue square?")
    for question in calls:
        assert m.answer(RED, question, max_new_tokens=5) == plain.answer(RED, question, max_new_tokens=5)
    assert m.caption([RED, RED], max_new_tokens=5) == plain.caption([RED, RED], max_new_tokens=5)
    assert m.chat([user("a", RED)], max_new_tokens=5) == plain.chat([user("a", RED)], max_new_tokens=5)
    assert "".join(m.chat([user("a", RED)], stream=True, max_new_tokens=5)) == plain.chat(
        [user("a", RED)], max_new_tokens=5
    )
    stages = [response is not None for _, response in m.shield.guard.asked]
    assert stages[:4] == [False, True, False, True]
    messages, response = m.shield.guard.asked[1]
    assert response == plain.answer(RED, "How many?", max_new_tokens=5) and messages[0]["content"][0]["type"] == "image"


def test_a_refused_prompt_never_reaches_the_model(guarded, monkeypatch):
    m = guarded(zebra="S1", gnu="S9")
    for name in ("run", "submit"):
        monkeypatch.setattr(m.engine, name, lambda *a, **k: pytest.fail("the model was asked"))
    for result in (
        m.answer(RED, "a zebra and a gnu?"),
        m.chat([user("zebra gnu", RED)]),
        *m.generate([[user("zebra gnu")]]),
        *m.chat([user("zebra gnu")], stream=True),
    ):
        assert refused(result, "Violent Crimes (S1)", "Indiscriminate Weapons (S9)") and "zebra" not in result
        assert result.completion_tokens == 0 and result.logprob is None


def test_a_refused_row_leaves_the_others_alone(plain, guarded):
    m, questions = guarded(zebra="S1"), ["How many?", "a zebra?", "red", "a star", "zebra", "a large green star"]
    found = m.answer([RED] * 6, questions, max_new_tokens=6, batch_size=2)
    alone = plain.answer([RED] * 6, questions, max_new_tokens=6)
    assert [refused(r) for r in found] == [False, True, False, False, True, False]
    assert [r for r in found if not refused(r)] == [r for i, r in enumerate(alone) if i not in (1, 4)]


def test_a_refused_answer_is_not_shown(plain, guarded):
    answer = plain.answer(RED, "How many?", max_new_tokens=6)
    found = guarded(guard=Answers("S10")).answer(RED, "How many?", max_new_tokens=6)
    assert refused(found) and found == "Sorry, I cannot show the answer: it falls under Hate (S10)."
    assert (found.prompt_tokens, found.completion_tokens) == (answer.prompt_tokens, answer.completion_tokens)


def test_errors_stand_where_they_stood(guarded, tmp_path):
    m, missing = guarded(zebra="S1"), tmp_path / "no.png"
    found = m.answer([RED, missing, RED], ["How many?", "b", "zebra"], max_new_tokens=3)
    assert [r.finish_reason for r in found][1:] == ["error", "content_filter"] and "no such file" in found[1].error
    with pytest.raises(ImageError, match="no such file"):
        m.answer(missing, "How many?")
    for stream in (False, True):
        with pytest.raises(ImageError, match="no such file"):
            m.chat([user("a", missing)], stream=stream)
        with pytest.raises(ValueError, match="context"):
            m.chat([user("star " * 900)], stream=stream)
    assert m.caption([]) == []


def test_the_guard_and_the_model_see_the_same_pixels(plain, guarded, tmp_path):
    """A file that is exchanged while the guard looks at it."""
    path, blue = tmp_path / "p.png", Image.new("RGB", (28, 28), "blue")
    RED.save(path)

    class Exchange(WordGuard):
        def check(self, messages, response=None):
            blue.save(path)
            return super().check(messages, response)

    m = guarded(guard=Exchange())
    found = m.answer(path, "How many?", max_new_tokens=6)
    wanted, other = (plain.answer(p, "How many?", max_new_tokens=6) for p in (RED, blue))
    assert found.logprob == pytest.approx(wanted.logprob, abs=1e-5) != pytest.approx(other.logprob, abs=1e-5)


def test_words_put_into_the_assistants_mouth_are_judged_besides_the_users(guarded):
    m = guarded(zebra="S1")
    assert refused(m.shield.run([[user("zebra"), said("Sure")]], lambda c: pytest.fail("asked"), 4)[0])
    assert refused(m.shield.run([[user("horse"), said("zebra")]], lambda c: pytest.fail("asked"), 4)[0])


def test_actions(plain, guarded):
    answer = plain.answer(RED, "gnu", max_new_tokens=5)
    policy = Policy(actions={"S9": "warn", "S1": "log"})
    warned = guarded(policy=policy, guard=Answers("S1", gnu="S9")).answer(RED, "gnu", max_new_tokens=5)
    assert warned == answer and warned.warnings == ("prompt: Indiscriminate Weapons (S9)",)
    assert warned.to_dict()["warnings"] == warned.warnings and answer.warnings == ()
    *_, last = guarded(policy=policy, gnu="S9").chat([user("gnu", RED)], stream=True, max_new_tokens=3)
    assert last == "" and last.warnings == ("prompt: Indiscriminate Weapons (S9)",)
    assert refused(guarded(policy=policy, gnu="S2").answer(RED, "gnu"))


def test_choices_are_judged_like_answers(plain, guarded):
    choices = ["a horse", "a gnu", "a star"]
    m = guarded(zebra="S1")
    found, alone = (v.choose(RED, "How many?", choices) for v in (m, plain))
    assert [c.text for c in found] == [c.text for c in alone] and found.finish_reason == "stop" and not found.error
    assert [r for _, r in m.shield.guard.asked] == [None, *choices]
    for question, words in (("a zebra?", {"zebra": "S1"}), ("How many?", {"gnu": "S1"})):
        m = guarded(**words)
        found = m.choose([RED, RED], [question, "red"], [["a horse", "a gnu"], ["yes", "no"]])
        assert [f.finish_reason for f in found] == ["content_filter", "stop"] and len(found[1]) == 2
        assert found[0] == [] and found[0].best is None and "Violent Crimes (S1)" in found[0].error
        assert m.choose(RED, question, ["a horse", "a gnu"]).finish_reason == "content_filter"  # and raises nothing
    warned = guarded(policy=Policy(actions={"S1": "warn"}), gnu="S1").choose(RED, "How many?", choices)
    assert len(warned) == 3 and warned.warnings == ("response: Violent Crimes (S1)",)
    with pytest.raises(ImageError):
        guarded().choose(b"no picture", "How many?", choices)


@pytest.mark.parametrize("stages, asked", [(("prompt",), [None]), (("response",), ["text"])])
def test_stages_that_are_left_out(guarded, stages, asked):
    m = guarded(policy=Policy(stages=stages))
    m.answer(RED, "How many?", max_new_tokens=3)
    "".join(m.chat([user("a")], stream=True, max_new_tokens=3))
    assert [r is None for _, r in m.shield.guard.asked] == [a is None for a in asked] * 2


def pieces_of(text):
    """A stream whose pieces are words; remembers whether it was closed and how far it was read."""
    state = {"read": 0, "closed": False}

    def stream():
        try:
            for word in text.split(" "):
                state["read"] += 1
                yield word + " "
        finally:
            state["closed"] = True

    return stream(), state


@pytest.mark.parametrize("window, overlap", [(1, 0), (4, 0), (4, 2), (5, 4), (64, 32)])
@pytest.mark.parametrize("at", [0, 3, 4, 7, 18, 19])
def test_a_stream_never_shows_a_window_that_was_judged_unsafe(window, overlap, at):
    words = [f"w{i}" for i in range(20)]
    words[at] = "zebra"
    shield = Shield(WordGuard(zebra="S1"), Policy(stream_window=window, stream_overlap=overlap))
    pieces, state = pieces_of(" ".join(words))
    *shown, last = shield.stream([user("a")], pieces)
    assert refused(last, "stopped", "Violent Crimes (S1)") and "zebra" not in "".join(shown) and state["closed"]
    assert " ".join(words).startswith("".join(shown).strip())
    judged = [r for _, r in shield.guard.asked if r is not None]
    assert all(len(r.split()) <= window for r in judged[:-1]) and "zebra" in judged[-1]
    assert all("zebra" not in r for r in judged[:-1]) and state["read"] <= max(at + window, 1) + 1


def test_a_phrase_over_the_edge_of_two_windows_is_seen(monkeypatch):
    words = "a b c one two d e f g h".split()
    for overlap, shown in ((0, "a b c one "), (1, "a b c ")):
        shield = Shield(WordGuard(**{"one two": "S1"}), Policy(stream_window=4, stream_overlap=overlap))
        *found, last = shield.stream([user("x")], pieces_of(" ".join(words))[0])
        text = "".join(found)
        assert refused(last) and (text.startswith(shown) if overlap == 0 else "one two" not in text)


def test_text_is_held_back_until_its_window_was_judged():
    """At the moment of every check nothing of the window has been given out."""
    out = []

    class Watch(WordGuard):
        def check(self, messages, response=None):
            if response is not None:
                seen.append(("".join(out), response))
            return super().check(messages, response)

    seen, text = [], " ".join(f"w{i}" for i in range(23))
    for piece in Shield(Watch(), Policy(stream_window=6, stream_overlap=2)).stream([user("a")], pieces_of(text)[0]):
        out.append(piece)
    assert "".join(out).strip() == text and len(seen) > 3
    for i, (shown, window) in enumerate(seen):
        assert window.split()[-1] not in shown.split() or i == len(seen) - 1
    assert seen[-1][1].strip() == text


def test_a_stream_that_is_left_ends_the_model(guarded):
    pieces, state = pieces_of("a b c d e f g h")
    stream = Shield(WordGuard(), Policy(stream_window=2, stream_overlap=0)).stream([user("x")], pieces)
    next(stream)
    stream.close()
    assert state["closed"] and state["read"] == 2


class Broken:
    def __init__(self, what):
        self.what = what

    def check(self, messages, response=None):
        if isinstance(self.what, BaseException):
            raise self.what
        return self.what() if callable(self.what) else self.what


@pytest.mark.parametrize(
    "what", [ValueError("secret words"), RuntimeError(), SystemExit(), None, "safe", True, (True,)]
)
def test_a_guard_that_fails_lets_nothing_through(guarded, what, caplog):
    m = guarded(guard=Broken(what))
    verdict = m.shield.check([user("a")])
    assert (verdict.safe, verdict.reason, verdict.source) == (False, "guard failed", "shield")
    results = [m.answer(RED, "a"), m.chat([user("a")]), *m.chat([user("a")], stream=True)]
    assert all(refused(r, "the safety check could not be completed") for r in results) and len(results) == 3
    assert "secret" not in caplog.text + "".join(results) and "guard failed" not in "".join(results)


def test_a_guard_that_takes_too_long_has_failed(guarded):
    release = threading.Event()
    m = guarded(guard=Broken(lambda: release.wait(30) and Verdict(True)), policy=Policy(timeout=0.05))
    try:
        assert refused(m.answer(RED, "a"), "could not be completed")
        assert m.shield.check([user("a")], "b").reason == "guard failed"
    finally:
        release.set()


def test_a_guard_that_fails_in_the_middle_of_a_stream():
    class Late(WordGuard):
        def check(self, messages, response=None):
            if response is not None and "w7" in response:
                raise RuntimeError
            return super().check(messages, response)

    text = " ".join(f"w{i}" for i in range(12))
    *shown, last = Shield(Late(), Policy(stream_window=3, stream_overlap=1)).stream([user("a")], pieces_of(text)[0])
    assert refused(last, "could not be completed") and "w6" in "".join(shown) and "w7" not in "".join(shown)


@pytest.mark.parametrize("keep", [False, True])
def test_the_audit_log_has_hashes_alone_unless_it_is_told_otherwise(guarded, tmp_path, keep):
    path = tmp_path / "audit.jsonl"
    m = guarded(policy=Policy(audit=str(path), audit_contents=keep, actions={"S9": "warn"}), zebra="S1", gnu="S9")
    answer = m.answer(RED, "a gnu", max_new_tokens=4)
    m.answer(RED, "a zebra")
    text = path.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(r["stage"], r["safe"], r["action"]) for r in lines] == [
        ("prompt", False, "warn"), ("response", True, "pass"), ("prompt", False, "refuse"),
    ]  # fmt: skip
    assert lines[0]["messages"][0] == {
        "role": "user", "sha256": text_hash("a gnu"), "pictures": [picture_hash(RED)],
        **({"text": "a gnu"} if keep else {}),
    }  # fmt: skip
    assert lines[1]["response"]["sha256"] == text_hash(answer) and lines[2]["categories"] == ["S1"]
    assert all((word in text) is keep for word in ("gnu", "zebra"))
    assert lines[0]["score"] == 0.9 and lines[0]["source"] == "words" and lines[0]["time"].endswith("Z")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_lines_are_on_the_disk_before_anything_is_said(tmp_path, monkeypatch):
    path, synced = tmp_path / "audit.jsonl", []
    monkeypatch.setattr("os.fsync", lambda file: synced.append(path.read_text().count("\n")))
    shield = Shield(WordGuard(), Policy(audit=str(path)))
    for _ in range(3):
        shield.check([user("a")])
    assert synced == [1, 2, 3]


def test_a_log_that_cannot_be_written_lets_nothing_through(guarded, tmp_path):
    m = guarded(policy=Policy(audit=str(tmp_path)))
    assert m.shield.check([user("a")]).reason == "guard failed" and refused(m.answer(RED, "a"))
    with pytest.raises(ValueError, match="audit: .*nowhere is no folder"):
        guarded(policy=Policy(audit=str(tmp_path / "nowhere" / "log")))


def test_a_warning_in_the_middle_of_a_stream_stays_a_warning():
    policy = Policy(stream_window=3, stream_overlap=0, actions={"S9": "warn"})

    class Windows(WordGuard):  # which no longer minds when it sees the whole
        def check(self, messages, response=None):
            return super().check(messages, "" if response is not None and len(response.split()) > 3 else response)

    *shown, last = Shield(Windows(gnu="S9"), policy).stream([user("a")], pieces_of("a gnu b c d e f")[0])
    assert "".join(shown) == "a gnu b c d e f " and last.warnings == ("response: Indiscriminate Weapons (S9)",)


def test_somebody_elses_guard_with_unknown_categories():
    verdict = Shield(Broken(Verdict(False, ("weapons",), 0.7)), Policy(action="warn", actions={"S4": "refuse"})).check(
        [user("a")]
    )
    assert not verdict.safe and "unknown category" in verdict.reason


def test_what_load_takes(tmp_path, plain):
    plain.save(tmp_path / "m")
    with pytest.raises(ValueError, match="found a policy without a guard"):
        vlm.load(tmp_path / "m", guard=None, policy=tmp_path / "p.yaml")
    with pytest.raises(ValueError, match="expected a folder or an object with check"):
        vlm.load(tmp_path / "m", guard=5)
    with pytest.raises(ValueError, match="no-guard: no such folder"):
        vlm.load(tmp_path / "m", guard=str(tmp_path / "no-guard"))
    with pytest.raises(ValueError, match="found no chat template"):
        vlm.load(tmp_path / "m", guard=tmp_path / "m")
    for wrong in ({"guard": tmp_path / "nowhere"}, {"guard": WordGuard(), "policy": tmp_path / "no.yaml"}):
        with pytest.raises(ValueError, match=r"nowhere|no\.yaml"):
            vlm.load("no/such-model", **wrong)  # said before the model is looked for
    assert vlm.load(tmp_path / "m", guard=None).shield is None
    (tmp_path / "p.yaml").write_text("threshold: 0.7")
    m = vlm.load(tmp_path / "m", guard=WordGuard(zebra="S1"), policy=tmp_path / "p.yaml")
    assert m.shield.policy.threshold == 0.7 and refused(m.answer(RED, "zebra"))
    with pytest.raises(ValueError, match="give one of the two"):
        load_shield(m.shield, Policy())
    assert load_shield(m.shield) is m.shield


def guard_folder(tmp_path, encoder=True):
    model, chat = guard_model(encoder), guard_chat() if encoder else guard_chat(TEXT, None)
    return save_checkpoint(Checkpoint(config=model.config, model=model, chat=chat), tmp_path / "guard")


def test_a_guard_of_text_before_a_model_that_sees(tmp_path, plain):
    folder = guard_folder(tmp_path, encoder=False)
    shield = load_shield(folder)
    assert isinstance(shield.guard.chat, TemplateChat)
    for model in (plain.model, guard_model()):
        with pytest.raises(ValueError, match="reads text only; take a vision guard"):
            VLM(model, plain.chat_format, shield=shield)
    VLM(guard_model(encoder=False), plain.chat_format, shield=shield)
    shield = load_shield(folder, Policy(pictures=False))
    assert isinstance(VLM(plain.model, plain.chat_format, shield=shield).shield.guard, LlamaGuard)


def test_the_command(run, tmp_path, monkeypatch):
    folder, picture = guard_folder(tmp_path), tmp_path / "p.png"
    RED.save(picture)
    asked = []

    def check(self, messages, response=None):
        asked.append((messages, response))
        bad = "zebra" in (response or messages[0]["content"][-1]["text"])
        return Verdict(not bad, ("S1",) if bad else (), 0.875 if bad else 0.125, "prompt", "test")

    monkeypatch.setattr(LlamaGuard, "check", check)
    assert run("guard", picture, "horse", "--guard", folder) == (0, "safe  P(unsafe) 0.125\n", "")
    assert run("guard", "zebra", "--guard", folder)[:2] == (1, "unsafe  P(unsafe) 0.875  Violent Crimes (S1)\n")
    code, out, _ = run("guard", picture, picture, "horse", "--response", "zebra", "--guard", folder, "--json", "-")
    assert code == 1 and json.loads(out)["categories"] == ["S1"] and json.loads(out)["action"] == "refuse"
    assert [len(m[0]["content"]) for m, _ in asked] == [2, 1, 3] and asked[2][1] == "zebra"
    (tmp_path / "p.yaml").write_text("thresholds: {S1: 0.9}\naudit: " + str(tmp_path / "log"))
    assert run("guard", "zebra", "--guard", folder, "--policy", tmp_path / "p.yaml")[0] == 0
    assert json.loads((tmp_path / "log").read_text())["action"] == "pass"
    for bad in (
        ("missing.png", "a", "--guard", folder),
        ("a", "--guard", "nowhere/at-all"),
        ("a", "--guard", folder, "--policy", "x"),
    ):
        code, _, err = run("guard", *bad)
        assert code == 2 and err.count("\n") == 1


def test_errors_of_the_guard_are_errors_of_the_command(run, tmp_path, monkeypatch):
    monkeypatch.setattr(LlamaGuard, "check", lambda *_: (_ for _ in ()).throw(ValueError("the context is too short")))
    code, out, err = run("guard", "a", "--guard", guard_folder(tmp_path))
    assert (code, out, err) == (2, "", "vlm: the context is too short\n")


def test_ask_with_a_guard(run, tmp_path, plain):
    """A random guard gives no verdict, so nothing passes it."""
    plain.save(tmp_path / "m")
    RED.save(tmp_path / "p.png")
    flags = ("--model", tmp_path / "m", "--guard", guard_folder(tmp_path), "--json", "-")
    code, out, _ = run("ask", tmp_path / "p.png", "How many?", *flags)
    assert (
        code == 0 and json.loads(out)["finish_reason"] == "content_filter" and "found unsafe" in json.loads(out)["text"]
    )
