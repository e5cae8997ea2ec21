"""Take the README's pictures of the demo: python docs/screenshot.py [--model FOLDER] [--example N].

Starts the page with a model, clicks an example in headless Chromium, sends the question, waits until the streamed
answer stands, and writes docs/images/demo-{light,dark,narrow}.png. Needs `pip install -e .[docs]` and a chromium.
"""

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import vlm  # noqa: E402
from demo.app import serve  # noqa: E402

IMAGES = Path(__file__).parent / "images"
VIEWS = {  # name -> (width, height, theme)
    "light": (1200, 860, "light"),
    "dark": (1200, 860, "dark"),
    "narrow": (390, 844, "light"),
}
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def take(browser, address: str, name: str, example: int) -> tuple[str, list[str]]:
    """One view: (the answer on the page, what the browser's console complained about)."""
    width, height, theme = VIEWS[name]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto(f"{address}?__theme={theme}")
    rows = page.locator(".gallery-item, .tr-body, tbody tr")
    rows.nth(example).click(timeout=60_000)
    question = page.get_by_label("Question", exact=True)
    question.wait_for()
    page.wait_for_function("e => e.value.trim().length > 0", arg=question.element_handle(), timeout=60_000)
    page.locator("img[src*='scene']").first.wait_for()
    question.press("Enter")
    answer = page.get_by_test_id("bot").last
    answer.wait_for(timeout=120_000)
    text, same = "", 0
    while same < 4:  # the stream has ended when the words no longer change
        page.wait_for_timeout(500)
        now = answer.inner_text().strip()
        text, same = now, same + 1 if now and now == text else 0
    wide = page.evaluate("document.documentElement.scrollWidth")
    if wide > width:
        complaints.append(f"the page is {wide} pixels wide in a window of {width}")
    page.screenshot(path=IMAGES / f"demo-{name}.png", full_page=name == "narrow")
    page.close()
    return text, complaints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="model folder; the shipped model where absent")
    parser.add_argument("--example", type=int, default=0, help="which example to ask, from 0")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "/usr/bin/chromium")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    IMAGES.mkdir(exist_ok=True)
    served = serve(vlm.load(options.model), port=None, block=False)
    failed = False
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=options.chromium, args=list(QUIET))
            for name in VIEWS:
                text, complaints = take(browser, served.local_url, name, options.example)
                print(f"demo-{name}.png: {text!r}", *complaints, sep="\n  ")
                failed |= not text or text.startswith("⚠")
            browser.close()
    finally:
        served.close()
    if failed:
        sys.exit("no answer on the page")


if __name__ == "__main__":
    main()
