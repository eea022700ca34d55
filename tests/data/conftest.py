import random

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

WORDS = [f"{start}{vowel}{end}" for start in "bdfgklmnprst" for vowel in "aeiou" for end in "bdgklmnprst"]


@pytest.fixture(scope="session")
def minilm_tokenizer(quickstart_teacher_dir):
    """The tokenizer of BERT."""
    return AutoTokenizer.from_pretrained(quickstart_teacher_dir)


@pytest.fixture(scope="session")
def word_tokenizer():
    """A token is a word of `WORDS`; there are no special tokens."""
    vocabulary = {word: index for index, word in enumerate(["[UNK]", "the", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")


@pytest.fixture
def prose():
    """Makes documents of made-up words: `prose(documents, words)`."""

    def make(documents: int, words: int, seed: int = 0) -> list[str]:
        draw = random.Random(seed)
        return [" ".join(draw.choices(WORDS, k=words)) for _ in range(documents)]

    return make


@pytest.fixture
def write_text(tmp_path):
    """Writes documents to a text file of `tmp_path`."""

    def write(documents: list[str], name: str = "corpus.txt") -> str:
        path = tmp_path / name
        path.write_text("\n\n".join(documents), encoding="utf-8")
        return str(path)

    return write
