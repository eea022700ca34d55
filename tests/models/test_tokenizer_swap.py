"""An encoder with another tokenizer: what each new token starts from, what stays, wrong input."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers_helpers import byte_level_bpe, unigram
from transformers import AutoModel, AutoTokenizer

from autodistil.cli import main
from autodistil.errors import TeacherError
from autodistil.evaluation.embedding import folder_encoder
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.models.tokenizer_swap import spelling, swap_tokenizer

TEXTS = ["the river runs along the wall", "an old town", "houses of red stone"]


@pytest.fixture(scope="module")
def small(sentence_folder, tmp_path_factory):
    """Folder of a WordPiece tokenizer with few tokens, trained on a few texts."""
    to = tmp_path_factory.mktemp("tokenizers") / "small"
    AutoTokenizer.from_pretrained(sentence_folder).train_new_from_iterator(TEXTS * 20, 90).save_pretrained(to)
    return to


def test_the_same_tokenizer_changes_nothing(sentence_folder, tmp_path):
    done = swap_tokenizer(str(sentence_folder), sentence_folder, tmp_path / "same")
    assert done.pieces == 1
    ours, theirs = (folder_encoder(EvaluatedModel.open(str(one)))(TEXTS) for one in (done.path, sentence_folder))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_token_starts_from_the_mean_of_its_pieces(sentence_folder, small, tmp_path):
    done = swap_tokenizer(str(sentence_folder), small, tmp_path / "swapped")
    old, new = AutoTokenizer.from_pretrained(sentence_folder), AutoTokenizer.from_pretrained(done.path)
    before, after = (AutoModel.from_pretrained(one) for one in (sentence_folder, done.path))
    table, rows = (one.get_input_embeddings().weight for one in (before, after))
    assert len(rows) == len(new) == done.tokens == after.config.vocab_size < len(old)
    assert done.table_mb == pytest.approx(rows.numel() * 4e-6)
    for name in ("cls", "sep", "pad", "unk", "mask"):
        ours, theirs = (getattr(one, f"{name}_token_id") for one in (new, old))
        assert torch.equal(rows[ours], table[theirs])
    assert after.config.pad_token_id == new.pad_token_id
    for number, name in enumerate(new.convert_ids_to_tokens(range(len(new)))):
        known = old.get_vocab()
        text = name.removeprefix("##")
        pieces = [known[name]] if name in known else old(text, add_special_tokens=False)["input_ids"]
        torch.testing.assert_close(rows[number], table[pieces].mean(0))
    for name, value in before.state_dict().items():
        assert "word_embeddings" in name or torch.equal(after.state_dict()[name], value)
    from sentence_transformers import SentenceTransformer

    ours = folder_encoder(EvaluatedModel.open(str(done.path)))(TEXTS)
    np.testing.assert_allclose(SentenceTransformer(str(done.path), device="cpu").encode(TEXTS), ours, atol=1e-5)


def test_special_tokens_beyond_a_smaller_vocabulary_and_a_lacking_pooler(sentence_folder, small, tmp_path):
    old = AutoTokenizer.from_pretrained(sentence_folder)
    source = shutil.copytree(sentence_folder, tmp_path / "source")
    model = AutoModel.from_pretrained(source, add_pooling_layer=False)
    model.config.eos_token_id = len(old) - 1
    model.save_pretrained(source)
    sums = set()
    for name in ("one", "two"):
        done = swap_tokenizer(str(source), small, tmp_path / name)
        again = EvaluatedModel.open(str(done.path))
        assert not again.has_pooler
        assert again.config.eos_token_id is None or again.config.eos_token_id < done.tokens
        sums.add(again.fingerprint)
    assert len(sums) == 1
    assert EvaluatedModel.open(str(sentence_folder)).has_pooler == any(
        "pooler" in name for name in load_file(sentence_folder / "model.safetensors")
    )


@pytest.mark.parametrize("make", [byte_level_bpe, unigram])
def test_other_kinds_of_tokenizers_spell_words_alike(sentence_folder, make):
    old, new = AutoTokenizer.from_pretrained(sentence_folder), make()
    spelled = spelling(old, new)
    assert len(spelled) == len(new)
    assert all(spelled)
    for number, name in enumerate(new.convert_ids_to_tokens(range(len(new)))):
        text = new.convert_tokens_to_string([name]).strip()
        if text.isascii() and text.isalpha() and number not in new.all_special_ids:
            assert spelled[number] == old(text, add_special_tokens=False)["input_ids"], name
    assert spelled[new.pad_token_id] == [old.pad_token_id]
    assert spelled[new.mask_token_id] == [old.mask_token_id]


def test_wrong_input_is_one_line(sentence_folder, small, tmp_path, capsys):
    for source, tokenizer, to, said in (
        (tmp_path / "none", small, tmp_path / "to", "does not exist"),
        (sentence_folder, tmp_path, tmp_path / "to", "no folder of a tokenizer"),
        (sentence_folder, small, small, "exists; give --to a new folder"),
    ):
        with pytest.raises(TeacherError, match=said) as error:
            swap_tokenizer(str(source), tokenizer, to)
        assert "\n" not in str(error.value)
    with pytest.raises(SystemExit):
        main(["teachers", "--retokenise", str(sentence_folder)])
    assert "go together" in capsys.readouterr().err
    arguments = ["--retokenise", str(sentence_folder), "--tokenizer", str(small), "--to", str(tmp_path / "made")]
    with pytest.raises(SystemExit, match="0"):
        main(["teachers", *arguments])
    assert "next: autodistil search --teacher" in capsys.readouterr().out
    assert (tmp_path / "made" / "model.safetensors").is_file()
