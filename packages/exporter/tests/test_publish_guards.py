"""What may leave the machine, and what must not: files, secrets, names, gates."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xmlgrpo_exporter.allow_list import sort_files
from xmlgrpo_exporter.artefacts import choose, find_artefacts
from xmlgrpo_exporter.gates import gate_problems
from xmlgrpo_exporter.preflight import check_names
from xmlgrpo_exporter.published_text import without_paths
from xmlgrpo_exporter.run_results import read_results
from xmlgrpo_exporter.token_guard import SecretSearch, secrets_at_hand
from xmlgrpo_exporter.upload_plan import PlannedFile, plan_path, target_of
from xmlgrpo_exporter.weights_format import check_weights
from xmlgrpo_rewards.errors import UserError

from . import run_folders
from .hub_server import RefusalError, serve

CANARY = "hf_CANARYnowhereCANARYnowhere99"

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])  # the server side of three tests below


# --- the allow-list


@pytest.mark.parametrize(
    ("artefact", "name", "goes"),
    [
        ("adapter", "adapter_model.safetensors", True),
        ("adapter", "chat_template.jinja", True),
        ("adapter", "adapter_model.bin", False),
        ("adapter", "training_args.bin", False),
        ("adapter", "optimizer.pt", False),
        ("adapter", "rng_state_0.pth", False),
        ("adapter", "README.md", False),
        ("adapter", ".env", False),
        ("merged", "model-00001-of-00002.safetensors", True),
        ("merged", "model.safetensors.index.json", True),
        ("merged", "pytorch_model.bin", False),
        ("merged", "modeling_custom.py", False),
        ("merged", "Config.json", False),
        ("gguf", "m-q8_0.gguf", True),
        ("gguf", "m-q8_0.gguf.partial", False),
        ("gguf", ".m-q8_0.gguf.12.partial", False),
        ("gguf", "m-q8_0.Modelfile", True),
        ("gguf", "m-q8_0.gguf.rejected", False),
        ("gguf", "check.json", False),
        ("gguf", "imatrix.dat", False),
        ("gguf", "quantize.log", False),
    ],
)
def test_the_allow_list(tmp_path, artefact, name, goes):
    (tmp_path / name).write_bytes(b"x")
    found = sort_files(tmp_path, artefact)
    assert (len(found.go), len(found.stay)) == ((1, 0) if goes else (0, 1))


def test_folders_below_an_artefact_stay(tmp_path):
    (tmp_path / "checkpoint-40").mkdir()
    (tmp_path / "checkpoint-40" / "adapter_config.json").write_text("{}")
    assert sort_files(tmp_path, "adapter").go == ()


def test_a_link_that_leads_out_of_the_folder_stays(tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "tokenizer.json").symlink_to(tmp_path / "secret")
    assert sort_files(tmp_path / "adapter", "adapter").go == ()


# --- artefacts


def test_without_a_choice_everything_there_goes(tmp_path):
    run_folders.write_full_run(tmp_path)
    chosen = choose(find_artefacts(tmp_path, None), None, with_base=False)
    assert [artefact.name for artefact in chosen] == ["adapter", "merged", "gguf"]


@pytest.mark.parametrize(
    ("what", "removed", "expected"),
    [
        pytest.param(("weights",), (), "expected any of adapter, merged", id="unknown-word"),
        pytest.param(("merged",), ("merged",), "merged was to be published, but", id="absent"),
        pytest.param(
            ("adapter",), ("adapter/adapter_model.safetensors",), "lacks adapter_model", id="half"
        ),
        pytest.param(("merged",), ("merged/model.safetensors",), "lacks model", id="no-weights"),
    ],
)
def test_a_wrong_choice_is_refused(tmp_path, what, removed, expected):
    run_folders.write_full_run(tmp_path)
    for name in removed:
        path = tmp_path / name
        path.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=expected):
        choose(find_artefacts(tmp_path, None), what, with_base=False)


def test_a_missing_shard_is_found(tmp_path):
    run_folders.write_merged(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    run_folders.write_json(tmp_path / "model.safetensors.index.json", {"weight_map": shards})
    with pytest.raises(UserError, match=r"lacks model-00002-of-00002\.safetensors"):
        choose(find_artefacts(tmp_path, None), None, with_base=False)


def test_an_empty_folder_has_nothing_to_publish(tmp_path):
    with pytest.raises(UserError, match="nothing to publish"):
        choose(find_artefacts(tmp_path, None), None, with_base=False)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("adapter",), {"adapter": "x"}),
        (("adapter", "gguf"), {"adapter": "x", "gguf": "x"}),
        (("adapter", "merged"), {"adapter": "adapter/x", "merged": "x"}),
        (("adapter", "base"), {"adapter": "x", "base": "base/x"}),
    ],
)
def test_an_adapter_never_lies_beside_merged_weights(tmp_path, names, expected):
    run_folders.write_full_run(tmp_path)
    run_folders.write_merged(tmp_path / "base")
    found = find_artefacts(tmp_path, tmp_path / "base")
    targets = {
        name: target_of(found[name], Path("x"), alone="merged" not in names) for name in names
    }
    assert targets == expected


# --- weights


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        pytest.param("w.safetensors", b"\x80\x04\x95pickle" * 9, "expected a safeten", id="pickle"),
        pytest.param("w.safetensors", b"", "expected a safetensors", id="empty"),
        pytest.param(
            "w.safetensors", run_folders.safetensors(99)[:-1], "cut short", id="cut-short"
        ),
        pytest.param("w.gguf", b"GGML" + b"\0" * 60, "GGUF", id="another-magic"),
        pytest.param("w.gguf", run_folders.gguf()[:-1], "w.gguf", id="gguf-cut-short"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=expected):
        check_weights(tmp_path / name)


def test_whole_weights_pass(tmp_path):
    for name, content in (
        ("w.safetensors", run_folders.safetensors(99)),
        ("w.gguf", run_folders.gguf()),
    ):
        (tmp_path / name).write_bytes(content)
        check_weights(tmp_path / name)


# --- secrets


@pytest.mark.parametrize("cut", range(0, len(CANARY), 5))
def test_a_secret_cut_by_the_end_of_a_piece_is_seen(cut):
    search = SecretSearch((b"another-secret",))
    search.feed(b"x" * 1000 + CANARY[:cut].encode())
    search.feed(CANARY[cut:].encode() + b"x" * 1000)
    assert search.found


@pytest.mark.parametrize("value", [CANARY, "wandb-key-0123456789abcdef"])
def test_a_file_with_a_secret_is_refused_and_the_secret_not_repeated(tmp_path, monkeypatch, value):
    monkeypatch.setenv("WANDB_API_KEY", "wandb-key-0123456789abcdef")
    path = tmp_path / "tokenizer_config.json"
    path.write_text(f'{{"note": "{value}"}}')
    with pytest.raises(UserError, match=r"tokenizer_config.json holds a token") as refusal:
        plan_path("tokenizer_config.json", "tokenizer", path, secrets_at_hand(None))
    assert value not in str(refusal.value)


@pytest.mark.parametrize(
    ("value", "published"),
    [
        ("/home/ann/models/base", "base"),
        ("/home/ann/models/base/", "base"),
        (r"C:\Users\ann\base", "base"),
        ("google/gemma-3-1b-it", "google/gemma-3-1b-it"),
        ("/answer", "/answer"),
        ({"a": ["/home/ann/x", 1, None]}, {"a": ["x", 1, None]}),
    ],
)
def test_paths_of_this_machine_are_cut(value, published):
    assert without_paths(value) == published


def test_the_token_is_found_nowhere_after_a_push(tmp_path):
    """Every byte that the command printed, wrote or sent, but for the header that needs it."""
    run = run_folders.write_full_run(tmp_path / "run")
    with serve({CANARY: ("alice", "write")}) as hub:
        result = cli(hub.url, "--run", str(run), "--repo", "alice/m", home=tmp_path / "home")
        assert result.returncode == 0, result.stderr
        assert any(request.authorization == f"Bearer {CANARY}" for request in hub.requests)
        sent = [request.path.encode() + request.body for request in hub.requests]
        kept = [blob.content for blob in hub.repos["alice/m"].tree().values()]
        to_the_store = [r for r in hub.requests if r.path.startswith("/lfs/")]
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    everything = [*sent, *kept, *written, result.stdout, result.stderr]
    assert not any(CANARY.encode() in content for content in everything)
    assert to_the_store
    assert all(request.authorization is None for request in to_the_store)


def test_an_answer_that_echoes_the_token_is_not_repeated(tmp_path):
    run = run_folders.write_full_run(tmp_path / "run")

    def echo(request):
        if "/commit/" in request.path:
            raise RefusalError(400, f"bad header {request.authorization}")

    with serve({CANARY: ("alice", "write")}) as hub:
        hub.before = echo
        result = cli(hub.url, "--run", str(run), "--repo", "alice/m", home=tmp_path / "home")
    assert result.returncode == 2
    assert b"bad header Bearer hf_..." in result.stderr
    assert CANARY.encode() not in result.stderr + result.stdout


def test_a_token_as_argument_is_refused_before_anything_is_asked(tmp_path):
    with serve({CANARY: ("alice", "write")}) as hub:
        result = cli(hub.url, "--token", CANARY, "--run", "x", "--repo", "a/b", home=tmp_path)
        assert hub.requests == []
    assert result.returncode == 2
    assert b"holds a Hugging Face token" in result.stderr
    assert CANARY.encode() not in result.stderr + result.stdout


@pytest.mark.parametrize("endpoint", ["nonsense", "ftp://hub.example", "https://"])
def test_an_endpoint_that_is_no_address(tmp_path, endpoint):
    result = cli(endpoint, "--run", str(tmp_path), "--repo", "alice/m", home=tmp_path)
    assert result.returncode == 2
    assert b"HF_ENDPOINT: expected https://HOST" in result.stderr


def test_a_hub_that_is_not_there(tmp_path):
    run = run_folders.write_full_run(tmp_path / "run")
    result = cli("http://127.0.0.1:9", "--run", str(run), "--repo", "alice/m", home=tmp_path)
    assert result.returncode == 2
    assert b"could not be reached or broke off, twice" in result.stderr
    assert b"Traceback" not in result.stderr


def cli(url: str, *words: str, home: Path) -> subprocess.CompletedProcess[bytes]:
    """Run `xmlgrpo-export push` as a user would, the token in the environment."""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": url, "HF_TOKEN": CANARY, "HF_HOME": str(home)}
    main = "from xmlgrpo_exporter.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", main, "push", *words],
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )


# --- names


@pytest.mark.parametrize(
    ("repo", "revision"),
    [
        ("name-only", "main"),
        ("a/b/c", "main"),
        ("me/na me", "main"),
        ("me/-name", "main"),
        ("me/a..b", "main"),
        ("me/a--b", "main"),
        ("me/x.git", "main"),
        ("me/" + "x" * 96, "main"),
        ("me/名", "main"),
        ("me/x", "a..b"),
        ("me/x", "a b"),
        ("me/x", "-rf"),
        ("me/x", "refs/pr/1"),
        ("me/x", "0" * 40),
        ("me/x", "x.lock"),
    ],
)
def test_names_that_the_hub_would_refuse_are_refused_here(repo, revision):
    with pytest.raises(UserError, match="expected"):
        check_names(repo, revision)


@pytest.mark.parametrize("revision", ["main", "steps/40", "q4_k_m", "v1.0"])
def test_ordinary_names_pass(revision):
    check_names("me-2/gsm8k_1b.v2", revision)


# --- gates


def planned(run: Path) -> list[PlannedFile]:
    files = [
        ("model.safetensors", run / "merged/model.safetensors"),
        *((path.name, path) for path in sorted((run / "gguf").glob("*.gguf"))),
    ]
    return [
        PlannedFile(target, "weights", path, 0, hashlib.sha256(path.read_bytes()).hexdigest())
        for target, path in files
    ]


@pytest.mark.parametrize(
    ("check", "ladder", "ungated", "expected"),
    [
        pytest.param(True, True, False, [], id="both-passed"),
        pytest.param(False, True, False, ["check did not pass"], id="check-failed"),
        pytest.param(True, False, False, ["ladder did not pass"], id="ladder-failed"),
        pytest.param(None, True, False, ["check has not run"], id="check-missing"),
        pytest.param(True, None, False, ["ladder has not run"], id="ladder-missing"),
        pytest.param(None, None, True, [], id="missing-waived"),
        pytest.param(False, True, True, ["check did not pass"], id="a-failure-is-never-waived"),
    ],
)
def test_the_gates(tmp_path, check, ladder, ungated, expected):
    run_folders.write_full_run(tmp_path)
    run_folders.write_gates(tmp_path, check=check is True, ladder=ladder is True)
    if check is None:
        (tmp_path / "gguf/check.json").unlink()
    if ladder is None:
        (tmp_path / "ladder.json").unlink()
    problems = gate_problems(read_results(tmp_path, None), planned(tmp_path), ungated=ungated)
    assert len(problems) == len(expected)
    for problem, words in zip(problems, expected, strict=True):
        assert words in problem
        assert "un: " in problem, "it does not say what to run"


def test_a_file_that_changed_after_its_check_is_refused(tmp_path):
    run_folders.write_full_run(tmp_path)
    (tmp_path / "gguf/gsm8k-1b-q8_0.gguf").write_bytes(run_folders.gguf(b"\7"))
    problems = gate_problems(read_results(tmp_path, None), planned(tmp_path), ungated=False)
    assert [problem.split(" has")[0] for problem in problems] == ["gsm8k-1b-q8_0.gguf"]


def test_a_file_that_the_ladder_never_saw_is_refused(tmp_path):
    run_folders.write_full_run(tmp_path)
    run_folders.write_gguf(tmp_path / "gguf", "late-q8_0.gguf")
    ladder = (tmp_path / "ladder.json").read_bytes()
    run_folders.write_gates(tmp_path)
    (tmp_path / "ladder.json").write_bytes(ladder)
    problems = gate_problems(read_results(tmp_path, None), planned(tmp_path), ungated=False)
    assert problems == ("the ladder has no result of late-q8_0. Run: make ladder RUN=…",)


def test_an_adapter_needs_no_gate(tmp_path):
    run_folders.write_adapter(tmp_path / "adapter")
    results = read_results(tmp_path, None)
    adapter = PlannedFile("adapter_model.safetensors", "weights", b"", 0, "")
    assert gate_problems(results, [adapter], ungated=False) == ()
