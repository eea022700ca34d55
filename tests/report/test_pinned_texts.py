"""A model card and a report in Markdown, to the byte: people and the Hub read both, and they change on purpose only.

After a change that is meant, write the files in `pinned/` anew and read what `git diff` says.
"""

from pathlib import Path

from card_helpers import COSTS, card_teacher
from report_helpers import hostile_report, report_of

from autodistil.costs.speed import Speed
from autodistil.export.card import Repeat, model_card
from autodistil.report.page import markdown
from autodistil.space.files import load_space
from autodistil.space.student import Candidate, StudentConfig

PINNED = Path(__file__).with_name("pinned")
FRONT_MATTER = "---\nlicense: other\nlicense_name: own\nlicense_link: https://example.org/own\nlanguage: en\n---\n"


def test_a_model_card(tmp_path):
    (tmp_path / "README.md").write_text(FRONT_MATTER)
    student = Candidate("small", StudentConfig(2, 192, 6, 32, 768, embedding_size=128, vocab_size=20_000))
    facts = {"held-out loss": "1.2345 (relation-kl)", "how far to trust it": "Not certified: a & b | c"}
    speed = Speed((1.0, 0.9, 1.2), (3.0, 2.9, 3.2), "1 x 128 tokens", "PyTorch on a CPU, 2 threads")
    options = {"teacher": "a/teacher", "budgets": ["500MFLOPs"], "corpus": ["ä.txt"], "seed": 0}
    repeat = Repeat(student.id, options, {"steps": 12, "learning_rate": 0.001})
    card = model_card(student, card_teacher(tmp_path), COSTS, facts, True, speed, repeat)
    assert card == (PINNED / "model_card.txt").read_text("utf-8")


def test_a_report_in_markdown():
    candidates = load_space("smoke").candidates
    report = hostile_report(
        report_of(candidates, losses={one.id: 1 + 1 / (i + 1) for i, one in enumerate(candidates[:4])})
    )
    assert markdown(report) == (PINNED / "report.txt").read_text("utf-8")
