"""`push` sends an export's files and nothing else: up to the HTTP calls, against a stand-in of the Hub on loopback."""

import base64
import json
import os
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from autodistil.errors import ExportError
from autodistil.export.hub import files_of, push
from autodistil.models.student_files import LIST, read_list, write_list
from autodistil.utils import file_sum

SENT = [
    "1_Pooling/config.json",
    "LICENSE",
    "README.md",
    "config.json",
    LIST,
    "model.safetensors",
    "onnx/model.onnx",
    "openvino/weights.bin",
    "openvino/weights.xml",
]
LEFT = (".env", "customer_data.json", "link.json", "notes.html", "passwords.txt", "pytorch_model.bin", "scratch.py")


@pytest.fixture
def student(tmp_path):
    """What an export looks like, with things that must stay at home."""
    folder = tmp_path / "student"
    plain = ("config.json", "model.safetensors", "README.md", "LICENSE")
    for name in (*plain, "1_Pooling/config.json", "onnx/model.onnx"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("---\nlicense: mit\n---\n" if name == "README.md" else "{}")
    for name in ("pytorch_model.bin", ".env", "notes.html", "openvino/weights.xml", "openvino/weights.bin"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("secret")
    for name in ("passwords.txt", "customer_data.json", "scratch.py"):
        (folder / name).write_text("secret")
    (folder / "link.json").symlink_to("/etc/hostname")
    (folder / "linked").symlink_to("/etc")
    write_list(folder, {name: file_sum(folder / name) for name in SENT if name != LIST})
    return folder


def test_files_of_an_export_are_chosen(student):
    assert files_of(student) == SENT


def test_a_dry_run_sends_nothing(student):
    found = push(student, "me/student", dry_run=True)
    assert found.url is None
    assert [name for name, _ in found.files] == SENT
    assert set(found.left) == set(LEFT)


def test_words_may_be_changed_and_all_else_may_not(student):
    (student / "README.md").write_text("my own words")
    assert files_of(student) == SENT
    (student / "onnx" / "model.onnx").unlink()  # what is gone is not sent
    assert files_of(student) == [name for name in SENT if name != "onnx/model.onnx"]
    (student / "config.json").write_text("{ }")
    with pytest.raises(ExportError, match=r"config\.json in .* is not what autodistil wrote"):
        files_of(student)


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname", "a/../../b", ""])
def test_a_list_that_leaves_the_folder_is_refused(student, name):
    write_list(student, {**read_list(student), name: "0" * 64})
    with pytest.raises(ExportError, match=r"exported\.json' is damaged .*outside of the folder"):
        files_of(student)


def test_a_listed_link_that_leaves_the_folder_stays_here(student):
    sums = {"link.json": "0" * 64, "linked/hostname": "0" * 64}
    write_list(student, {**read_list(student), **sums})
    assert files_of(student) == SENT


def test_an_export_without_a_list_is_not_guessed_at(student):
    (student / LIST).unlink()
    with pytest.raises(ExportError, match=r"has no exported\.json, .* hf upload"):
        files_of(student)


@pytest.mark.parametrize("repo", ["a/b/c", "with space", "-leading", "a" * 200])
def test_bad_names_are_refused(student, repo):
    with pytest.raises(ExportError, match="is no name for the Hub"):
        push(student, repo, dry_run=True)


def test_a_folder_that_is_no_student_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"no exported student: it has no config\.json"):
        push(tmp_path, "me/student", dry_run=True)


class Hub(BaseHTTPRequestHandler):
    """Answers what `huggingface_hub` asks for, and notes it."""

    def do_GET(self):
        self.answer(404, {"error": "nothing here"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.calls.append((self.path, self.headers.get("Authorization"), body))
        if self.server.refuse:
            self.answer(403, {"error": "Forbidden: you may not write here"})
        elif self.path == "/api/repos/create":
            name = json.loads(body)
            self.answer(200, {"url": f"{self.server.url}/me/{name['name']}", "name": f"me/{name['name']}"})
        elif "/preupload/" in self.path:
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            self.answer(200, {"files": files})
        elif "/commit/" in self.path:
            self.answer(200, {"commitUrl": f"{self.server.url}/me/student/commit/abc", "commitOid": "abc"})
        else:
            self.answer(200, {"errors": [], "warnings": []})

    def answer(self, status, content):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url, server.calls, server.refuse = f"http://127.0.0.1:{server.server_port}", [], False
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def command(hub, student, *more, token="hf_stand_in"):
    """The command in a process of its own: `huggingface_hub` reads its settings as it is imported."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(student.parent / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment |= {"HF_HUB_DISABLE_XET": "1", **({"HF_TOKEN": token} if token else {})}
    line = [sys.executable, "-m", "autodistil", "push", str(student), "--repo", "student", *more]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_one_commit_holds_the_files(hub, student):
    done = command(hub, student, "--private")
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/me/student/commit/abc" in done.stdout
    assert "stays here, as autodistil did not write it: passwords.txt" in done.stdout
    paths = [path for path, _, _ in hub.calls]
    assert paths[0] == "/api/repos/create"
    created = json.loads(hub.calls[0][2])
    assert created.get("private") is True or created.get("visibility") == "private"  # by the library's version
    (commit,) = [body for path, _, body in hub.calls if "/commit/" in path]
    lines = [json.loads(line) for line in commit.splitlines()]
    files = {
        line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
    }
    assert sorted(files) == SENT
    assert files["config.json"] == b"{}"
    assert {token for _, token, _ in hub.calls} == {"Bearer hf_stand_in"}


def test_a_refusal_is_one_line(hub, student):
    hub.refuse = True
    done = command(hub, student)
    assert done.returncode == 2
    assert re.fullmatch(r"autodistil: the Hugging Face Hub refuses 'student': .*check the name.*\n", done.stderr)


def test_no_token_is_one_line(hub, student):
    hub.refuse = True
    done = command(hub, student, token=None)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
