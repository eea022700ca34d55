"""What a model's files may be: whatever is wrong in them is one line that names it, or makes no difference.

Each file is damaged in the folder of a small model, which is then read as a teacher and as an encoder to evaluate.
"""

import json
import resource
import struct
from pathlib import Path

import pytest
import torch
from image_helpers import save_random_vit
from run_helpers import one_line
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, BertTokenizer, LlamaConfig, LlamaForCausalLM, MPNetConfig
from variants import slow_but

from autodistil import cli
from autodistil.config import RunConfig
from autodistil.data.tokens import token_ids
from autodistil.errors import AutodistilError, TeacherError
from autodistil.evaluation.embedding import folder_encoder
from autodistil.export.family_contract import check_family
from autodistil.models.hf_folder import EvaluatedModel, load_config
from autodistil.models.teacher import load_teacher
from autodistil.run.inputs import default_folder

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
WORDS = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), "the", "river", "runs", "along", "wall"]
ROWS = len(WORDS)
TEXTS = ["the river", "a wall runs along the river"]
SIZES = {"vocab_size": ROWS, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
CONFIG, WEIGHTS, EMBEDDINGS = "config.json", "model.safetensors", "embeddings.word_embeddings.weight"
HUGE = 10**9
MEMORY = 256
"""MB that a refusal may take at most; the sizes that are refused would take many times that."""


def bert(folder):
    torch.manual_seed(0)
    AutoModel.from_config(BertConfig(**SIZES, hidden_size=32, max_position_embeddings=32)).save_pretrained(folder)


def mpnet(folder):
    torch.manual_seed(0)
    AutoModel.from_config(MPNetConfig(**SIZES, hidden_size=32, max_position_embeddings=34)).save_pretrained(folder)


def llama(folder):
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, hidden_size=32, max_position_embeddings=32, tie_word_embeddings=True, pad_token_id=0)
    LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Kind -> a sound folder."""
    folders = {kind: tmp_path_factory.mktemp("models") / kind for kind in ("bert", "mpnet", "llama", "vit", "dinov2")}
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)})
    for make in (bert, mpnet, llama):
        make(folders[make.__name__])
        tokenizer.save_pretrained(folders[make.__name__])
    for kind in ("vit", "dinov2"):
        save_random_vit(folders[kind], kind)
    return folders


@pytest.fixture
def damaged(models, tmp_path):
    """`damaged(damage, kind)`: a copy of a model's folder that was damaged."""

    def make(damage, kind="bert"):
        folder = tmp_path / kind
        folder.mkdir()
        for path in models[kind].iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        damage(folder)
        return folder

    return make


# ---- ways to damage a file


def values(file, **changed):
    """Values of a JSON file changed."""

    def damage(folder):
        path = folder / file
        content = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps({**content, **changed}))

    return damage


def content(file, text):
    """Another content."""

    def damage(folder):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(text if isinstance(text, bytes) else text.encode())

    return damage


def edited(file, edit):
    """The content, edited."""
    return lambda folder: (folder / file).write_bytes(edit((folder / file).read_bytes()))


def tensors(edit):
    """The weights, edited."""

    def damage(folder):
        weights = load_file(folder / WEIGHTS)
        edit(weights)
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS, {"format": "pt"})

    return damage


def directory(file):
    def damage(folder):
        (folder / file).unlink(missing_ok=True)
        (folder / file).mkdir()

    return damage


def link_to(target):
    """A link to a file that is not there, or to itself."""

    def to(file):
        def damage(folder):
            (folder / file).unlink(missing_ok=True)
            (folder / file).symlink_to(target or file)

        return damage

    return to


def specification(edit):
    """The tokenizer's own JSON, edited."""
    return edited("tokenizer.json", lambda text: json.dumps(edit(json.loads(text))).encode())


DEEP = "[" * 100_000 + "]" * 100_000
NO_OBJECT = {
    "empty": b"", "blank": b" \n", "null": b"null", "list": b"[1]", "string": b'"x"', "number": b"5", "nan": b"NaN",
    "true": b"true", "cut": b'{"a": ', "deep": DEEP.encode(), "bytes": bytes(range(256)),
}  # fmt: skip
BROKEN = {
    "bom": lambda text: b"\xef\xbb\xbf" + text,
    "utf-16": lambda text: text.decode().encode("utf-16"),
    "latin-1": lambda text: b'{"a": "\xe9", ' + text.strip()[1:],
    "half": lambda text: text[: len(text) // 2],
    "more": lambda text: text + b"}",
    "deep value": lambda text: b'{"a": ' + DEEP.encode() + b", " + text.strip()[1:],
    "long number": lambda text: b'{"a": ' + b"1" * 5_000 + b", " + text.strip()[1:],
}
NO_FILE = {"directory": directory, "loop": link_to(None), "dangling": link_to("nowhere")}


def broken_files(file):
    """All of these of one JSON file."""
    return {
        **{f"{file} {name}": content(file, text) for name, text in NO_OBJECT.items()},
        **{f"{file} {name}": edited(file, edit) for name, edit in BROKEN.items()},
        **{f"{file} {name}": damage(file) for name, damage in NO_FILE.items()},
    }


def cases(file, faults):
    """`{field: (value, ...)}` as damages by name."""
    pairs = [(field, value) for field, all_ in faults.items() for value in all_]
    return {f"{file} {field}={str(value)[:40]}": values(file, **{field: value}) for field, value in pairs}


# ---- what reads them


def as_teacher(folder):
    """What it computes, by way of what a run does with its teacher first."""
    default_folder(RunConfig(teacher=str(folder)))
    teacher = load_teacher(str(folder))
    if teacher.images is not None:
        return teacher.fingerprint
    ids = torch.tensor(token_ids(teacher.tokenizer, TEXTS)[1:])
    return teacher.states({"input_ids": ids}, output=True).output.numpy().tobytes()


def as_encoder(folder):
    """What an evaluation makes of texts."""
    return folder_encoder(EvaluatedModel.open(str(folder)))(TEXTS).tobytes()


def refused(folder, read, error=AutodistilError):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(error) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY * 1024
    return str(caught.value)


# ---- config.json


UNUSABLE = {
    "hidden_size": ("64", None, 64.0, 0, -64, 63, True, HUGE, 10**18, 10**30),
    "num_hidden_layers": ("2", None, 2.0, 0, -1, 3, 999, HUGE, 10**30),
    "num_attention_heads": ("2", None, 0, -2, 3, HUGE),
    "intermediate_size": ("32", None, 0, -1, 33, HUGE),
    "vocab_size": (str(ROWS), None, 0, -1, 32, ROWS + 1, HUGE, 10**30),
    "max_position_embeddings": ("32", None, 0, -1, 2, 33, HUGE),
    "type_vocab_size": (None, 0, -1, 1, HUGE),
    "num_labels": ("x", None, HUGE, 10**7),
    "hidden_act": ("gelu_nope", 5, None, [], {}),
    "layer_norm_eps": ("x", 0, -1, -1.0, None, float("nan"), float("inf"), 1e30),
    "pad_token_id": (HUGE, ROWS, "x", 1.5, [0]),
    "use_cache": ([], "x", None),
    "id2label": ("x", [], {"a": "b"}),
    "quantization_config": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, {"quant_method": "gptq"}, "x", []),
    "dtype": ("float99",),
    "model_type": ("nope", 5, None, [], {}, "t5", "../bert"),
    "hidden_dropout_prob": ("x", 2.0, None),
    "auto_map": (5,),
    "rope_scaling": ("x",),
    "per_layer_config": ("x", [], {"0": {"hidden_size": 16}}),
    "to_dict": (5,),
    "self": (5,),
    "attribute_map": ({"hidden_size": "x"},),
}
HARMLESS = {
    "num_labels": (0, 7),
    "pad_token_id": (-1, -5, None, 5),
    "bos_token_id": (HUGE, -1),
    "label2id": ("x", [], {"a": "b"}),
    "chunk_size_feed_forward": (7, -1, "x", HUGE),
    "attn_implementation": ("flash_attention_2", "nope", "kernels-community/flash-attn", 5, "eager"),
    "_attn_implementation": ("flash_attention_2", 5),
    "torch_dtype": ("float99", "bfloat16", 5),
    "architectures": ("x", 5, [5], ["NoSuch"]),
    "auto_map": ({"AutoModel": "x.Y"}, "x"),
    "output_attentions": (True, "x"),
    "output_hidden_states": (True, "x"),
    "return_dict": (False, "x"),
    "unheard_of": (5, {"a": []}),
}
CONFIGS = {
    **cases(CONFIG, UNUSABLE),
    **broken_files(CONFIG),
    "no model_type": content(CONFIG, b"{}"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_cannot_be_used_is_one_line(name, damaged):
    folder = damaged(CONFIGS[name])
    for read in (as_teacher, as_encoder):
        line, field = refused(folder, read, TeacherError), name.partition("=")[0].split()[-1]
        assert str(folder) in line or f"{field} = " in line


@pytest.mark.parametrize("name", slow_but([*cases(CONFIG, HARMLESS)][::4], cases(CONFIG, HARMLESS)))
def test_what_does_not_change_the_function_is_taken(name, models, damaged):
    folder = damaged(cases(CONFIG, HARMLESS)[name])
    for read in (as_teacher, as_encoder):
        assert read(folder) == read(models["bert"])


OTHER_FAMILIES = {
    "llama": {
        "num_hidden_layers": (HUGE, 3),
        "num_key_value_heads": (HUGE, 0, -1, "x"),
        "head_dim": (HUGE, 0, -1, "x", 7),
        "max_position_embeddings": (-1, 0),
        "rms_norm_eps": ("x", -1),
        "hidden_act": ("nope",),
        "rope_scaling": ("x", {"rope_type": "nope"}, {"rope_type": "yarn"}, {"rope_type": "linear", "factor": 0}),
        "vocab_size": (HUGE,),
        "tie_word_embeddings": (False, "x"),
    },
    "mpnet": {"relative_attention_num_buckets": (HUGE, 0, -1, "x"), "pad_token_id": (HUGE, None)},
    "vit": {
        "image_size": (HUGE, 0, -1, "x", None, [16], []),
        "patch_size": (HUGE, 0, -1, "x", None, [4], []),
        "num_channels": (HUGE, 0, 4, "x", None),
        "num_hidden_layers": (HUGE,),
        "num_labels": (HUGE,),
    },
    "dinov2": {"num_hidden_layers": (HUGE, 5), "mlp_ratio": (HUGE, 0, -1, 1.5), "out_features": ("x", ["nope"])},
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, faults in OTHER_FAMILIES.items() for name in cases(CONFIG, faults)]
)
def test_configs_of_other_families_too(kind, name, damaged):
    folder = damaged(cases(CONFIG, OTHER_FAMILIES[kind])[name], kind)
    refused(folder, as_teacher)


@pytest.mark.parametrize("name", ["num_hidden_layers", "num_labels", "vocab_size", "hidden_size", "intermediate_size"])
def test_huge_sizes_name_themselves(name, damaged):
    line = refused(damaged(values(CONFIG, **{name: HUGE})), as_teacher)
    counted = {"num_hidden_layers": "1 to 1,000", "num_labels": "0 to 100,000"}
    assert str(HUGE) in line
    assert counted.get(name, f"{WEIGHTS} holds ") in line


# ---- weights


def stored(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return content(WEIGHTS, struct.pack("<Q", len(text)) + text + body)


def float_of(**changed):
    return stored({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changed}}, b"1234")


WRONG_WEIGHTS = {
    "empty": content(WEIGHTS, b""),
    "short": content(WEIGHTS, b"1234567"),
    "pickle": content(WEIGHTS, b"\x80\x04\x95" + b"x" * 100),
    "half": edited(WEIGHTS, lambda data: data[: len(data) // 2]),
    "a byte more": edited(WEIGHTS, lambda data: data + b"x"),
    "huge header": content(WEIGHTS, struct.pack("<Q", 10**18) + b"{}"),
    "header that lies": content(WEIGHTS, struct.pack("<Q", 90_000_000) + b"{}"),
    "list": stored(b"[]"),
    "deep": stored(b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "nothing": stored({}),
    "other": float_of(),
    "beyond the file": float_of(shape=[HUGE], data_offsets=[0, 4 * HUGE]),
    "overflow": float_of(shape=[10**30]),
    "negative": float_of(shape=[-1]),
    "directory": directory(WEIGHTS),
    "loop": link_to(None)(WEIGHTS),
    "gone": lambda folder: (folder / WEIGHTS).unlink(),
    "transposed": tensors(lambda w: w.update({EMBEDDINGS: w[EMBEDDINGS].T})),
    "rows cut": tensors(lambda w: w.update({EMBEDDINGS: w[EMBEDDINGS][:50]})),
    "one number": tensors(lambda w: w.update({EMBEDDINGS: torch.tensor(1.0)})),
    "whole numbers": tensors(lambda w: w.update({EMBEDDINGS: w[EMBEDDINGS].long()})),
    "eight bits": tensors(lambda w: w.update({EMBEDDINGS: w[EMBEDDINGS].to(torch.float8_e4m3fn)})),
    "a layer gone": tensors(lambda w: [w.pop(name) for name in list(w) if ".layer.1." in name]),
    "one nan": tensors(lambda w: w["encoder.layer.1.attention.self.query.weight"][0, 0].fill_(float("nan"))),
    "inf": tensors(lambda w: w["encoder.layer.0.output.dense.bias"].fill_(float("inf"))),
}
SAME_WEIGHTS = {
    "more": tensors(lambda w: w.update({"more": torch.zeros(3), "encoder.layer.7.x": torch.zeros(1)})),
    "prefixed": tensors(lambda w: [w.update({f"bert.{name}": w.pop(name)}) for name in list(w)]),
    "double": tensors(lambda w: w.update({name: weight.double() for name, weight in w.items()})),
}


@pytest.mark.parametrize("name", WRONG_WEIGHTS)
def test_damaged_weights_are_one_line(name, damaged):
    folder = damaged(WRONG_WEIGHTS[name])
    for read in (as_teacher, as_encoder):
        assert str(folder) in refused(folder, read, TeacherError)


@pytest.mark.parametrize("name", SAME_WEIGHTS)
def test_weights_that_are_the_same_are_taken(name, models, damaged):
    folder = damaged(SAME_WEIGHTS[name])
    for read in (as_teacher, as_encoder):
        assert read(folder) == read(models["bert"])


# ---- tokenizers


FAR = {"content": "[FAR]", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
TOKENIZER = {
    "tokenizer_class": (5, [], "T5Tokenizer"),
    "model_max_length": ("x", 0, -5, 1.5, [], True),
    "sep_token": ("[NOSUCH]", 5, {"content": "[X]"}, []),
    "cls_token": ("[NOSUCH]", 5),
    "pad_token": ("[NOSUCH]", 5),
    "do_lower_case": ("maybe", 5, None, []),
    "strip_accents": ("x",),
    "extra_special_tokens": (5, "x", ["[A]"], {"a": 5}, [5]),
    "additional_special_tokens": (5, "x", ["[A]"], [5]),
    "added_tokens_decoder": ({"40000": FAR}, {str(ROWS): FAR}, "x", 5, {"x": {}}, {"0": 5}),
    "auto_map": (5, "x"),
    "model_input_names": (5,),
    "self": (5,),
}
SAME_TOKENIZER = {
    "model_max_length": (None, 1e30, 10**30, 16),
    "chat_template": (5, "{{", []),
    "tokenizer_file": ("/etc/passwd", 5),
    "vocab_file": ("/etc/passwd",),
    "model_input_names": ([], ["x"], ["input_ids"]),
    "auto_map": ({"AutoTokenizer": ["x.Y", None]},),
}


def model_with(**changed):
    return specification(lambda spec: {**spec, "model": {**spec["model"], **changed}})


def vocabulary_of(count):
    """A tokenizer.json gone, and a vocab.txt of some words in its place."""

    def damage(folder):
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.txt").write_text("\n".join(WORDS[:count]) + "\n" * bool(count))

    return damage


TOKENIZERS = {
    **cases("tokenizer_config.json", TOKENIZER),
    **{
        name: damage
        for file in ("tokenizer_config.json", "tokenizer.json")
        for name, damage in broken_files(file).items()
        if not (file == "tokenizer_config.json" and name.split()[1] in NO_FILE)
    },
    "vocabulary null": model_with(vocab=None),
    "vocabulary empty": model_with(vocab={}),
    "vocabulary cut": model_with(vocab={word: i for i, word in enumerate(SPECIAL)}),
    "id beyond": model_with(vocab={**{word: i for i, word in enumerate(SPECIAL)}, "the": 99_999}),
    "id of 32 bits": model_with(vocab={"[UNK]": 1, "the": 2**32}),
    "id negative": model_with(vocab={"[UNK]": 1, "the": -1}),
    "id a word": model_with(vocab={"[UNK]": 1, "the": "x"}),
    "type": model_with(type="X"),
    "no model": specification(lambda spec: {**spec, "model": None}),
    "normalizer": specification(lambda spec: {**spec, "normalizer": {"type": "X"}}),
    "version": specification(lambda spec: {**spec, "version": "99"}),
    "added tokens": specification(lambda spec: {**spec, "added_tokens": "x"}),
    "added token far": specification(
        lambda spec: {**spec, "added_tokens": [*spec["added_tokens"], {**FAR, "id": 50_000}]}
    ),
    "special_tokens_map list": content("special_tokens_map.json", b"[1]"),
    "special_tokens_map null": content("special_tokens_map.json", b"null"),
    "special_tokens_map far": values("special_tokens_map.json", sep_token="[NOSUCH]"),
    "added_tokens.json list": content("added_tokens.json", b"[1]"),
    "added_tokens.json far": values("added_tokens.json", **{"[FAR]": 99_999}),
    "vocab.txt short": vocabulary_of(20),
    "vocab.txt empty": vocabulary_of(0),
    "gone": lambda folder: [(folder / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
}
SAME_TOKENIZERS = {
    **cases("tokenizer_config.json", SAME_TOKENIZER),
    "vocab.txt": vocabulary_of(None),
    "vocab.txt beside": content("vocab.txt", bytes(range(256))),
    "tokenizer_config gone": lambda folder: (folder / "tokenizer_config.json").unlink(),
    **{
        f"{file} {name}": content(file, text)
        for file in ("generation_config.json", "preprocessor_config.json", "1_Pooling/config.json")
        for name, text in NO_OBJECT.items()
    },
    "generation_config directory": directory("generation_config.json"),
}


@pytest.mark.parametrize("name", slow_but([*TOKENIZERS][::3], TOKENIZERS))
def test_a_tokenizer_that_cannot_be_used_is_one_line(name, damaged):
    folder = damaged(TOKENIZERS[name])
    for read in (as_teacher, as_encoder):
        assert "has no usable tokenizer" in refused(folder, read, TeacherError)


@pytest.mark.parametrize("name", slow_but([*SAME_TOKENIZERS][::4], SAME_TOKENIZERS))
def test_files_that_are_not_read_make_no_difference(name, models, damaged):
    folder = damaged(SAME_TOKENIZERS[name])
    for read in (as_teacher, as_encoder):
        assert read(folder) == read(models["bert"])


# ---- image processors, other files


SQUARE = {"height": HUGE, "width": HUGE}
PROCESSOR = {
    "size": (SQUARE, {"height": 30_000, "width": 30_000}, "x", {"height": 0, "width": 0}, {"height": -1, "width": 16}),
    "resample": (99,),
    "rescale_factor": ("x", 0, float("nan"), 1e300),
    "image_mean": ("x", [0.5] * 4, [], [float("nan")] * 3),
    "image_std": ([0, 0, 0], "x"),
    "image_processor_type": ("nope", 5),
    "auto_map": (5,),
    "self": (5,),
}
PROCESSORS = {**cases("preprocessor_config.json", PROCESSOR), **broken_files("preprocessor_config.json")}


@pytest.mark.parametrize("name", PROCESSORS)
def test_an_image_processor_that_cannot_be_used_is_one_line(name, damaged):
    refused(damaged(PROCESSORS[name], "vit"), as_teacher, TeacherError)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_a_file_that_may_not_be_read_is_one_line(error, models, monkeypatch):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(Path, "read_text", refuse)
    assert error.strerror in refused(models["bert"], as_teacher, TeacherError)


POOLING = "1_Pooling/config.json"


def pipeline(options):
    """The files of a sentence-transformers pipeline, with these options of its pooling."""

    def damage(folder):
        types = {"": "sentence_transformers.models.Transformer", "1_Pooling": "sentence_transformers.models.Pooling"}
        modules = [{"path": path, "type": kind} for path, kind in types.items()]
        content("modules.json", json.dumps(modules))(folder)
        content(POOLING, json.dumps(options))(folder)

    return damage


@pytest.mark.parametrize("options", [{"pooling_mode": mode} for mode in ([], {}, None, 5, "x")] + [{}, [], None, "x"])
def test_a_pooling_that_cannot_be_used_is_one_line(options, damaged):
    folder = damaged(pipeline(options))
    assert str(folder) in refused(folder, lambda folder: load_teacher(str(folder)).pooling, TeacherError)
    assert str(folder) in refused(folder, as_encoder, TeacherError)


def test_a_damaged_onnx_file_is_one_line(damaged):
    folder = damaged(content("onnx/model.onnx", b"\x08\x07garbage"))
    line = refused(folder, lambda folder: folder_encoder(EvaluatedModel.open(str(folder), "onnx/model.onnx")))
    assert "file 'onnx/model.onnx'" in line


# ---- what is looked at without its weights


NO_MODEL = {
    "vocab_size": (HUGE, 0, -1, 10**30),
    "max_position_embeddings": (HUGE, -1),
    "hidden_act": ("nope",),
    "pad_token_id": (HUGE,),
    "hidden_dropout_prob": (2.0,),
    "per_layer_config": ({"0": {"hidden_size": 16}},),
}


@pytest.mark.parametrize("name", cases(CONFIG, NO_MODEL))
def test_a_family_is_not_checked_on_what_is_no_model(name, damaged):
    folder = damaged(cases(CONFIG, NO_MODEL)[name])
    refused(folder, lambda folder: check_family(load_config(str(folder))), TeacherError)


def test_a_family_is_checked_whatever_precision_its_weights_have(damaged):
    assert check_family(load_config(str(damaged(values(CONFIG, dtype="bfloat16")))))


# ---- the command line


@pytest.mark.parametrize("damage", ["hidden_size", "num_labels", "tokenizer"])
def test_commands_say_one_line(damage, damaged, capsys, tmp_path, write_task):
    faults = {
        "hidden_size": values(CONFIG, hidden_size="32"),
        "num_labels": values(CONFIG, num_labels=HUGE),
        "tokenizer": values("tokenizer_config.json", do_lower_case="maybe"),
    }
    folder = str(damaged(faults[damage]))
    tasks = write_task("mine", dev=[("a", "b", "0.5"), ("c", "c", "5")])
    for command in (
        ["search", "--teacher", folder, "--budget", "1MFLOPs", "--run", str(tmp_path / "run")],
        ["evaluate", folder, "--task", "mine", "--data", str(tasks)],
        ["profile", "--student", folder, "--out", str(tmp_path / "table.json")],
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(command)
        assert caught.value.code == 2
        assert folder in one_line(capsys)
    assert not (tmp_path / "run").exists()
