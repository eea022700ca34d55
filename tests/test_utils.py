"""What every room may use."""

import pytest

from autodistil.utils import shown


@pytest.mark.parametrize(
    ("value", "others_see"),
    [
        ("/home/me/secret/corpus.txt", "corpus.txt"),
        ("~/texts/*.md", "*.md"),
        ("../other/texts", "texts"),
        ("C:\\Users\\me\\corpus.txt", "corpus.txt"),
        ("laptop=/home/me/table.json", "laptop=table.json"),
        ("laptop=table.json", "laptop=table.json"),
        ("postgresql+psycopg://me:word@host:5432/studies?sslmode=require", "postgresql+psycopg://.../studies"),
        ("postgresql://me@host", "postgresql://.../"),
        ("sqlite:////home/me/study.db", "sqlite://.../study.db"),
        ("hf:org/texts", "hf:org/texts"),
        ("org/teacher", "org/teacher"),
        ("texts/corpus.txt", "texts/corpus.txt"),
        ("relation-kl+0.5*embedding-similarity", "relation-kl+0.5*embedding-similarity"),
        ("/", "/"),
        (["/a/b.txt", "python-docs"], ["b.txt", "python-docs"]),
        (("/a/b.txt",), ["b.txt"]),
        (None, None),
        (3, 3),
    ],
)
def test_others_are_shown_no_folders_and_no_addresses(value, others_see):
    assert shown(value) == others_see
