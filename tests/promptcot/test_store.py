"""Rounds on disk: whole or not at all, resumed after a cut line, never mixed."""

import json
import subprocess
import sys

import pytest

from promptcot.corpora import Corpus, read_corpus
from promptcot.store import open_round, read_manifest, read_round

SETTINGS = {"recipe": "test", "sampling": {"temperature": 1.0}}


def make(folder, keys, settings=SETTINGS):
    with open_round(folder, settings) as making:
        for key in keys:
            making.append("rows", key, {"text": f"of {key}"})


def test_a_round_reads_back_what_was_written(tmp_path):
    make(tmp_path / "r", "ab")
    assert read_round(tmp_path / "r") == [
        {"key": "a", "text": "of a"},
        {"key": "b", "text": "of b"},
    ]
    assert read_manifest(tmp_path / "r")["rows"] == {"rows": 2}


def test_an_interrupted_round_is_not_there_and_a_cut_line_is_written_again(tmp_path):
    with pytest.raises(KeyError), open_round(tmp_path / "r", SETTINGS) as making:  # noqa: PT012
        making.append("rows", "a", {"text": "of a"})
        raise KeyError
    with pytest.raises(FileNotFoundError, match="not finished"):
        read_round(tmp_path / "r")
    with open(tmp_path / "r.partial" / "rows.jsonl", "ab") as file:
        file.write(b'{"key": "b", "te')
    make(tmp_path / "r", "ab")
    assert [row["key"] for row in read_round(tmp_path / "r")] == ["a", "b"]


def test_other_settings_are_refused_by_name_and_both_values(tmp_path):
    make(tmp_path / "r", "a")
    other = {"recipe": "test", "sampling": {"temperature": 0.5}}
    with pytest.raises(ValueError, match=r"sampling.temperature = 1.0, now it is 0.5"):
        make(tmp_path / "r", "a", other)


def test_a_row_changed_afterwards_is_noticed(tmp_path):
    make(tmp_path / "r", "a")
    path = tmp_path / "r" / "rows.jsonl"
    path.write_text(path.read_text().replace("of", "by"))
    with pytest.raises(ValueError, match="was changed after it was made"):
        read_round(tmp_path / "r")


def test_reasons_of_dropped_rows_are_counted(tmp_path):
    with open_round(tmp_path / "r", SETTINGS) as making:
        making.drop("a", "empty")
        making.drop("b", "empty")
        making.drop("b", "empty")  # the same row again, after a resume
    assert read_manifest(tmp_path / "r")["dropped"] == {"empty": 2}


FULL_DISK = """
import resource, sys
from pathlib import Path
from promptcot.corpora import Corpus, read_corpus
from promptcot.store import open_round
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
with open_round(Path(sys.argv[1]), {}) as making:
    for number in range(100):
        making.append("rows", str(number), {"text": "x" * 100})
"""


def test_on_a_full_disk_what_was_written_stays_valid(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "r")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "free some space and run the same command again" in run.stderr
    lines = (tmp_path / "r.partial" / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == [str(n) for n in range(len(lines))]
    assert 0 < len(lines) < 100


HOLD = """
import sys, time
from pathlib import Path
from promptcot.locks import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_on_one_folder_is_refused(tmp_path):
    from promptcot.locks import folder_lock

    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        refused = pytest.raises(BlockingIOError, match=f"in use by process {holder.pid}")
        with refused, folder_lock(tmp_path, patience_s=0.2):
            pass
        holder.kill()
    with folder_lock(tmp_path, patience_s=2.0):  # the kernel freed it
        pass


def test_a_folder_that_is_no_round_is_left_alone(tmp_path):
    (tmp_path / "r").mkdir()
    with pytest.raises(ValueError, match="is there but holds no round"):
        make(tmp_path / "r", "a")


def test_a_damaged_manifest_is_named(tmp_path):
    make(tmp_path / "r", "a")
    (tmp_path / "r" / "manifest.json").write_text('{"settings": ')
    with pytest.raises(ValueError, match=r"manifest.json is damaged"):
        read_manifest(tmp_path / "r")


def test_the_part_of_a_round_is_not_taken_for_a_round(tmp_path):
    with pytest.raises(KeyError), open_round(tmp_path / "r", SETTINGS) as making:  # noqa: PT012
        making.append("rows", "a", {"statement": "of a"})
        raise KeyError
    partial = tmp_path / "r.partial"
    said = f"{partial} holds a round that is not finished: .* --folder {tmp_path / 'r'}$"
    for use in (
        lambda: make(partial, "ab"),
        lambda: read_round(partial),
        lambda: read_corpus(Corpus(str(partial))),
        lambda: read_corpus(Corpus(str(tmp_path / "r*" / "rows.jsonl"))),
    ):
        with pytest.raises(ValueError, match=said):
            use()


def test_another_programs_manifest_is_no_rounds(tmp_path):
    (tmp_path / "manifest.json").write_text("[]")
    (tmp_path / "rows.jsonl").write_text('{"statement": "a"}\n')
    assert len(read_corpus(Corpus(str(tmp_path / "rows.jsonl"))).problems) == 1
    with pytest.raises(ValueError, match="is no manifest of a round: name another folder"):
        make(tmp_path, "a")


def test_the_seconds_of_a_round_are_those_of_all_its_commands(tmp_path):
    with pytest.raises(KeyError), open_round(tmp_path / "r", SETTINGS) as making:  # noqa: PT012
        making.append("rows", "a", {"text": "of a"})
        making.sync()
        raise KeyError
    state = json.loads((tmp_path / "r.partial" / "manifest.json").read_text())
    earlier = state["started"] - 100  # as if the first command had worked for so long
    (tmp_path / "r.partial" / "manifest.json").write_text(json.dumps(state | {"started": earlier}))
    make(tmp_path / "r", "ab")
    assert 100 <= read_manifest(tmp_path / "r")["seconds"] < 110
