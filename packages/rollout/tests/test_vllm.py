"""Which vLLM trl works with, said before it is started."""

import re
from contextlib import nullcontext
from pathlib import Path

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.vllm import check_version, check_vllm
from xmlgrpo_run.checkout import installed_version


@pytest.mark.parametrize(
    ("found", "refused"),
    [
        pytest.param("0.20.0", False, id="oldest"),
        pytest.param("0.24.0+cu130", False, id="local-part"),
        pytest.param("0.30.0", False, id="newest"),
        pytest.param("0.25", False, id="short"),
        pytest.param("0.19.3", True, id="older"),
        pytest.param("0.30.1", True, id="newer"),
        pytest.param("1.0.0", True, id="newer-major"),
        pytest.param("dev", True, id="no-number"),
    ],
)
def test_the_versions_that_trl_takes(found: str, refused: bool) -> None:
    says = rf"expected vLLM 0\.20\.0 to 0\.30\.0.*got {found}"
    with pytest.raises(UserError, match=says) if refused else nullcontext():
        check_version(found, "1.14.2")


def test_what_is_lacking_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xmlgrpo_rollout.vllm.installed_version", lambda _name: None)
    with pytest.raises(UserError, match="a GPU, and the model is on 'cpu', and a vllm package"):
        check_vllm("cpu")


def test_they_are_those_of_the_trl_here() -> None:
    imported = pytest.importorskip("trl.import_utils")
    from importlib.metadata import version
    from inspect import getsource

    bounds = r'Version\("([\d.]+)"\) <= _vllm_base_version <= Version\("([\d.]+)"\)'
    [(oldest, newest)] = re.findall(bounds, getsource(imported))
    for found in (oldest, newest):
        check_version(found, version("trl"))
    for found in ("0.19.9", f"{newest}1"):
        with pytest.raises(UserError, match=f"expected vLLM {oldest} to {newest}"):
            check_version(found, version("trl"))


def test_a_folder_of_that_name_is_no_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if installed_version("vllm"):
        pytest.skip("vLLM is installed here")
    (tmp_path / "vllm").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"needs a vllm package .* which is not installed"):
        check_vllm("cuda")
