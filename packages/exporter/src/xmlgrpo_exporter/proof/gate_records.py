"""What the gates recorded of the files that are sent: worked out again, file by file.

A Modelfile is how a GGUF is asked, so it is written once more from the GGUF itself and compared.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from xmlgrpo_exporter.check.questions import system_of
from xmlgrpo_exporter.check.verdict import gguf_fault, merge_fault
from xmlgrpo_exporter.convert.modelfile import modelfile
from xmlgrpo_exporter.publish.own_files import OwnFile
from xmlgrpo_exporter.publish.release import Release
from xmlgrpo_exporter.publish.results import ResultFile
from xmlgrpo_exporter.publish.upload_files import UploadFile
from xmlgrpo_exporter.quants import quant_of
from xmlgrpo_gguf.header import GgufHeader, read_header
from xmlgrpo_rewards import reply
from xmlgrpo_rewards.errors import UserError
from xmlgrpo_rewards.task import get_task
from xmlgrpo_rollout.stop_tokens import END_OF_TURN

RECORD_FORMAT = 1  # of a merge's, an export's and a ladder's
MODELFILE, FILE_TYPE = ".Modelfile", "general.file_type"


def fault_of(record: ResultFile, release: Release) -> str | None:
    """What is wrong with a record of gates, whatever it says of itself; None where all passed."""
    if (version := record.at("format")) != RECORD_FORMAT:
        return f"expected format {RECORD_FORMAT}, got {version!r}"
    if record is release.results.merge:
        return merge_fault(record.content)
    if record.at("passed") is not True:
        return "it did not pass"
    is_ladder = record is release.results.ladder
    return _ladder_fault(record) if is_ladder else _check_fault(record, release)


def unchecked(release: Release) -> list[str]:
    """The GGUF files whose bytes are not those that the export's check looked at."""
    check = release.results.check
    if check is None:
        return []
    hashes = {file.target: file.sha256 for file in release.files}
    return [name for name in release.ggufs if check.at("files", name, "sha256") != hashes[name]]


def _ladder_fault(ladder: ResultFile) -> str | None:
    failed = [
        rung.get("label")
        for rung in ladder.at("rungs")
        if rung.get("passed") is not (None if rung.get("against") is None else True)
    ]
    return f"{failed[0]} did not pass" if failed else None


def _check_fault(record: ResultFile, release: Release) -> str | None:
    entries = record.at("files")
    if not isinstance(entries, Mapping) or not entries:
        return "it holds no file"
    manifest = release.results.manifest
    if manifest is not None and record.at("task") != manifest.at("task"):
        return f"it is of the task {record.at('task')!r}"
    sent = {file.target: file for file in release.files if file.target in release.ggufs}
    for name, entry in entries.items():
        if fault := _entry_fault(entry, sent.get(name)):
            return f"{name}, {fault}"
    if source := record.at("source"):
        fault = gguf_fault(source, str(record.at("source", "quant")))
        return fault and f"the file that the others are quantized from, {fault}"
    return None


def _entry_fault(entry: Any, file: UploadFile | None) -> str | None:
    """What is wrong with what was found of one file, which may have stayed at home."""
    if file is None:
        return gguf_fault(entry, str(entry.get("quant") if isinstance(entry, Mapping) else None))
    header = _header(file)
    if fault := gguf_fault(entry, quant_of(header.metadata.get(FILE_TYPE)), file.size):
        return fault
    gates = entry["gates"]
    if gates["file"]["found"]["tensors"] != len(header.tensors):
        return f"it is of a file of {gates['file']['found']['tensors']} tensors"
    ends = [header.metadata.get("tokenizer.ggml.eos_token_id")]
    if END_OF_TURN in header.tokens:
        ends.append(header.tokens.index(END_OF_TURN))
    lost = {str(token) for token in ends if token is not None}
    lost -= gates["stop"]["found"]["ends_generation"].keys()
    return f"the gate 'stop' has not looked at the id {min(lost)}" if lost else None


def modelfile_problems(release: Release, check_again: str) -> Iterator[str]:
    """Why a Modelfile would not ask its file as training asked: it is written once more."""
    check = release.results.check
    for file in release.files:
        if not file.target.endswith(MODELFILE):
            continue
        name = file.target.removesuffix(MODELFILE) + ".gguf"
        gguf = next((other for other in release.files if other.target == name), None)
        if gguf is None:
            yield f"{file.target} is published without {name}, which it is for; remove it"
            continue
        entry = None if check is None else check.part("files", name)
        try:
            text = modelfile(name, _header(gguf), _stop_ids(gguf, entry), _system(release, gguf))
        except UserError as error:
            yield f"{file.target} cannot be compared with {name}: {error}"
            continue
        hashed = file.sha256 if entry is None else entry.at("modelfile_sha256")
        if text.encode() != file.read() or hashed != file.sha256:
            yield (
                f"{file.target} does not ask {name} as training asked (template, system text, "
                f"stops), or no check has its hash; run: {check_again}; if it stays so, remove "
                f"both and export again: make gguf RUN={release.run.called}"
            )


def _stop_ids(gguf: UploadFile, entry: ResultFile | None) -> list[int]:
    """The ids that end a reply: those that were checked, else what the file says of itself."""
    if entry is not None:
        ends = entry.at("gates", "stop", "found", "ends_generation")
        return sorted(int(token) for token in ends if token.isdigit()) if ends else []
    header = _header(gguf)
    known = [header.metadata.get(f"tokenizer.ggml.{end}_token_id") for end in ("eos", "eot")]
    if END_OF_TURN in header.tokens:
        known.append(header.tokens.index(END_OF_TURN))
    return sorted({token for token in known if isinstance(token, int)})


def _system(release: Release, gguf: UploadFile) -> str:
    """What the model is told before every question; nothing where it has no chat template."""
    if "tokenizer.chat_template" not in _header(gguf).metadata:
        return ""
    manifest, check = release.results.manifest, release.results.check
    task = manifest.at("task") if manifest else check and check.at("task")
    return system_of((get_task(str(task)) if task else reply).messages(""))


def _header(file: UploadFile) -> GgufHeader:
    assert isinstance(file.content, OwnFile)  # noqa: S101  weights are never made here
    with file.content.readable() as address:
        return read_header(address)
