"""The converter: fetched, verified, unpacked file by file; or the user's own."""

import io
import tarfile
from importlib.metadata import PackageNotFoundError

import pytest

from xmlgrpo_exporter.convert import converter
from xmlgrpo_exporter.quants import PINNED
from xmlgrpo_rewards.errors import UserError

from ..exporting import QUIET


def archive_of(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def test_only_the_converter_leaves_the_archive(tmp_path):
    archive = archive_of(
        tmp_path / "sdist.tar.gz",
        {
            converter.INSIDE + converter.SCRIPT: b"print()",
            converter.INSIDE + "gguf-py/gguf/__init__.py": b"",
            converter.INSIDE + "conversion/link.py": None,
            converter.INSIDE + "src/llama.cpp": b"not wanted",
            "llama_cpp_python-0.3.36/setup.py": b"not wanted",
        },
    )
    out = converter.unpack(archive, tmp_path / "out")
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == [converter.SCRIPT, "gguf-py/gguf/__init__.py"]


def test_member_that_climbs_out_is_refused(tmp_path):
    climbing = converter.INSIDE + "gguf-py/../../../escaped.py"
    archive = archive_of(tmp_path / "sdist.tar.gz", {climbing: b"print()"})
    with pytest.raises(tarfile.OutsideDestinationError):
        converter.unpack(archive, tmp_path / "out")
    assert not list(tmp_path.rglob("escaped.py"))


def test_another_archive_is_refused_by_pip(tmp_path, monkeypatch):
    content = {converter.INSIDE + converter.SCRIPT: b"print()"}
    archive_of(tmp_path / f"llama_cpp_python-{PINNED}.tar.gz", content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("XMLGRPO_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=f"Expected sha256 {converter.SDIST_SHA256}"):
        converter.find_converter(QUIET)
    assert not list((tmp_path / "cache" / "llama.cpp").iterdir())


def test_llama_cpp_dir_is_honoured_and_looked_at(tmp_path, monkeypatch):
    monkeypatch.setenv("LLAMA_CPP_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"expected convert_hf_to_gguf\.py"):
        converter.find_converter(QUIET)
    (tmp_path / converter.SCRIPT).write_text("")
    (tmp_path / "gguf-py").mkdir()
    assert converter.find_converter(QUIET) == tmp_path


def test_cache_can_be_moved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XMLGRPO_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert converter.cache_folder() == tmp_path / "xdg" / "xmlgrpo" / "llama.cpp"
    monkeypatch.setenv("XMLGRPO_CACHE", str(tmp_path / "mine"))
    assert converter.cache_folder() == tmp_path / "mine" / "llama.cpp"


def test_missing_runtime_says_how_to_get_it(monkeypatch):
    def missing(_name):
        raise PackageNotFoundError

    monkeypatch.setattr(converter, "version", missing)
    with pytest.raises(UserError, match="make gguf-setup"):
        converter.require_runtime()


def test_other_runtime_is_refused_unless_the_user_answers_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(converter, "version", lambda _name: "0.4.0")
    monkeypatch.delenv("LLAMA_CPP_DIR", raising=False)
    with pytest.raises(UserError, match=r"expected llama-cpp-python 0\.3\.36, got 0\.4\.0"):
        converter.require_runtime()
    monkeypatch.setenv("LLAMA_CPP_DIR", str(tmp_path))
    converter.require_runtime()
