import pytest

from xmlgrpo_rewards.numbers import is_worked


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("12+4 = 16", id="spaced-equals"),
        pytest.param("12+4=16", id="tight"),
        pytest.param("2 * 3 = 6", id="spaced"),
        pytest.param("costs 3*$5 = $15", id="dollars"),
        pytest.param("10 - 2.50 = 7.50", id="decimals"),
        pytest.param("3 × 4 = 12", id="times-sign"),
        pytest.param("1,200/4 = 300", id="division"),
        pytest.param("x = y = 12+4 = 16", id="not-the-first-equals-sign"),
        pytest.param("words " * 20_000 + "12+4 = 16", id="after-120-kB"),
    ],
)
def test_a_written_sum_is_worked(text: str) -> None:
    assert is_worked(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("#### 16", id="blurted"),
        pytest.param("I think it is 16.", id="guess"),
        pytest.param("x = 16", id="no-operands"),
        pytest.param("from 2020-2024 it grew", id="a-range-is-no-sum"),
        pytest.param("12+4", id="no-result"),
        pytest.param("", id="empty"),
        pytest.param("= 16", id="nothing-before"),
        pytest.param("1+1" + "7" * 30 + "=", id="a-number-too-long"),
        pytest.param("=" * 200 + "1+1=2", id="after-a-flood"),
    ],
)
def test_what_is_no_sum_is_not_worked(text: str) -> None:
    assert not is_worked(text)
