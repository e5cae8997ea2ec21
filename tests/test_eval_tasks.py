"""Benchmarks are read as their makers distribute them, and what is wrong with files is said in one line."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from vlm.evaluation.prompts import find_prompt, prompts
from vlm.evaluation.tasks import TASKS, find_task, infer_metric, load_items
from vlm.evaluation.tasks.item import Item
from vlm.evaluation.tasks.references import REFERENCES
from vlm.image import ImageError


def png(color="red", size=(8, 6)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


def write(root, files: dict):
    """Files by name: bytes, text, arrays, or what becomes JSON (a list under a .jsonl name: a line each)."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, np.ndarray):
            np.save(path, content)
        elif name.endswith("l") and isinstance(content, list):
            path.write_text("\n".join(map(json.dumps, content)))
        elif isinstance(content, (dict, list)):
            path.write_text(json.dumps(content))
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def ten(answer):
    return [{"answer": answer, "answer_confidence": "yes", "answer_id": i} for i in range(1, 11)]


def vqa_files(prefix):
    return {
        f"{prefix}OpenEnded_mscoco_val2014_questions.json": {
            "questions": [
                {"question_id": 1, "image_id": 42, "question": "What?"},
                {"question_id": 2, "image_id": 42, "question": "Why?"},
            ]
        },
        f"{prefix}mscoco_val2014_annotations.json": {
            "annotations": [
                {
                    "question_id": 2,
                    "image_id": 42,
                    "question_type": "why",
                    "answer_type": "other",
                    "answers": ten("so"),
                },
                {
                    "question_id": 1,
                    "image_id": 42,
                    "question_type": "what",
                    "answer_type": "number",
                    "answers": ten("4"),
                },
            ]
        },
        "val2014/COCO_val2014_000000000042.jpg": png(),
    }


SCIENCE = {"question": "Which?", "choices": ["a cat", "a dog"], "answer": 1, "hint": "", "image": None, "task": "",
           "grade": "grade2", "subject": "natural science", "topic": "t", "split": "test"}  # fmt: skip
MMMU = {"question": "See <image 1>. Which?", "options": "['1', \"2's\", '<image 2>']", "answer": "C",
        "question_type": "multiple-choice", "image_1": "m1.png", "image_2": "m2.png", "image_3": None}  # fmt: skip
FORMS = {  # task -> files, then the first item: id, answers, choices, type
    "vqav2": (vqa_files("v2_"), "1", ("4",) * 10, (), "number"),
    "okvqa": (vqa_files(""), "1", ("4",) * 10, (), "number"),
    "vizwiz": (
        {"val.json": [{"image": "v_1.jpg", "question": "What?", "answers": ten("tea"), "answer_type": "other",
                       "answerable": 1}], "val/v_1.jpg": png()},
        "v_1.jpg", ("tea",) * 10, (), "other",
    ),
    "textvqa": (
        {"TextVQA_0.5.1_val.json": {"dataset_name": "textvqa", "data": [
            {"question_id": 34602, "question": "What?", "image_id": "003a", "answers": ["nokia"] * 10}]},
         "train_images/003a.jpg": png()},
        "34602", ("nokia",) * 10, (), "",
    ),
    "docvqa": (
        {"val_v1.0_withQT.json": {"dataset_name": "x", "data": [
            {"questionId": 49153, "question": "Total?", "image": "documents/p_1.png", "answers": ["3", "three"],
             "question_types": ["table/list"]}]}, "documents/p_1.png": png()},
        "49153", ("3", "three"), (), "table/list",
    ),
    "infovqa": (
        {"infographicsVQA_val_v1.0_withQT.json": {"data": [
            {"questionId": 65718, "question": "Who?", "image_local_name": "i.jpeg", "answers": ["x"]}]},
         "images/i.jpeg": png()},
        "65718", ("x",), (), "",
    ),
    "chartqa": (
        {"test/test_human.json": [{"imgname": "c.png", "query": "How many?", "label": "14"}],
         "test/test_augmented.json": [{"imgname": "c.png", "query": "Which?", "label": 2}], "test/png/c.png": png()},
        "test_augmented-0", ("2",), (), "augmented",
    ),
    "sroie": (
        {"key/000.json": {"company": "BOOK SDN", "date": "1/2/2018", "address": "A", "total": "9.00"},
         "img/000.jpg": png()},
        "000-company", ("BOOK SDN",), (), "company",
    ),
    "gqa": (
        {"testdev_balanced_questions.json": {"201307251": {
            "question": "Is it?", "imageId": "n1", "answer": "no", "types": {"structural": "verify"}}},
         "images/n1.jpg": png()},
        "201307251", ("no",), (), "verify",
    ),
    "scienceqa": (
        {"problems.json": {"4": SCIENCE, "5": {**SCIENCE, "image": "image.png", "hint": "Look."},
                           "6": {**SCIENCE, "split": "train"}},
         "pid_splits.json": {"train": ["6"], "test": ["4", "5"]}, "images/test/5/image.png": png()},
        "4", ("B",), ("a cat", "a dog"), "none",
    ),
    "ai2d": (
        {"ai2d/questions/0.png.json": {"imageName": "0.png", "questions": {"What is A?": {
            "questionId": "0.png-0", "answerTexts": ["x", "y"], "correctAnswer": 1, "abcLabel": True}}},
         "ai2d/images/0.png": png()},
        "0.png-0", ("B",), ("x", "y"), "letters",
    ),
    "mmmu": (
        {"index.jsonl": [{"id": "validation_Art_Theory_1", **MMMU}], "images/m1.png": png(),
         "images/m2.png": png("blue")},
        "validation_Art_Theory_1", ("C",), ("1", "2's", "<image 2>"), "Art_Theory",
    ),
    "pope": (
        {"coco_pope_random.json": '{"question_id": 1, "image": "p.jpg", "text": "Is there?", "label": "yes"}\n',
         "coco_pope_popular.json": '{"question_id": 1, "image": "p.jpg", "text": "Is there?", "label": "no"}\n',
         "val2014/p.jpg": png()},
        "popular-1", ("no",), (), "popular",
    ),
    "coco-caption": (
        {"captions_val2014.json": {"images": [{"id": 7, "file_name": "c.jpg"}], "annotations": [
            {"image_id": 7, "id": 1, "caption": "A dog."}, {"image_id": 7, "id": 2, "caption": "One dog."}]},
         "val2014/c.jpg": png()},
        "7", ("A dog.", "One dog."), (), "",
    ),
    "nocaps": (
        {"nocaps_val_4500_captions.json": {
            "images": [{"id": 0, "file_name": "n.jpg", "domain": "near-domain"}],
            "annotations": [{"image_id": 0, "caption": "A cup."}]}, "n.jpg": png()},
        "0", ("A cup.",), (), "near-domain",
    ),
    "flickr30k": (
        {"dataset_flickr30k.json": {"images": [
            {"filename": "a.jpg", "split": "train", "sentences": []},
            {"filename": "f.jpg", "split": "test", "sentences": [{"raw": "A man."}]}]}, "f.jpg": png()},
        "f.jpg", ("A man.",), (), "",
    ),
    "flickr8k": (
        {"index.jsonl": [{"id": "k", "images": ["k.webp"], "captions": ["A boy."]}], "images/k.webp": png()},
        "k", ("A boy.",), (), "",
    ),
    "nlvr": (
        {"dev.json": '{"identifier": "9-1", "directory": "3", "sentence": "There is a box.", "label": "true"}\n',
         "images/3/dev-9-1-0.png": png()},
        "9-1", ("yes",), (), "",
    ),
    "shapes": (
        {"val.input.npy": np.full((1, 30, 30, 3), (255, 0, 0), np.uint8), "val.query_str.txt": "is red\n",
         "val.output": "false\n"},
        "val-0", ("no",), (), "",
    ),
    "daquar": (
        {"qa.894.raw.test.txt": "what is on the desk in the image3 ?\nbook, lamp\n", "images/image3.png": png()},
        "0", ("book, lamp",), (), "",
    ),
    "own": (
        {"index.jsonl": [{"id": "x", "image": "a.png", "question": "Which?", "choices": ["u", "v"], "answer": "v"}],
         "images/a.png": png()},
        "x", ("B",), ("u", "v"), "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_official_files_are_read_from_a_folder_and_from_a_zip(task, tmp_path):
    files, name, answers, choices, kind = FORMS[task]
    root = write(tmp_path / "data", files)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as pack:
        for path in sorted(root.rglob("*.*")):
            if path.is_file():
                pack.write(path, f"top/{path.relative_to(root)}" if task != "shapes" else path.name)
    for place in (root, tmp_path / "data.zip"):
        items = load_items(task, place)
        item = items[0]
        assert (item.answers, item.choices, item.type) == (answers, choices, kind)
        assert item.id == name or task == "shapes"
        assert all(image.open().mode == "RGB" for i in items for image in i.images)
        assert {i.group for i in items if i.images} and find_prompt(TASKS[task].prompt).ask(item)


def test_every_reference_belongs_to_a_task():
    assert set(REFERENCES) <= set(TASKS)
    assert all(r.source and 0 < r.score < 100 or r.model == "majority" for rows in REFERENCES.values() for r in rows)


def test_details_of_single_forms(tmp_path):
    def load(task):
        return load_items(task, write(tmp_path / task, FORMS[task][0]))

    assert load("vqav2")[0].group == load("vqav2")[1].group  # two questions about one picture
    assert load("shapes")[0].images[0].open().getpixel((3, 3)) == (0, 0, 255)  # stored as BGR
    assert load("daquar")[0].question == "what is on the desk ?"
    assert [i.type for i in load("scienceqa")] == ["none", "image"]
    assert load("scienceqa")[1].question == "Context: Look.\nWhich?"
    assert [i.type for i in load("sroie")] == ["company", "date", "address", "total"]
    assert len({i.id for i in load("pope")}) == 2
    assert [i.open().getpixel((0, 0)) for i in load("mmmu")[0].images] == [(255, 0, 0), (0, 0, 255)]
    assert load_items("pope", tmp_path / "pope" / "coco_pope_random.json")[0].type == "random"


def own(tmp_path, *rows, **files):
    return write(tmp_path, {"index.jsonl": list(rows), "images/a.png": png(), **files})


def test_a_question_may_have_no_picture_or_two(tmp_path):
    write(tmp_path, {"images/b.png": png("blue")})
    items = load_items(
        "own",
        own(tmp_path, {"question": "Two?", "images": ["a.png", "b.png"], "answers": ["x", "y"]}, {"question": "None?"}),
    )
    assert [len(i.images) for i in items] == [2, 0] and items[0].answers == ("x", "y") and items[1].id == "2"
    assert items[0].group != items[1].group


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "holds no questions"),
        ([{"id": "1", "image": "a.png"}], "expected question"),
        ([{"id": "1", "image": "a.png", "question": "?"}] * 2, "stand twice (such as 1)"),
        ([{"image": "no.png", "question": "?"}], "none of the 1 pictures, such as no.png"),
        ([{"image": "a.png", "question": "?", "choices": ["u", "v"], "answer": "w"}], "'w' is none of the choices"),
        ([{"image": "a.png", "question": "?", "choices": ["u", "v"], "answer": 2}], "answer 2 of 2 choices"),
        ([{"image": "a.png", "question": "?", "array": "a.npy", "row": "x"}], "invalid literal"),
    ],
)
def test_odd_rows_are_one_clear_error(tmp_path, rows, words):
    with pytest.raises(ValueError) as error:
        load_items("own", own(tmp_path, *rows))
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("index.jsonl", "{\n", "line 1 is not JSON"),
        ("index.jsonl", "[1]\n", "line 1 is list"),
        ("index.jsonl", b"\xff\xfe", "not UTF-8"),
        ("other.jsonl", "{}", "found no index.jsonl"),
    ],
)
def test_damaged_files_are_one_clear_error(tmp_path, name, content, words):
    with pytest.raises(ValueError) as error:
        load_items("own", write(tmp_path, {name: content}))
    assert words in str(error.value)


def test_a_damaged_zip_is_one_clear_error(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as pack:
        pack.writestr("index.jsonl", '{"image": "a.png", "question": "What?"}')
        pack.writestr("images/a.png", png())
    whole = (tmp_path / "d.zip").read_bytes()
    (tmp_path / "d.zip").write_bytes(whole.replace(b"What?", b"Whit?"))
    with pytest.raises(ValueError, match="this zip cannot be read .*index.jsonl"):
        load_items("own", tmp_path / "d.zip")
    (tmp_path / "d.zip").write_bytes(whole.replace(png(), png()[:-1] + b"?"))
    with pytest.raises(ImageError, match="images/a.png: cannot be read"):
        load_items("own", tmp_path / "d.zip")[0].images[0].open()


def test_questions_and_annotations_of_different_splits(tmp_path):
    files = vqa_files("v2_")
    files["v2_mscoco_val2014_annotations.json"]["annotations"].pop()
    with pytest.raises(ValueError, match="1 questions .* have no answer in .* .the first is 1"):
        load_items("vqav2", write(tmp_path, files))
    (tmp_path / "v2_mscoco_val2014_annotations.json").unlink()
    assert load_items("vqav2", tmp_path)[0].answers == ()  # as for a test split


def test_several_question_files_are_told_apart_by_name(tmp_path):
    write(tmp_path, vqa_files("v2_") | {"v2_OpenEnded_mscoco_train2014_questions.json": {"questions": []}})
    with pytest.raises(ValueError, match="name one of them: --data"):
        load_items("vqav2", tmp_path)
    assert len(load_items("vqav2", tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json")) == 2


def test_a_missing_or_broken_picture_is_an_error_of_its_own(tmp_path):
    rows = [{"image": n, "question": "?", "id": n} for n in ("a.png", "no.png", "bad.png")]
    write(tmp_path, {"images/bad.png": png()[:40]})
    good, missing, bad = load_items("own", own(tmp_path, *rows))
    assert good.images[0].open().size == (8, 6) and good.images[0].size() == (6, 8)
    with pytest.raises(ImageError, match="no.png: no such picture in the data"):
        missing.images[0].open()
    with pytest.raises(ImageError, match="bad.png"):
        bad.images[0].open()


def test_a_picture_outside_of_the_data_is_not_read(tmp_path):
    write(tmp_path, {"secret.png": png()})
    root = own(
        tmp_path / "data", {"id": "1", "image": "../secret.png", "question": "?"}, {"image": "a.png", "question": "?"}
    )
    with pytest.raises(ImageError, match="no such picture"):
        load_items("own", root)[0].images[0].open()


def test_one_of_two_pictures_of_the_same_name_is_never_guessed(tmp_path):
    write(tmp_path, {"images/u/p.png": png("red"), "images/v/p.png": png("blue")})
    rows = [{"id": n, "image": n, "question": "?"} for n in ("v/p.png", "w/p.png")]
    exact, unknown = load_items("own", own(tmp_path, *rows))
    assert exact.images[0].open().getpixel((0, 0)) == (0, 0, 255) and unknown.images[0].missing


def test_unknown_names_get_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'docvqa'"):
        find_task("docvq")
    with pytest.raises(ValueError, match="did you mean 'short'"):
        find_prompt("shrt")
    with pytest.raises(ValueError, match="no such folder"):
        load_items("own", tmp_path / "nowhere")


def test_prompts_ask_what_they_say():
    item = Item("1", "Which {choices} of <image 1>?", choices=("a {question}", "b"))
    assert (
        find_prompt("letter").ask(item).startswith("Which {choices} of <image 1>?\nA. a {question}\nB. b\nAnswer with")
    )
    assert find_prompt("bare").ask(item).endswith("\nA. a {question}\nB. b")
    plain = Item("1", "How many?")
    assert find_prompt("bare").ask(plain) == "How many?"
    assert find_prompt("short").ask(plain) == "How many?\nAnswer the question using a single word or phrase."
    assert find_prompt("letter").ask(plain).startswith("How many?\nAnswer")
    assert all(t.prompt in prompts() for t in TASKS.values())


def test_prompts_of_another_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("version: 7\nprompts: {mine: {text: 'Q {question}', max_new_tokens: 3, regime: mine}}\n")
    assert find_prompt("mine", str(path)).version == 7
    path.with_name("bad.yaml").write_text("prompts: {mine: {txt: x}}\n")
    with pytest.raises(ValueError, match="bad.yaml: .* expected version and prompts"):
        find_prompt("mine", str(path.with_name("bad.yaml")))


def test_rows_tell_their_metric():
    def metric(**fields):
        return infer_metric([Item("1", "?", **fields)])

    assert metric(choices=("a", "b")) == "choice" and metric(answers=("a",)) == "exact"
    assert metric(answers=("a",) * 10) == "vqa"
    with pytest.raises(ValueError, match="choice and exact"):
        infer_metric([Item("1", "?", choices=("a",)), Item("2", "?")])
