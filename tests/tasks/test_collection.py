"""Retrieval collections from files, good and hostile."""

import gzip
import json

import pytest

from autodistil.errors import AutodistilError, TaskError
from autodistil.tasks.collection import find_collection

DOCUMENTS = [{"_id": "d1", "title": "Cats", "text": "sleep"}, {"_id": "d2", "text": "Dogs run."}]
QUERIES = [{"_id": "q1", "text": "sleepers"}, {"_id": "q2", "text": "not judged"}]
HEADER = ("query-id", "corpus-id", "score")


@pytest.fixture
def write_collection(tmp_path):
    """Writes a collection's files and returns the data folder."""

    def write(documents=DOCUMENTS, queries=QUERIES, qrels=(HEADER, ("q1", "d1", "2")), candidates=None, packed=False):
        folder = tmp_path / "tasks" / "retrieval" / "pets"
        (folder / "qrels").mkdir(parents=True)
        lines = "".join(f"{json.dumps(record)}\n" for record in documents)
        if packed:
            (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
        else:
            (folder / "corpus.jsonl").write_text(lines)
        (folder / "queries.jsonl").write_text("\n".join(json.dumps(record) for record in queries))
        (folder / "qrels" / "test.tsv").write_text("\n".join("\t".join(row) for row in qrels))
        if candidates is not None:
            (folder / "candidates.tsv").write_text("\n".join("\t".join(row) for row in (HEADER[:2], *candidates)))
        return tmp_path / "tasks"

    return write


@pytest.mark.parametrize("packed", [False, True])
def test_a_collection_is_its_documents_and_its_judged_queries(write_collection, packed):
    data = find_collection("pets", write_collection(packed=packed))
    assert data.documents == ("Cats sleep", "Dogs run.")
    assert data.queries == ("sleepers",)
    assert data.grades == ({0: 2.0},)
    assert data.candidates is None
    assert data.origin == "retrieval/pets (local)"


def test_candidates_are_the_documents_to_rank(write_collection):
    data = find_collection("pets", write_collection(candidates=[("q1", "d2"), ("q1", "d1")]))
    assert [list(of_query) for of_query in data.candidates] == [[0, 1]]


def test_other_judgments_are_another_collection(write_collection, tmp_path):
    one = find_collection("pets", write_collection())
    (tmp_path / "tasks" / "retrieval" / "pets" / "qrels" / "test.tsv").write_text("h\nq1\td2\t1\n")
    assert find_collection("pets", tmp_path / "tasks").fingerprint != one.fingerprint


def test_a_folder_without_a_corpus_is_none(write_task):
    assert find_collection("cola", write_task("cola", dev=[("a", "1"), ("b", "0")])) is None
    assert find_collection("cola", None) is None


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"documents": [{"_id": "d1"}]}, r"corpus.jsonl', line 1 is no JSON object with the strings _id and text"),
        ({"documents": ["text"]}, "line 1 is no JSON object"),
        ({"queries": [{"_id": 1, "text": "x"}]}, r"queries.jsonl', line 1 is no JSON object"),
        ({"documents": [*DOCUMENTS, DOCUMENTS[0]]}, "line 3 has the _id 'd1' a second time"),
        ({"qrels": (HEADER, ("q1", "d9", "1"))}, r"qrels/test.tsv', line 2 is 'q1\\td9\\t1'"),
        ({"qrels": (HEADER, ("q1", "d1", "much"))}, "line 2 has no grade"),
        ({"qrels": (HEADER, ("q1", "d1"))}, "line 2 has no grade"),
        ({"qrels": (HEADER, ("q1", "d1", "0"))}, "has no query with a relevant document"),
        ({"candidates": [("q1", "d9")]}, r"candidates.tsv', line 2 is"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(write_collection, files, said):
    with pytest.raises(TaskError, match=said) as error:
        find_collection("pets", write_collection(**files))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["queries.jsonl", "qrels/test.tsv"])
def test_a_file_that_is_missing_is_named(write_collection, tmp_path, name):
    data_dir = write_collection()
    (data_dir / "retrieval" / "pets" / name).unlink()
    with pytest.raises(AutodistilError, match=f"has no {name}"):
        find_collection("pets", data_dir)
