"""A report as Markdown, PNG and PDF: what it must say, names as text, and one clear line where a browser is missing."""

import html
import re
from types import SimpleNamespace

import pytest
from report_helpers import EVIL, hostile_report, report_of, usual_report, with_latency

from autodistil.errors import ConfigError, RunError
from autodistil.report import certificate_tables, picture
from autodistil.report.page import code_block, markdown, write_markdown
from autodistil.report.picture import find_chrome, write_picture
from autodistil.report.rows import front_rows
from autodistil.space.files import load_space
from autodistil.stages import reporting
from autodistil.student_search.certificate.verdict import verdict


@pytest.fixture(scope="module")
def usual():
    return usual_report()


def unescaped(text):
    return html.unescape(re.sub(r"\\(.)", r"\1", text))


def test_markdown_has_the_pick_the_front_and_the_certificate(usual):
    text = unescaped(markdown(with_latency(usual)))
    assert text.startswith(f"# {usual.best} is the best student")
    assert usual.export_command in text
    assert all(f"\n| {name} " in text for name in front_rows(usual)["id"])
    assert f"{usual.best} (best)" in text
    assert verdict(certificate_tables.certificate(usual)) in text
    assert "ms@laptop" in text
    assert "multiply-adds" in text


def test_tables_are_whole(usual):
    for block in re.findall(r"(?:^\|.*\n?)+", markdown(usual), re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_names_in_markdown_are_text():
    text = markdown(hostile_report())
    outside = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    assert not re.search(r"(?<!\\)[<>$]", outside)
    assert EVIL in unescaped(text)


def test_a_fence_is_longer_than_any_in_the_text():
    assert code_block("a ```` b").startswith("`````\n")


def test_without_a_student_there_is_no_pick():
    text = markdown(report_of(load_space("smoke").candidates, limit=1e5, training=False))
    assert "The front is empty" in text
    assert "autodistil export" not in text


def test_a_picture_that_is_asked_for_and_cannot_be_drawn_is_one_line(usual, tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "find_chrome", lambda: None)
    with pytest.raises(RunError, match="no Chrome is found; install Chromium or set BROWSER_PATH") as error:
        write_picture(usual, tmp_path / "x.pdf")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def run(usual, tmp_path, monkeypatch):
    """A run whose report data is at hand, without a teacher."""
    monkeypatch.setattr(reporting, "report_data", lambda *_: usual)
    folder = SimpleNamespace(path=tmp_path / "run", report_path=tmp_path / "run" / "report.html")
    return SimpleNamespace(folder=folder)


def test_formats_are_written_once_each_and_left_in_a_folder(run, tmp_path):
    files = reporting.write_formats(run, None, None, ("md", "html", "md"), tmp_path / "out")
    assert [file.name for file in files] == ["run.md", "run.html"]
    assert {file.name for file in run.folder.path.iterdir()} == {"report.md", "report.html"}


def test_an_unknown_format_is_refused_before_anything_is_written(run):
    with pytest.raises(ConfigError, match=r"did you mean 'html'\?.*allowed: html, png, pdf, md"):
        reporting.write_formats(run, None, None, ("md", "htm"), None)
    assert not run.folder.path.exists()


def test_markdown_is_written_whole(usual, tmp_path):
    assert write_markdown(usual, tmp_path / "report.md").read_text() == markdown(usual)


@pytest.mark.slow
@pytest.mark.skipif(find_chrome() is None, reason="no Chrome or Chromium is installed (or set BROWSER_PATH)")
@pytest.mark.parametrize(("form", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF-")])
def test_kaleido_draws_both_formats(usual, tmp_path, form, magic):
    pytest.importorskip("kaleido", reason="kaleido is not installed: pip install 'autodistil[png]'")
    path = write_picture(usual, tmp_path / f"front.{form}")
    assert path.read_bytes().startswith(magic)
