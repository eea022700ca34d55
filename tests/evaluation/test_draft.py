"""A decoder drafts for another: the text stays the other's, and what is counted is what was accepted."""

import json
import shutil

import pytest
import torch
from autodistil_helpers import DECODER_CONFIGS
from hypothesis import given
from hypothesis import strategies as st
from run_helpers import one_line
from tokenizers_helpers import byte_level_bpe
from transformers import AutoModelForCausalLM

from autodistil import cli
from autodistil.evaluation import draft
from autodistil.evaluation.draft import DRAFT_TOKENS, score_drafts


def decoder(seed, kind="llama-ungrouped"):
    """One that is not tied, so its text varies."""
    torch.manual_seed(seed)
    config = DECODER_CONFIGS[kind]()
    config.vocab_size, config.max_position_embeddings, config.eos_token_id = 904, 128, 3
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


PROMPTS = [torch.tensor([[50]]), torch.tensor([[0, 40, 50, 2]])]
"""The second holds tokens that may stand for padding and ends."""


def test_a_model_that_drafts_for_itself_has_all_accepted():
    found = score_drafts(decoder(0), decoder(0), PROMPTS, new_tokens=19, rounds=1)
    assert found.acceptance == 1
    assert found.same_texts == found.texts == 2
    assert found.new_tokens == found.accepted + found.passes == 38
    assert found.passes == 2 * -(-19 // (DRAFT_TOKENS + 1))
    assert min(found.tokens_a_second, found.tokens_a_second_alone) > 0


def test_another_draft_changes_no_text():
    model = decoder(0)
    found = score_drafts(decoder(1, "qwen3"), model, PROMPTS, new_tokens=19, rounds=1)
    assert found.same_texts == 2
    assert found.new_tokens == found.accepted + found.passes == 38
    assert found.acceptance < 0.5


@given(st.data())
def test_accepted_are_those_before_the_first_other(data):
    """Against texts made of drafts, with the teacher's own token behind what it keeps of each."""
    drafts, text, accepted = [], [], 0
    for _ in range(data.draw(st.integers(1, 4))):
        length = data.draw(st.integers(0, 5))
        kept = data.draw(st.integers(0, length))
        drafts.append(torch.tensor([1] * length, dtype=torch.long))
        text += [1] * kept + [2]
        accepted += kept
    assert draft._accepted(drafts, torch.tensor(text)) == accepted


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folders = [tmp_path_factory.mktemp("drafts") / name for name in ("student", "teacher")]
    for seed, folder in enumerate(folders):
        decoder(seed).save_pretrained(folder)
        byte_level_bpe().save_pretrained(folder)
    texts = folders[0].parent / "texts.txt"
    texts.write_text("Return the number of items.\nA list\n")
    return [*map(str, folders), str(texts)]


@pytest.fixture(autouse=True)
def one_short_round(monkeypatch):
    monkeypatch.setattr(draft, "_ROUNDS", 1)
    monkeypatch.setattr(draft, "NEW_TOKENS", 8)


def said(capsys, *argv):
    with pytest.raises(SystemExit) as caught:
        cli.main(["evaluate", *argv, "--device", "cpu", "--threads", "1"])
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_the_command_says_what_was_accepted(folders, capsys):
    student, teacher, texts = folders
    found = json.loads(said(capsys, student, "--draft-of", teacher, "--texts", texts, "--max-length", "4", "--json"))
    assert found["texts"] == found["same_texts"] == 2
    assert found["acceptance"] == pytest.approx(found["accepted"] / found["drafted"])
    shown = said(capsys, teacher, "--draft-of", teacher, "--texts", texts).replace("\n", " ")
    assert "100.0% of 12 drafted tokens accepted" in shown
    assert "2 of 2, token by token" in shown


def refused(capsys, *argv):
    with pytest.raises(SystemExit):
        cli.main(["evaluate", *argv])
    return one_line(capsys)


def test_bad_drafts_are_one_line(folders, tmp_path, capsys, tiny_bert):
    student, teacher, texts = folders
    asked = [student, "--draft-of", teacher, "--texts", texts]
    of_tasks = ([*asked, "--task", "mrpc"], [*asked, "--labels", "5%"], [*asked, "--neighbours", "3"])
    for argv in ([student, "--draft-of", teacher], [student, "--texts", texts], *of_tasks):
        assert "--draft-of MODEL and --texts FILE go together" in refused(capsys, *argv)
    assert "max_length: got 125; allowed here: 1 to 120" in refused(capsys, *asked, "--max-length", "125")
    assert "number tokens otherwise" in refused(capsys, student, "--draft-of", str(tiny_bert), "--texts", texts)
    encoder = shutil.copytree(tiny_bert, tmp_path / "bert")
    line = refused(capsys, str(encoder), "--draft-of", str(encoder), "--texts", texts)
    assert "is a bert; allowed: decoders, llama, qwen2, qwen3" in line
