"""A tiny student, and what runtimes load: of a hand-made graph where speed matters, exported where the export does."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from autodistil.formats.onnx_int8 import quantise_onnx
from autodistil.formats.parity import Case, save_cases
from autodistil.profiling.profile import StudentSource, prepare_students, table_header
from autodistil.profiling.session import Prepared
from autodistil.space.student import StudentConfig

CONFIG = StudentConfig(1, 32, 2, 16, 64)
READS = {"vocab_size": 97, "longest": 38}
STUDENT = {"num_layers": 1, "hidden_size": 32, "num_heads": 2, "head_size": 16, "intermediate_size": 64}


def tiny_bert():
    """A random BERT of one layer."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=97,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
    )
    return BertModel(config).eval()


def lookup_graph(path, table, weight):
    """An ONNX file with a student's inputs and output of a looked-up and projected embedding; exporting takes long."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "weight"], ["projected"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["projected", "column"], ["last_hidden_state"]),
    ]
    shape = ["batch", "sequence"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, table.shape[1]])
    constants = {"table": table, "weight": weight, "last": np.array([2])}
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "lookup", inputs, [output], tensors)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def lookup_student(folder):
    """A hand-made student, ready to be measured in ONNX Runtime."""
    numbers = np.random.default_rng(0).standard_normal((129, 32)).astype(np.float32)
    table, weight = numbers[:97], numbers[97:]
    ids = np.random.default_rng(2).integers(0, 97, (2, 7))
    mask = np.ones_like(ids)
    mask[1, 4:] = 0
    cases = save_cases([Case({"input_ids": ids, "attention_mask": mask}, (table @ weight)[ids])], folder / "cases.npz")
    return Prepared("tiny", STUDENT, lookup_graph(folder / "model.onnx", table, weight), cases, READS)


@pytest.fixture(scope="session")
def source():
    return StudentSource("tiny", CONFIG, 40, tiny_bert)


@pytest.fixture(scope="session")
def header():
    return table_header("bert", 97)


@pytest.fixture(scope="session")
def lookup(tmp_path_factory):
    return lookup_student(tmp_path_factory.mktemp("lookup"))


@pytest.fixture(scope="session")
def lookup_int8(lookup, tmp_path_factory):
    path = quantise_onnx(lookup.path, tmp_path_factory.mktemp("int8") / "model.onnx")
    return Prepared(lookup.name, lookup.student, path, lookup.cases, READS)


@pytest.fixture(scope="session")
def exported(source, tmp_path_factory):
    return prepare_students([source], "onnx", tmp_path_factory.mktemp("onnx"))[0]
