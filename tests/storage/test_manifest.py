import json
import subprocess
import sys

import pytest

from fairplay.errors import DataError, LockedError
from fairplay.storage.atomic import folder_atomic
from fairplay.storage.digests import content_digest, sha256_files
from fairplay.storage.locking import lock
from fairplay.storage.manifest import Manifest, is_finished, read_manifest, verify_files, write_manifest


def manifest(folder, seconds=1.0):
    return Manifest(
        "2-responses", 1, {"seed": 0}, {"policy": "abc"}, 3, 2, {"too long": 1}, sha256_files(folder), seconds=seconds
    )


def test_a_folder_counts_only_with_its_manifest(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    assert not is_finished(tmp_path)
    with pytest.raises(DataError, match="not finished"):
        read_manifest(tmp_path)
    written = manifest(tmp_path)
    write_manifest(tmp_path, written)
    assert read_manifest(tmp_path) == written


def test_times_do_not_change_the_content_hash_and_bytes_do(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    first = manifest(tmp_path)
    assert first.content == manifest(tmp_path, seconds=9.0).content
    (tmp_path / "a.txt").write_text("Hello")
    assert first.content != manifest(tmp_path).content
    assert verify_files(tmp_path, first) == [f"{tmp_path / 'a.txt'}: its bytes differ from the manifest"]


def test_an_edited_or_torn_manifest_is_refused(tmp_path):
    write_manifest(tmp_path, manifest(tmp_path))
    path = tmp_path / "manifest.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "num_out": 99}))
    with pytest.raises(DataError, match="changed after it was written"):
        read_manifest(tmp_path)
    path.write_text(json.dumps(document)[:-30])
    with pytest.raises(DataError, match="damaged"):
        read_manifest(tmp_path)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def fill():
        with folder_atomic(tmp_path / "model") as folder:
            (folder / "weights").write_bytes(b"123")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill()
    assert not (tmp_path / "model").exists()
    with folder_atomic(tmp_path / "model") as folder:
        (folder / "weights").write_bytes(b"123")
    assert list(sha256_files(tmp_path)) == ["model/weights"]


def test_the_place_of_a_local_file_does_not_change_its_digest(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("same")
    assert content_digest(str(tmp_path / "a")) == content_digest(str(tmp_path / "b"))
    assert content_digest("owner/model") == "owner/model"


def test_a_home_folder_is_read_and_a_path_with_nothing_there_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    before = content_digest("~/model")
    (tmp_path / "model" / "weights").write_text("2")
    assert content_digest("~/model") != before
    for missing in ("~/nothing", "./nothing", "/nothing", "a/b/c", "../x", ""):
        with pytest.raises(DataError, match="no such file or folder"):
            content_digest(missing)


FILL = """
import pathlib, resource, signal, sys
from fairplay.errors import ResourceError
from fairplay.storage.atomic import write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = pathlib.Path(sys.argv[1])
write_atomic(path, b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomic(path, b"x" * 100000)
except ResourceError as error:
    print(error)
"""


def test_a_full_disk_is_named_and_the_old_file_is_kept(tmp_path):
    path = tmp_path / "a"
    told = subprocess.run([sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, check=True).stdout
    assert f"{path}: can't write" in told
    assert path.read_bytes() == b"old"


HOLD = """
import pathlib, sys
from fairplay.storage.locking import lock
with lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LockedError, match=str(holder.pid)), lock(tmp_path):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    holder.stdin.close()
    with lock(tmp_path):
        pass
