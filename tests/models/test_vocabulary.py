"""A pruned tokenizer is lossless, adds no unknown token, and leaves alone what it knows, whatever the text."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers_helpers import TEXTS, byte_level_bpe, packaged, unigram, vocabulary_of
from transformers import AutoTokenizer

from autodistil.data.tokens import special_affixes, token_ids
from autodistil.errors import RunError, TeacherError
from autodistil.models.vocabulary import (
    Vocabulary,
    model_merges,
    model_pieces,
    order_vocabulary,
    prune_tokenizer,
    required_ids,
    spellings,
    token_counts,
)

KINDS = ("WordPiece", "BPE", "Unigram")
WORDS = sorted({word for text in TEXTS for word in text.split()})
texts = st.lists(
    st.sampled_from(WORDS) | st.text(max_size=8) | st.sampled_from(["naïve", "日本", "🙂", "ﬁn"]), max_size=12
)


@pytest.fixture(params=KINDS, scope="module")
def tokenizer(request, quickstart_teacher_dir):
    tokenizers = {"WordPiece": lambda: packaged(quickstart_teacher_dir), "BPE": byte_level_bpe, "Unigram": unigram}
    return tokenizers[request.param]()


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return vocabulary_of(tokenizer)


@pytest.fixture(scope="module")
def pruned(tokenizer, vocabulary):
    """Size -> pruned tokenizer: as small as can be, and two between that and all."""
    sizes = [vocabulary.smallest, vocabulary.smallest + 40, (vocabulary.smallest + len(vocabulary.order)) // 2]
    return {size: prune_tokenizer(tokenizer, vocabulary, size) for size in sizes}


def encoded(tokenizer, text):
    result = tokenizer(text, return_offsets_mapping=True, padding=False, truncation=False)
    ids, offsets = result["input_ids"], result["offset_mapping"]
    unknown = [span for i, span in zip(ids, offsets, strict=True) if i == tokenizer.unk_token_id]
    return ids, unknown, tokenizer.decode(ids, clean_up_tokenization_spaces=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(texts=texts)
def test_pruning_is_lossless_and_leaves_alone_what_it_knows(tokenizer, vocabulary, pruned, texts):
    text = " ".join(texts)
    ids, unknown, decoded = encoded(tokenizer, text)
    for size, smaller in pruned.items():
        own_ids, own_unknown, own_decoded = encoded(smaller, text)
        assert own_decoded == decoded
        assert own_unknown == unknown
        new_ids = vocabulary.new_ids(size)
        if all(i in new_ids for i in ids):
            assert own_ids == [new_ids[i] for i in ids]


def test_the_tokens_are_the_leading_ones_and_survive_saving(tokenizer, vocabulary, pruned, tmp_path):
    for size, smaller in pruned.items():
        new_ids = vocabulary.new_ids(size)
        expected = {token: new_ids[i] for token, i in tokenizer.get_vocab().items() if i in new_ids}
        smaller.save_pretrained(tmp_path / str(size))
        for ours in (smaller, AutoTokenizer.from_pretrained(tmp_path / str(size))):
            assert ours.get_vocab() == expected
            assert len(ours) == size
            assert ours.all_special_tokens == tokenizer.all_special_tokens
            assert special_affixes(ours) == tuple([new_ids[i] for i in part] for part in special_affixes(tokenizer))
            pair = [encode("", "", padding=False)["input_ids"] for encode in (ours, tokenizer)]
            assert pair[0] == [new_ids[i] for i in pair[1]]
            batch = ours(["a", "a b c d"], padding="longest")["input_ids"]
            assert batch[0][-1] == new_ids[tokenizer.pad_token_id] == ours.pad_token_id


def test_the_order_is_what_is_needed_then_frequency(tokenizer, vocabulary):
    assert sorted(vocabulary.order) == list(range(len(tokenizer)))
    assert vocabulary.order[: vocabulary.smallest].tolist() == required_ids(tokenizer)
    ids = np.array([i for part in token_ids(tokenizer, TEXTS) for i in part])
    counts = token_counts(ids, len(tokenizer))
    rest = counts[vocabulary.order[vocabulary.smallest :]]
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if model["type"] != "BPE":
        assert (np.diff(rest) <= 0).all()
    pieces = model_pieces(model)
    for left, right in model_merges(model):
        made = vocabulary.ranks[pieces[left + right]]
        assert max(vocabulary.ranks[pieces[left]], vocabulary.ranks[pieces[right]]) < max(made, vocabulary.smallest)
    assert vocabulary.coverage(ids, len(vocabulary.order)) == 1
    coverages = [vocabulary.coverage(ids, size) for size in range(vocabulary.smallest, len(vocabulary.order), 97)]
    assert coverages == sorted(coverages)
    assert np.array_equal(vocabulary.order, vocabulary_of(tokenizer).order)


def test_spellings_are_kept_tokens_that_read_the_same(tokenizer, vocabulary):
    size = vocabulary.smallest + 40
    spelled = spellings(tokenizer, vocabulary, size, range(0, len(tokenizer), 7))
    kept = set(vocabulary.kept(size).tolist())
    assert spelled
    assert not kept & spelled.keys()
    for token, parts in spelled.items():
        assert set(parts) <= kept
        assert tokenizer.unk_token_id not in parts
        name, first, *others = tokenizer.convert_ids_to_tokens([token, *parts])
        assert first + "".join(part.removeprefix("##") for part in others) == name


def test_rows_without_a_token_come_last(tokenizer):
    vocabulary = vocabulary_of(tokenizer, rows=len(tokenizer) + 8)
    assert vocabulary.order[-8:].tolist() == list(range(len(tokenizer), len(tokenizer) + 8))


def test_pieces_that_cannot_be_spelled_are_kept():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["[UNK]", "the", "t", "##h", "##e", "thx", "##he", "[CLS]"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]")
    assert [pieces[i] for i in required_ids(fast)] == ["[UNK]", "t", "##h", "##e", "thx", "[CLS]"]


def test_other_kinds_are_refused():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"the": 0}, unk_token="the")))
    affixed = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"t": 0}, [], end_of_word_suffix="</w>")))
    for tokenizer, kind in ((words, "WordLevel"), (affixed, "BPE with affixes")):
        with pytest.raises(TeacherError, match=f"{kind} tokenizer cannot be pruned; allowed: .*WordPiece"):
            required_ids(tokenizer)


@given(st.lists(st.integers(0, 30), max_size=60))
def test_counts_are_counts(tokens):
    counts = token_counts(np.array(tokens, dtype=np.uint16), 31)
    assert counts.tolist() == [tokens.count(i) for i in range(31)]


def test_ties_are_ordered_by_id():
    tokenizer = unigram()
    required = required_ids(tokenizer)
    vocabulary = order_vocabulary(tokenizer, len(tokenizer), required, np.zeros(len(tokenizer), dtype=np.int64))
    assert vocabulary.order[len(required) :].tolist() == sorted(set(range(len(tokenizer))) - set(required))


def test_a_vocabulary_survives_its_file(tmp_path):
    vocabulary = Vocabulary(np.array([3, 1, 0, 2]), 2)
    vocabulary.save(tmp_path / "vocabulary.npz")
    loaded = Vocabulary.load(tmp_path / "vocabulary.npz")
    assert loaded.order.tolist() == [3, 1, 0, 2]
    assert loaded.smallest == 2
    (tmp_path / "vocabulary.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(RunError, match="damaged"):
        Vocabulary.load(tmp_path / "vocabulary.npz")
