"""Teachers that install by name: archives of known hash, and a pickle that is read on command only."""

import hashlib
import importlib
import io
import json
import pickle
import zipfile
from dataclasses import replace

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertModel

from autodistil.costs.closed_form import flops, parameters
from autodistil.errors import TeacherError
from autodistil.models.packaged import PACKAGED, convert
from autodistil.models.packaged.package import Packages
from autodistil.models.packaged.pickled_bert import ANTIBERTY
from autodistil.models.packaged.split_archive import MPNET_BASE
from autodistil.models.teacher import load_teacher

PARTS = ("some-model-part_001", "some-model-part_002")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages, and an empty cache."""
    monkeypatch.setenv("AUTODISTIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


def install(site, module):
    (site / module).mkdir()
    (site / module / "__init__.py").write_text("raise ImportError('packages of models are not imported')")
    importlib.invalidate_caches()
    return site / module


# ---- archives


@pytest.fixture
def archive(site):
    """A zip archive in two packages."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("inner/config.json", "{}")
        file.writestr("inner/1_Pooling/config.json", "[1]")
        file.writestr("inner/pytorch_model.bin", "a pickle")
    content = stream.getvalue()
    for number, module in enumerate(PARTS):
        part = content[:50] if number == 0 else content[50:]
        (install(site, module) / f"part.{number + 1}").write_bytes(part)
    return replace(
        MPNET_BASE,
        packages=Packages(PARTS, "pip install 'autodistil[some]'"),
        part="part.{}",
        inner="inner",
        files=("config.json", "1_Pooling/config.json"),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def test_an_archive_in_parts_is_unpacked_once(archive, site):
    assert "unpacked into" in archive.status("some")
    folder = archive.folder("some")
    assert archive.status("some") == "installed"
    assert (folder / "1_Pooling" / "config.json").read_text() == "[1]"
    assert not list(folder.rglob("*.bin")), "nothing but what is listed"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["meta.json", "model"]
    (site / PARTS[0] / "part.1").unlink()
    assert archive.folder("some") == folder


def test_a_damaged_entry_is_unpacked_again(archive):
    folder = archive.folder("some")
    (folder / "config.json").write_text("{")
    assert (archive.folder("some") / "config.json").read_text() == "{}"


def test_an_archive_with_another_hash_is_refused(archive, site, tmp_path):
    (site / PARTS[1] / "part.2").write_bytes(b"something else")
    with pytest.raises(TeacherError, match=r"expected .*pip install 'autodistil.some.' --force-reinstall"):
        archive.folder("some")
    assert not list((tmp_path / "cache" / "teachers").iterdir())


def test_missing_packages_are_named(site):
    install(site, PARTS[0])
    packages = Packages(PARTS, "pip install 'autodistil[some]'")
    with pytest.raises(TeacherError, match=r"needs the package some-model-part-002; .*'autodistil\[some\]'"):
        replace(MPNET_BASE, packages=packages).folder("some")
    assert packages.status() == "pip install 'autodistil[some]'"


# ---- a pickle


class Malicious:
    def __reduce__(self):
        return (print, ("code in a pickle ran",))


def pickled(site, content):
    """A package with a pickled BERT of a few letters."""
    folder = install(site, "letters")
    config = BertConfig(
        vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=12,
    )  # fmt: skip
    fields = {**config.to_dict(), "_name_or_path": "/home/someone", "architectures": ["Letters"]}
    (folder / "config.json").write_text(json.dumps(fields))
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nA\nC\nD\nE\n")
    torch.manual_seed(0)
    model = BertForMaskedLM(config)
    model.bert = BertModel(config)
    if content is None:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(content)
    digest = hashlib.sha256((folder / "pytorch_model.bin").read_bytes()).hexdigest()
    packages = Packages(("letters",), "pip install 'autodistil[letters]'")
    source = replace(ANTIBERTY, packages=packages, weights="pytorch_model.bin", vocabulary="vocab.txt", sha256=digest)
    return source, model.bert.eval()


@torch.no_grad()
def test_a_pickle_is_converted_on_command_and_then_a_teacher(site):
    source, model = pickled(site, None)
    with pytest.raises(TeacherError, match="autodistil teachers --convert letters"):
        source.folder("letters")
    folder = source.convert("letters")
    assert source.folder("letters") == folder == source.convert("letters")
    assert not list(folder.rglob("*.bin"))
    teacher = load_teacher(str(folder))
    assert teacher.model.config._name_or_path == str(folder)
    ids = teacher.tokenizer(["AC _DEX"], return_tensors="pt")["input_ids"]
    assert ids.tolist() == [[2, 5, 6, 4, 7, 8, 1, 3]]
    assert torch.equal(teacher.states({"input_ids": ids}, output=True).output, model(ids).last_hidden_state)


def test_a_pickle_of_another_hash_is_not_read(site):
    source, _ = pickled(site, None)
    with pytest.raises(TeacherError, match="have sha256"):
        replace(source, sha256="0" * 64).convert("letters")


def test_code_in_a_pickle_does_not_run(site, capsys):
    source, _ = pickled(site, pickle.dumps(Malicious(), protocol=2))
    with pytest.raises(TeacherError, match="holds more than tensors"):
        source.convert("letters")
    assert capsys.readouterr().out == ""


def test_only_pickles_are_converted():
    with pytest.raises(TeacherError, match="'mpnet-base' is no packaged teacher that comes as a pickle; allowed: ant"):
        convert("mpnet-base")


# ---- the real ones, where they are installed


def installed(name):
    if PACKAGED[name].status(name).startswith("pip install"):
        pytest.skip(f"needs the packages of {name}")


@pytest.mark.slow
@torch.no_grad()
def test_mpnet_base_is_the_sentence_encoder_that_it_was():
    installed("mpnet-base")
    teacher = load_teacher("mpnet-base")
    assert flops([teacher.dims], teacher.encoder_shape, 128) == [11_186_503_680]
    assert parameters([teacher.dims], teacher.encoder_shape) == [109_486_464]
    texts = ["A man is eating food.", "A man eats a meal.", "The stock market fell."]
    batch = teacher.tokenizer(texts, padding=True, return_tensors="pt")
    mask = batch["attention_mask"][..., None]
    hidden = teacher.states(dict(batch), output=True).output * mask
    unit = torch.nn.functional.normalize(hidden.sum(1) / mask.sum(1), dim=-1)
    similarities = unit @ unit.T
    assert similarities[0, 1] > 0.9
    assert similarities[0, 2] < 0.1


@pytest.mark.slow
@torch.no_grad()
def test_antiberty_knows_antibodies():
    """A residue of a framework region is guessed from its sequence: states differ less within kinds than between."""
    installed("antiberty")
    convert("antiberty")
    teacher = load_teacher("antiberty")
    assert teacher.dims.label == "L8-H512-A8-F2048"
    assert AutoTokenizer.from_pretrained(teacher.folder)("EVQL")["input_ids"] == [2, 8, 22, 18, 14, 3]
    assert parameters([teacher.dims], teacher.encoder_shape) == [sum(p.numel() for p in teacher.model.parameters())]
