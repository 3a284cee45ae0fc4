"""Seed rows of a run: what is held out, and who writes what is missing."""

import json
from contextlib import contextmanager
from pathlib import Path

import pytest

from promptcot.corpora import Corpus, read_corpus
from promptcot.em.run import Run
from promptcot.em.seeds import make_seeds
from promptcot.em.settings import EM, Teacher
from promptcot.keyphrases import keyphrases
from promptcot.locks import folder_lock
from promptcot.split import statement_key
from promptcot.store import read_manifest

CHECKOUT = Path(__file__).parents[3]
ROWS = [
    {
        "id": f"{n}",
        "statement": f"How many divisors has {n % 10}?",
        "concepts": ["divisors"],
        "rationale": f"why {n}",
    }
    for n in range(20)
]
"""Each statement twice."""


@pytest.fixture
def settings(write_corpus, tmp_path):
    def build(rows=ROWS, **changes):
        given = {"held_out": 0.25, "seed": 3, **changes}
        return EM(folder=tmp_path / "run", corpus=write_corpus(rows), **given)

    return build


@pytest.fixture
def write_corpus(tmp_path):
    def write(rows):
        path = tmp_path / "corpus.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return Corpus(str(path))

    return write


@contextmanager
def opened(settings):
    """A run as ``run_em`` opens it."""
    with folder_lock(settings.folder) as lock:
        yield Run(settings, CHECKOUT / "cli.py", lock)


def seeds_of(settings):
    with opened(settings) as run:
        return make_seeds(run, settings)


def statements(path):
    return [statement_key(p.statement) for p in read_corpus(Corpus(str(path))).problems]


def test_both_rows_of_a_held_out_statement_are_held_out_and_no_row_is_lost(settings):
    files = seeds_of(settings())
    train, held_out = statements(files.train), statements(files.held_out)
    # ceil(0.25 * 10) = 3 statements of two rows each
    assert (len(train), len(held_out)) == (14, 6)
    assert len(set(held_out)) == 3
    assert not {*train} & {*held_out}
    assert sorted(train + held_out) == sorted(statements(files.all))
    assert read_corpus(Corpus(str(files.all))) == read_corpus(settings().corpus)


def test_the_same_run_finds_its_seeds_and_another_split_is_refused(settings):
    files = seeds_of(settings())
    before = files.train.read_bytes()
    assert seeds_of(settings()) == files
    assert files.train.read_bytes() == before
    with pytest.raises(ValueError, match=r"seeds was made with held_out = 0\.25, now it is 0\.5"):
        seeds_of(settings(held_out=0.5))
    with pytest.raises(ValueError, match=r"seed = 3, now it is 4"):
        seeds_of(settings(seed=4))


def test_an_interrupted_split_goes_on(settings):
    made = settings()
    files = seeds_of(made)
    whole = {path.name: path.read_bytes() for path in files.all.parent.glob("*.jsonl")}
    partial = files.all.parent.rename(made.folder / "seeds.partial")
    (partial / "train.jsonl").write_bytes(whole["train.jsonl"][:300])  # cut within a line
    seeds_of(made)
    for name in whole:
        lines = (made.folder / "seeds" / name).read_text().splitlines()
        assert sorted(lines) == sorted(whole[name].decode().splitlines())


def test_missing_concepts_without_anyone_to_write_them_are_an_error_that_counts(settings):
    bare = [{"id": str(n), "statement": f"How many divisors has {n}?"} for n in range(4)]
    message = r"of the 5 problems of .*corpus.jsonl, 4 have no concepts and 4 no rationale: name in"
    with pytest.raises(ValueError, match=message):
        seeds_of(settings([*bare, ROWS[9]]))


def test_a_teacher_without_a_name_is_an_error_before_anything_is_asked(settings):
    bare = [{"id": str(n), "statement": f"How many divisors has {n}?"} for n in range(4)]
    with pytest.raises(ValueError, match=r"annotate\.teacher is empty: .*engine to null for key"):
        seeds_of(settings(bare, annotate=Teacher()))
    assert not (settings().folder / "annotations").exists()


def test_key_phrases_are_written_by_an_ordinary_make_command(settings, capfd):
    bare = [{"id": str(n), "statement": f"How many divisors has {n}?"} for n in range(4)]
    made = settings(bare, annotate=Teacher(engine=None, num_concepts=2))
    files = seeds_of(made)
    seeds = read_corpus(Corpus(str(files.all)))
    for problem in seeds.problems:
        assert problem.concepts == keyphrases(problem.statement, 2)
        assert problem.concepts[0] in seeds.rationales[problem.id]
    manifest = read_manifest(made.folder / "annotations")
    assert manifest["rows"] == {"rows": 4}
    assert "annotations: 4 rows" in capfd.readouterr().err
    seeds_of(made)  # once more: nothing is run
    assert "rows" not in capfd.readouterr().err


def test_a_corpus_that_has_all_is_not_annotated(settings):
    made = settings(annotate=Teacher(engine=None))
    seeds_of(made)
    assert not (made.folder / "annotations").exists()


def test_problems_without_rationale_stay_for_the_rounds_and_are_counted(settings, capsys):
    rows = [row if n else {**row, "rationale": None} for n, row in enumerate(ROWS)]
    files = seeds_of(settings(rows))
    assert "1 of 20 problems have no rationale" in capsys.readouterr().err
    assert len(read_corpus(Corpus(str(files.all))).problems) == 20
    assert len(read_corpus(Corpus(str(files.all))).annotations) == 19


def test_a_named_teacher_writes_the_rationales_that_are_missing(settings):
    rows = [row if n else {**row, "rationale": None} for n, row in enumerate(ROWS)]
    files = seeds_of(settings(rows, annotate=Teacher(engine=None)))
    annotations = read_corpus(Corpus(str(files.all))).annotations
    assert len(annotations) == 20
    assert "divisors" in {a.problem.id: a.rationale for a in annotations}["0"]
    assert {a.problem.id: a.rationale for a in annotations}["1"] == "why 1"
