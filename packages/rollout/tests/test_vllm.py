"""Which vLLM trl works with, said before it is started."""

from contextlib import nullcontext

import pytest

from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rollout.vllm import check_version


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
        check_version(found)


def test_they_are_those_of_the_trl_here() -> None:
    imported = pytest.importorskip("trl.import_utils")
    from inspect import getsource

    source = getsource(imported.is_vllm_available)
    assert 'Version("0.20.0") <= _vllm_base_version <= Version("0.30.0")' in source
