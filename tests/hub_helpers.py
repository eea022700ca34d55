"""A cache of the Hugging Face Hub, filled by hand as its library does it: blobs, links to them, and what main is."""

import hashlib
import json
import os

from run_helpers import save_random_bert

NAME = "some/encoder"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def save_sentence_encoder(folder, tokenizer_dir):
    """A random encoder, 2 layers x 32, that embeds sentences by their first token, with a card and a licence."""
    save_random_bert(folder, tokenizer_dir, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "cls", "embedding_dimension": 32}))
    (folder / "modules.json").write_text(json.dumps(MODULES))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 32}))
    (folder / "config_sentence_transformers.json").write_text("{}")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "LICENSE").write_text("words")
    return folder


def fill_hub_cache(cache, hub_id, folder, without=(), commit=COMMIT):
    """Put the files of a folder into a cache as those of a repository; returns the snapshot."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and str(name) not in without:
            blob = repository / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(path.read_bytes())
            (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
            (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    return snapshot
