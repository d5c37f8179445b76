"""The page in a real browser, before the real server: what a reader sees, does and takes along."""

import base64
import csv
import hashlib
import io
import re
import threading
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from contrast import find_faint
from page_server import PLAIN, WEBGL, Visitor, launch, serve
from playwright.sync_api import sync_playwright
from serving import make_model, make_study, make_zip

from hemtrace import serve as serve_package
from hemtrace.serve import Limits, prediction

PAGE = Path(serve_package.__file__).parent / "page"
HTML_NAME = "<script>alert(1)</script>^<b>Eve</b>"
HTML_DESCRIPTION = "<img src=x onerror=alert(1)>"
# Ten slices: the middle one is shown first where no bleed is found, the surest where one is.
COUNT = 10


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def address(model, tmp_path_factory):
    with serve(model, tmp_path_factory.mktemp("serve")) as address:
        yield address


@pytest.fixture(scope="module")
def playwright():
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browsers(playwright):
    browsers = {True: launch(playwright, WEBGL), False: launch(playwright, PLAIN)}
    yield browsers
    for browser in browsers.values():
        browser.close()


@pytest.fixture
def visit(browsers, address):
    """Make visitors; at the end nothing may have gone wrong for any of them."""
    visitors = []

    def make(at=address, webgl=False, **given):
        if webgl:  # a CPU draws as many pixels as it must
            given = {"viewport": {"width": 1000, "height": 640}} | given
        visitors.append(Visitor(browsers[webgl], at, **given))
        return visitors[-1]

    yield make
    for visitor in visitors:
        visitor.close()


@pytest.fixture(scope="module")
def study():
    return make_study(COUNT)


def look(page):
    """The picture as pixels (rows, columns, RGB), without corners and letters at its rim."""
    seen = None
    for _ in range(20):
        # Until it rests: what a key or a click asked for may still be drawn.
        page.wait_for_timeout(60)
        content = page.locator("#screen").screenshot()
        if content == seen:
            break
        seen = content
    shot = cv2.imdecode(np.frombuffer(content, np.uint8), 1)
    rows, columns = shot.shape[:2]
    return shot[rows // 10 : -rows // 10, columns // 8 : -columns // 8, ::-1].astype(int)


def show_heat(page, label):
    """Switch the heat map on, or off where no label is given, and wait until it is."""
    page.set_checked("#heat", bool(label))
    if label:
        page.select_option("#label", label)
    page.wait_for_selector(f"#screen[data-painted='{label}']")


def colourful(picture):
    """Count pixels that are not grey."""
    return int((np.ptp(picture, axis=2) > 24).sum())


def place(page):
    return int(page.text_content("#corner-slice").split("/")[0])


WIDTH = "document.documentElement.scrollWidth"
UNNAMED = """
() => [...document.querySelectorAll("button, a, input, select, [role=img]")]
  .filter((one) => one.checkVisibility())
  .filter((one) => !(one.ariaLabel || one.labels?.length || one.textContent.trim()))
  .map((one) => one.outerHTML)
"""


def check_readable(page):
    """Every visible text stands out from its ground, in both themes."""
    for _ in range(2):
        assert find_faint(page) == []
        page.keyboard.press("t")


def test_study_is_sent_watched_and_read(visit, study, monkeypatch):
    # The server goes on when a slice was seen: on a busy machine the last would come before.
    show, seen = prediction._show, threading.Event()

    def wait(*given):
        show(*given)
        seen.wait(60)

    monkeypatch.setattr(prediction, "_show", wait)
    visitor = visit(webgl=True)
    page = visitor.open()
    assert "Research use only" in page.text_content("header")
    assert "computer-made heads" in page.text_content("#synthetic")
    assert page.is_visible("#synthetic")
    assert "goes to the server on this computer" in page.text_content(".promise")
    visitor.send(study)
    page.wait_for_selector("#preview:not([hidden])")
    seen.set()
    visitor.wait()
    assert page.text_content("#answer") == "Bleed suspected"
    assert not page.is_visible("#scores"), "with an answer its figures are not folded"
    assert page.is_visible("#types")
    told = page.text_content("#verdict")
    for words in ("score", "threshold", "balanced", "Sensitivity90 %", "Specificity80 %"):
        assert words in told, words
    assert "40 validation patients, all computer-made" in told
    assert "Doe, Jane" in page.text_content("#patient")
    assert "test_efficientnet" in page.text_content("#model-line")
    assert "trained on computer-made heads" in page.text_content("#model-line")
    assert page.evaluate("document.activeElement.id") == "answer", "a screen reader is led there"
    assert "Bleed suspected" in page.text_content("#live")


def test_heat_maps_are_counted_while_they_are_drawn(visit, study, monkeypatch):
    count, seen = prediction._count_maps, threading.Event()

    def wait(job, made, wanted):
        count(job, made, wanted)
        if made:
            seen.wait(60)

    monkeypatch.setattr(prediction, "_count_maps", wait)
    monkeypatch.setattr("hemtrace.predict.gradient_maps.AT_ONCE", 4)
    visitor = visit()
    page = visitor.open()
    visitor.send(study)
    page.get_by_text("4 of 10 heat maps drawn").wait_for()
    assert page.text_content("#working-title") == "Drawing heat maps"
    assert "Drawing heat maps" in page.text_content("#live")
    assert not page.evaluate("document.querySelector('#progress').hasAttribute('value')")
    seen.set()
    visitor.wait()
    assert page.text_content("#answer") == "Bleed suspected"


def test_slices_and_windows_are_chosen_by_wheel_keys_slider_and_curve(visit, study):
    visitor = visit(webgl=True)
    page = visitor.read(study)
    page.keyboard.press("Home")
    assert place(page) == 1
    page.keyboard.press("ArrowUp")
    assert place(page) == 2
    page.keyboard.press("End")
    page.keyboard.press("ArrowUp")
    assert place(page) == COUNT
    page.hover("#screen")
    page.mouse.wheel(0, 120)
    page.wait_for_timeout(50)
    assert place(page) == COUNT - 2
    page.focus("#slice")
    page.keyboard.press("ArrowRight")
    assert place(page) == COUNT - 1
    assert f"Slice {COUNT - 1} of {COUNT}" in page.get_attribute("#slice", "aria-valuetext")
    box = page.locator("#curve").bounding_box()
    page.mouse.click(box["x"] + 36, box["y"] + 40)
    assert place(page) == 1
    show_heat(page, "")
    page.uncheck("#outlines")
    brain = look(page)
    assert np.ptp(brain) > 200
    assert colourful(brain) == 0
    page.keyboard.press("2")
    assert page.locator("#windows input:checked + span").text_content() == "Subdural"
    page.click("#windows label:has-text('Bone')")
    # In the wide window of bone, brain and bone are told apart; in that of brain bone is white.
    bone = look(page)
    assert abs(brain - bone).max() > 40
    before = page.text_content("#corner-window")
    box = page.locator("#screen").bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 340, box["y"] + 230, steps=4)
    page.mouse.up()
    centre, width = map(int, re.findall(r"-?\d+", page.text_content("#corner-window")))
    was = list(map(int, re.findall(r"-?\d+", before)))
    assert (centre, width) == pytest.approx((was[0] + 30, was[1] + 80), abs=5)
    page.keyboard.press("r")
    assert page.text_content("#corner-window") == "L 40  W 80"
    page.check("#planes")
    assert abs(look(page) - brain).max() > 40
    page.click("#help")
    page.uncheck("#use-keys")
    page.keyboard.press("Escape")
    page.keyboard.press("End")
    assert place(page) == 1, "keys can be turned off"


def tell_sides(page, orientation):
    """Let the server tell another orientation of every series."""

    def change(route):
        answer = route.fetch()
        told = answer.json()
        for one in (series for study in told["studies"] for series in study["series"]):
            one["orientation"] = orientation
        route.fulfill(response=answer, json=told)

    page.route(re.compile("/api/v1/studies/[^/]+$"), change)


@pytest.mark.parametrize(
    ("orientation", "letters", "webgl"),
    [
        ("LP", "RLAP", True),
        ("RP", "LRAP", True),
        ("LP", "RLAP", False),
        ("RA", "LRPA", False),
        (None, "", False),
    ],
)
def test_letters_are_the_sides_of_the_header(visit, study, orientation, letters, webgl):
    visitor = visit(webgl=webgl)
    page = visitor.open()
    tell_sides(page, orientation)
    visitor.send(study)
    visitor.wait()
    edges = [f"#side-{edge}" for edge in ("left", "right", "top", "bottom")]
    assert "".join(page.text_content(edge) for edge in edges) == letters
    assert all(page.is_visible(edge) for edge in edges) == bool(letters)
    assert page.is_visible("#side-unknown") != bool(letters)
    boxes = [page.locator(edge).bounding_box() for edge in edges]
    if letters:
        assert boxes[0]["x"] < boxes[2]["x"] < boxes[1]["x"]
        assert boxes[2]["y"] < boxes[0]["y"] < boxes[3]["y"]
    # The three planes have letters of their own, which are right for one orientation only.
    assert page.is_visible("#planes-line") == (webgl and orientation == "LP")
    page.keyboard.press("m")
    assert page.is_checked("#planes") == (webgl and orientation == "LP")


@pytest.mark.parametrize(
    ("directions", "answer", "said", "letters"),
    [
        ([-1, 0, 0, 0, -1, 0], "No answer", "turned or mirrored", "LRPA"),
        (None, "Bleed suspected", "left and right are not known", ""),
    ],
)
def test_what_lies_otherwise_is_told_with_the_answer(visit, directions, answer, said, letters):
    page = visit().read(make_study(COUNT, uid="1.2.9", ImageOrientationPatient=directions))
    assert page.text_content("#answer") == answer
    assert said in page.text_content("#verdict")
    edges = ("left", "right", "top", "bottom")
    assert "".join(page.text_content(f"#side-{edge}") for edge in edges) == letters
    assert page.is_visible("#side-unknown") != bool(letters)
    assert page.is_visible("#scores") == (answer == "No answer"), "folded where there is no answer"


def test_overlay_is_shown_faded_switched_and_never_without_a_bleed(visit, study):
    visitor = visit(webgl=True)
    page = visitor.read(study)
    page.uncheck("#outlines")
    heat = look(page)
    assert colourful(heat) > 500
    show_heat(page, "")
    plain = look(page)
    assert colourful(plain) == 0
    show_heat(page, "any")
    page.fill("#opacity", "90")
    assert abs(look(page) - plain).sum() > 1.4 * abs(heat - plain).sum()
    show_heat(page, "")
    page.check("#outlines")
    outlined = look(page)
    assert colourful(outlined) > 50
    assert re.search(r"region.* of any bleed\. 1: [\d.]+ (mm|cm)²", page.text_content("#here"))
    show_heat(page, "subdural")
    page.wait_for_selector("#corner-overlay:has-text('subdural')")
    show_heat(page, "")
    assert re.search(r"[\d.]+ mL", page.text_content("#types"))
    # The same study at a point that finds nothing: its images stay as they are.
    show_heat(page, "any")
    page.select_option("#point", "rule-in")
    page.wait_for_selector("#verdict[data-answer=no-bleed]")
    page.wait_for_selector("#screen[data-painted='']")
    assert page.text_content("#answer") == "No bleed found"
    assert not page.is_visible("#heat-group")
    assert "shown as they are" in page.text_content("#untouched")
    clear = look(page)
    assert colourful(clear) == 0
    assert np.array_equal(clear, plain)
    page.keyboard.press("h")
    assert np.array_equal(look(page), plain)
    assert not re.search(r"\d mL", page.text_content("#types"))


def test_exports_are_whole(visit, study):
    visitor = visit()
    page = visitor.read(study)
    with page.expect_download() as table:
        page.click("#export-csv")
    rows = list(csv.DictReader(Path(table.value.path()).read_text("utf-8-sig").splitlines()))
    assert len(rows) == COUNT
    assert table.value.suggested_filename == "hemtrace-table.csv"
    with page.expect_download() as results:
        page.click("#export-dicom")
    with zipfile.ZipFile(results.value.path()) as packed:
        found = [pydicom.dcmread(io.BytesIO(packed.read(name))) for name in packed.namelist()]
    assert "SR" in {one.Modality for one in found}
    assert {one.StudyInstanceUID for one in found} == {"1.2.3.4"}
    with visitor.context.expect_page() as opened:
        page.click("#export-summary")
    summary = opened.value
    summary.wait_for_load_state()
    visitor.watch(summary)
    assert "Doe" in summary.text_content("body")
    assert "Research use only" in summary.text_content("body")
    page.click("#delete")
    page.wait_for_selector("#start:not([hidden])")
    address = summary.url.replace("/summary.html", "").partition("?")[0]
    assert page.request.get(address).status == 404, "deleted means gone"


def test_wrong_and_huge_files_are_refused_in_a_sentence(visit, model, tmp_path, study):
    visitor = visit()
    page = visitor.open()
    check_readable(page)
    visitor.send({"letter.txt": b"Dear colleague", "scan.dcm": b"\0" * 200})
    page.wait_for_selector("#nothing:not([hidden])")
    check_readable(page)
    assert "2 files" in page.text_content("#nothing-text")
    assert "letter.txt" in page.text_content("#nothing-list")
    page.click("#nothing-again")
    assert page.is_visible("#choose-files")
    with serve(model, tmp_path, Limits(upload_bytes=300_000)) as small:
        visitor = visit(small)
        page = visitor.open()
        visitor.send(study)
        page.wait_for_selector("#alert:not([hidden])")
        assert re.search(r"1\.\d MB.*300 kB", page.text_content("#alert-text"))
        # A page that does not know the limit is refused by the server.
        visitor.expected += ["413", "ERR_CONNECTION", "net::ERR_FAILED", "ERR_ABORTED"]
        page.click("#alert-close")
        page.route("**/api/v1/model", lambda route: raise_limit(route))
        page.reload()
        page.wait_for_selector("body[data-ready]")
        visitor.send(study)
        page.wait_for_selector("#alert:not([hidden])")
        assert "one study at a time" in page.text_content("#alert-text").lower()
        assert page.is_visible("#start")


def raise_limit(route):
    answer = route.fetch()
    told = answer.json()
    told["limits"]["upload_bytes"] = 10**9
    route.fulfill(response=answer, json=told)


def test_two_users_at_once_see_their_own_study_and_names_stay_text(visit):
    first, second = visit(), visit()
    first.open()
    second.open()
    html = {"PatientName": HTML_NAME, "StudyDescription": HTML_DESCRIPTION}
    first.send(make_study(COUNT, PatientName="First^Ann", seed=20, uid="1.2.5"))
    second.send(make_study(COUNT, seed=50, uid="1.2.6", **html))
    names = ("First, Ann", "<script>alert(1)</script>, <b>Eve</b>")
    for visitor, name in zip((first, second), names, strict=True):
        visitor.wait()
        assert name in visitor.page.text_content("#patient")
    assert HTML_DESCRIPTION in second.page.text_content("#patient")
    assert second.page.locator("#patient").locator("img, b, script").count() == 0
    stored = [v.page.evaluate("sessionStorage.getItem('hemtrace.study')") for v in (first, second)]
    assert stored[0] != stored[1]
    assert all(len(one) >= 43 for one in stored)


def test_no_answer_is_as_plain_as_a_bleed(visit):
    visitor = visit()
    page = visitor.read(make_study(3))
    assert page.text_content("#answer") == "No answer"
    assert page.locator("#answer").bounding_box()["height"] > 20
    assert "3 slices" in page.text_content("#reasons .stop")
    assert not page.is_visible("#gauge"), "a score beside no answer reads as one"
    assert page.text_content("#figures") == ""
    assert not page.is_visible("#types")
    assert not page.is_visible("#folded-figures")
    assert " %" not in page.inner_text("#verdict")
    page.click("#scores summary")
    assert "Score of the study" in page.inner_text("#folded-figures")
    assert "decide nothing" in page.inner_text("#scores #types-note")
    assert not page.is_visible("#heat-group")
    assert colourful(look(page)) == 0
    assert "No answer" in page.text_content("#live")
    check_readable(page)


def test_several_studies_in_a_zip_are_chosen_between(visit):
    both = make_study(COUNT, PatientName="First^Ann", uid="1.2.7") | {
        f"other/{name}": content
        for name, content in make_study(3, PatientName="Short^Bo", uid="1.2.8").items()
    }
    both["notes.txt"] = b"no DICOM"
    visitor = visit()
    page = visitor.read({"archive.zip": make_zip(both)})
    offered = page.locator("#studies option").all_text_contents()
    assert [text[:6] for text in offered] == ["1 of 2", "2 of 2"]
    assert sum("Bleed suspected" in text for text in offered) == 1
    assert sum("No answer" in text for text in offered) == 1
    other = next(k for k, text in enumerate(offered) if "Short, Bo" in text)
    page.select_option("#studies", str(other))
    page.wait_for_selector("#verdict[data-answer=no-answer]")
    assert "Short, Bo" in page.text_content("#patient")
    assert "/ 3" in page.text_content("#corner-slice")
    assert "1 file without a prediction" in page.text_content("#rejected-title")
    assert "notes.txt" in page.text_content("#rejected-list")


def test_token_is_asked_for_and_used(visit, model, tmp_path, study):
    token = "a-token-of-enough-letters"
    with serve(model, tmp_path, token=token) as closed:
        visitor = visit(closed)
        visitor.expected += ["401"]
        page = visitor.page
        page.goto(closed)
        page.wait_for_selector("#token-dialog[open]")
        assert "printed" not in page.text_content("#token-text")
        assert "file or the variable" in page.text_content("#token-text")
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#token-dialog[open]")
        page.fill("#token", token)
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-ready]")
        visitor.send(study)
        visitor.wait()
        with page.expect_download() as summary:
            page.click("#export-summary")
        assert b"Research use only" in Path(summary.value.path()).read_bytes()


@pytest.mark.parametrize(
    ("hostname", "told"),
    [
        ("localhost", "the server on this computer"),
        ("127.0.0.1", "the server on this computer"),
        ("[::1]", "the server on this computer"),
        ("ct.example", "the server ct.example:8000"),
        ("localhost.example", "the server localhost.example:8000"),
        ("127.0.0.1.example", "the server 127.0.0.1.example:8000"),
    ],
)
def test_the_page_names_the_machine_that_files_go_to(visit, hostname, told):
    page = visit().open()
    location = {"hostname": hostname, "host": f"{hostname}:8000"}
    told_here = "async (at) => (await import('/page/words.js')).tellHost(at)"
    assert page.evaluate(told_here, location) == told


def test_dropped_files_and_folders_are_taken(visit, study, tmp_path):
    for name, content in study.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "scan/.DS_Store").write_bytes(b"litter")
    visitor = visit()
    page = visitor.open()
    page.set_input_files("#folder", tmp_path / "scan")
    visitor.wait()
    assert not page.is_visible("#rejected"), "litter of the system is not sent"
    page.click("#again")
    packed = base64.b64encode(make_zip(study)).decode()
    page.evaluate(
        """(content) => {
          const data = new DataTransfer();
          const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
          data.items.add(new File([bytes], "study.zip"));
          document.body.dispatchEvent(
            new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
        }""",
        packed,
    )
    visitor.wait()
    assert page.text_content("#answer") == "Bleed suspected"


# One voxel is bright; both viewers must draw it where they say that it is, and in the same place
# after a move. The stack says nothing of the patient's sides (sform code 0): it is shown as stored.
PROBE = """
async (kind) => {
  const [columns, rows, slices, at] = [40, 50, 4, [9, 30, 2]];
  const buffer = new ArrayBuffer(352 + 2 * columns * rows * slices);
  const view = new DataView(buffer);
  view.setInt32(0, 348, true);
  [3, columns, rows, slices, 1, 1, 1, 1].forEach((n, k) => view.setInt16(40 + 2 * k, n, true));
  view.setInt16(70, 4, true);
  view.setInt16(72, 16, true);
  [1, 2, 2, 5].forEach((n, k) => view.setFloat32(76 + 4 * k, n, true));
  view.setFloat32(108, 352, true);
  view.setFloat32(112, 1, true);
  view.setInt16(254, 0, true);
  const affine = [-2, 0, 0, 39, 0, -2, 0, 49, 0, 0, 5, -7];
  affine.forEach((n, k) => view.setFloat32(280 + 4 * k, n, true));
  [110, 43, 49, 0].forEach((n, k) => view.setUint8(344 + k, n));
  new Int16Array(buffer, 352)[(at[2] * rows + at[1]) * columns + at[0]] = 80;
  const host = document.createElement("div");
  host.id = "probe";
  host.className = "film";
  document.body.append(host);
  const module = await import(kind === "niivue" ? "/page/viewer.js" : "/page/plain.js");
  const viewer = await (module.openNiivue ?? module.openPlain)(host, () => undefined);
  await viewer.load(buffer);
  viewer.setWindow(40, 80);
  viewer.goTo(at[2]);
  window.probe = viewer;
  return viewer.toScreen(at[0] + 0.5, at[1] + 0.5);
}
"""


@pytest.mark.parametrize("kind", ["niivue", "plain"])
def test_viewer_draws_a_voxel_where_outlines_are_drawn(visit, kind):
    visitor = visit(webgl=kind == "niivue", viewport={"width": 700, "height": 600})
    page = visitor.open()
    page.evaluate(PROBE, kind)

    def find_bright():
        page.wait_for_timeout(150)
        shot = page.screenshot()
        grey = cv2.imdecode(np.frombuffer(shot, np.uint8), 0)
        box = page.locator("#probe").bounding_box()
        rows, columns = np.nonzero(grey > 200)
        return columns.mean() + 0.5 - box["x"], rows.mean() + 0.5 - box["y"]

    page.evaluate("document.body.replaceChildren(document.getElementById('probe'))")
    page.wait_for_timeout(100)
    told = page.evaluate("window.probe.toScreen(9.5, 30.5)")
    assert find_bright() == pytest.approx(told, abs=2)
    assert told[0] < 350, "low columns are on the left of the screen"
    page.evaluate("window.probe.move({zoom: 1.5, across: 0, down: 0})")
    zoomed = page.evaluate("window.probe.toScreen(9.5, 30.5)")
    assert find_bright() == pytest.approx(zoomed, abs=2)
    page.evaluate("window.probe.move({across: 40, down: -25})")
    moved = page.evaluate("window.probe.toScreen(9.5, 30.5)")
    assert np.subtract(moved, zoomed) == pytest.approx([40, -25], abs=2)
    assert find_bright() == pytest.approx(moved, abs=2)
    page.evaluate("window.probe.resetView()")
    assert find_bright() == pytest.approx(told, abs=2)


def test_without_webgl2_slices_are_shown_on_a_plain_canvas(visit, study):
    page = visit().read(study)
    assert "no WebGL2" in page.text_content("#plain-note")
    assert not page.is_visible("#planes-line")
    page.uncheck("#outlines")
    assert colourful(look(page)) > 500
    show_heat(page, "")
    plain = look(page)
    assert colourful(plain) == 0
    assert np.ptp(plain) > 200
    page.keyboard.press("3")
    assert abs(look(page) - plain).max() > 40


def test_viewer_is_the_published_niivue():
    readme = (PAGE / "vendor/README.md").read_text()
    digest = hashlib.sha256((PAGE / "vendor/niivue.umd.js").read_bytes()).hexdigest()
    assert f"`niivue.umd.js` | `{digest}`" in readme
    assert "BSD 2-Clause" in (PAGE / "vendor/LICENSE.niivue.txt").read_text()


def test_page_holds_no_inline_code_and_no_other_origin():
    markup = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", markup)
    assert not re.search(r"<script(?![^>]*\ssrc=)", markup)
    for path in [PAGE / "index.html", PAGE / "style.css", *PAGE.glob("*.js")]:
        text = path.read_text()
        assert not re.search(r"https?://", text), path.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", text), path


def test_page_fits_a_phone_and_names_its_controls(visit, study):
    visitor = visit(viewport={"width": 390, "height": 844}, color_scheme="light")
    page = visitor.open()
    assert page.evaluate(WIDTH) <= 390
    assert page.get_attribute("html", "data-theme") == "light"
    visitor.send(study)
    visitor.wait()
    check_readable(page)
    for width in (390, 320, 1366):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate(WIDTH) <= width
    assert page.evaluate(UNNAMED) == []
    page.select_option("#point", "rule-in")
    page.wait_for_selector("#verdict[data-answer=no-bleed]")
    check_readable(page)
    page.click("#help")
    assert page.evaluate(UNNAMED) == []
