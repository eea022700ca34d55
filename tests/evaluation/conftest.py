import pytest
from run_helpers import save_random_bert


@pytest.fixture
def write_task(tmp_path):
    """Writes a task's files, `write_task("cola", train=[("a text", "1")])`, and returns the data folder."""

    def write(name, header=None, **splits):
        for split, rows in splits.items():
            path = tmp_path / "tasks" / name / f"{split}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            columns = header or ("text_a\tlabel" if len(rows[0]) == 2 else "text_a\ttext_b\tlabel")
            path.write_text("\n".join([columns, *("\t".join(row) for row in rows)]) + "\n", encoding="utf-8")
        return tmp_path / "tasks"

    return write


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory, quickstart_teacher_dir):
    """Folder of a random BERT, 2 layers x 32, with the real tokenizer and 32 positions."""
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    size = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64, "positions": 32}
    return save_random_bert(folder, quickstart_teacher_dir, **size)
