"""Settings as plain values: jsonargparse builds from them what they were made of."""

from __future__ import annotations

import inspect
from dataclasses import fields
from functools import partial
from pathlib import Path

import jsonargparse
import pytest
import yaml

from promptcot.columns import Columns
from promptcot.command_line import Parser, make_command
from promptcot.configs import to_config
from promptcot.corpora import SAMPLE_DATA, Corpus
from promptcot.engines import (
    AutoEngine,
    HFEngine,
    KeptEngine,
    ScriptedEngine,
    ServerEngine,
    VLLMEngine,
)
from promptcot.prompts import PromptFormat
from promptcot.protocols import Sampling
from promptcot.recipes import Annotate, Compose, Distill, HeldOut, LabelProblems, Rationales
from promptcot.store import open_round, read_manifest
from promptcot.traces import TraceFilter
from verify import ByDomain, MajorityVote

FORMAT = PromptFormat(rationale_tags=("<z>", "</z>"), problem_tags=("[", "</x>"))
SERVER = partial(
    ServerEngine,
    base_url="http://127.0.0.1:8001/v1",
    chat=False,
    timeout_s=30.0,
    extra_body={"top_k": 20, "min_p": None, "stop": ["</x>"]},
)
BENCHMARK = str(SAMPLE_DATA / "math_a.jsonl")
RECIPES = {
    "rationales": [
        Rationales("q", "p"),
        Rationales("q", engine=HFEngine, sampling=Sampling(temperature=0.0), min_words=5, seed=0),
        Rationales("q", "p", engine=partial(HFEngine, dtype="float32", batch_size=3)),
        Rationales("q", "p", engine=partial(AutoEngine, batch_size=3), per_token=True),
        Rationales("q", "p", engine=partial(VLLMEngine, max_model_len=4096), format=FORMAT),
        Rationales("q", "p", engine=KeptEngine(partial(VLLMEngine, sleeps=True))),
        Rationales("q", "p", engine=partial(partial(HFEngine, device="cpu"), chat=True)),
    ],
    "annotate": [
        Annotate(teacher="72"),
        Annotate(engine=None, num_concepts=3),
        Annotate(teacher="Qwen/Qwen2.5-72B-Instruct", engine=SERVER),
        Annotate(teacher="t", engine=partial(ScriptedEngine, replies=["1", "null", "a: b", ""])),
    ],
    "compose": [
        Compose("1.0", concept_temperature=1e-5, sampling=Sampling(3, 0.8, 0.95, 4096)),
        Compose("p", engine=SERVER, num_sets=3, num_concepts=2),
    ],
    "held_out": [HeldOut("q", "p", engine=partial(HFEngine, device="cpu"), num_samples=1)],
    "distill": [
        Distill("openai/gpt-oss-120b"),
        Distill("t", engine=SERVER, verifier=ByDomain, filters=TraceFilter(max_repeated=None)),
        Distill("t", verifier=partial(ByDomain, num_workers=2), decontaminate=(BENCHMARK,)),
    ],
    "label": [
        LabelProblems("30", MajorityVote, engine=partial(AutoEngine, chat=True)),
        LabelProblems("m", partial(MajorityVote, quorum=0.6, forms=["boxed"]), engine=SERVER),
    ],
}
EACH = [(name, recipe) for name, recipes in RECIPES.items() for recipe in recipes]


def rebuilt(recipe, path: Path):
    """What jsonargparse builds of the recipe's YAML, as ``make_command`` lets it."""
    path.write_text(yaml.safe_dump(to_config(recipe), sort_keys=False))
    parser = Parser(exit_on_error=False)
    parser.add_argument("--config", action=jsonargparse.ActionConfigFile)
    parser.add_class_arguments(type(recipe))
    built = parser.instantiate(parser.parse_args(["--config", str(path)]))
    return type(recipe)(**{f.name: built[f.name] for f in fields(recipe)})


@pytest.mark.parametrize(("name", "recipe"), EACH)
def test_a_recipe_is_built_again_from_its_own_yaml(name, recipe, tmp_path):
    again = rebuilt(recipe, tmp_path / "a.yaml")
    assert to_config(again) == to_config(recipe)
    assert again.settings() == recipe.settings()
    assert rebuilt(again, tmp_path / "b.yaml").settings() == recipe.settings()


@pytest.mark.parametrize(("name", "recipe"), EACH)
def test_make_takes_that_yaml_for_the_recipe_whose_round_is_there(name, recipe, tmp_path):
    with open_round(tmp_path / "r", recipe.settings()):
        pass  # a whole round: nothing is left to make, but other settings would be refused
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(to_config(recipe), sort_keys=False))
    arguments = [name, "--config", str(path), "--folder", str(tmp_path / "r")]
    make_command(arguments)
    with pytest.raises(ValueError, match=rf"seed = {recipe.seed}, now it is 77"):
        make_command([*arguments, "--seed", "77"])


def test_corpus_columns_and_templates_come_back_too(tmp_path):
    (tmp_path / "compose_math.txt").write_text("$concepts at $level")
    columns = Columns(id="1", statement=["a", "b"], level="true")
    corpus = Corpus("a.jsonl", "code", "1.5", columns, {"year": "2024", "kept": "no"}, 5)
    recipe = Compose("p", corpus, format=PromptFormat(templates=tmp_path))
    again = rebuilt(recipe, tmp_path / "a.yaml")
    assert again.corpus == corpus
    assert again.format == recipe.format
    assert again.format.tags == recipe.format.tags


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("solve_math", "Solve $statment", r"solve_math.txt names \$statment, but its values are"),
        ("solve_math", "Solve $statement for $5", r"solve_math.txt has a \$ that begins no name"),
        ("solve_math", "Solve {statement}", r"solve_math.txt lacks \$statement"),
        ("compose_math", "A problem for $level", r"compose_math.txt lacks \$concepts"),
    ],
)
def test_a_template_that_cannot_be_filled_is_named(tmp_path, name, text, said):
    (tmp_path / f"{name}.txt").write_text(text)
    with pytest.raises(ValueError, match=said):
        PromptFormat(templates=tmp_path)
    (tmp_path / f"{name}.txt").write_text("About $statement" if "solve" in name else "$concepts")
    assert PromptFormat(templates=tmp_path).to_row()["templates"][name] in (
        "About $statement",
        "$concepts",
    )


def test_make_runs_what_the_yaml_says(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"id": "a", "statement": "How many primes are even?"}\n')
    path = tmp_path / "a.yaml"
    recipe = Annotate(Corpus(str(tmp_path / "c.jsonl")), engine=None, num_concepts=2)
    path.write_text(yaml.safe_dump(to_config(recipe)))
    make_command(["annotate", "--config", str(path), "--folder", str(tmp_path / "r")])
    manifest = read_manifest(tmp_path / "r")
    assert manifest["rows"] == {"rows": 1}
    assert manifest["settings"] == recipe.settings()


def test_a_class_becomes_its_path_and_all_arguments_but_the_weights_it_is_opened_on():
    assert to_config(HFEngine) == to_config(partial(HFEngine))
    assert to_config(partial(HFEngine, batch_size=3)) == {
        "class_path": "promptcot.engines.hf_engine.HFEngine",
        "init_args": {"dtype": "auto", "device": "auto", "batch_size": 3, "chat": False},
    }


@pytest.mark.parametrize("kind", [AutoEngine, ByDomain, HFEngine, ServerEngine, VLLMEngine])
def test_what_decides_is_all_but_the_resources_and_those_are_arguments(kind):
    names = set(inspect.signature(kind).parameters) - {"weights"}
    assert names >= kind.RESOURCES
    assert set(to_config(kind, deciding=True)["init_args"]) == names - kind.RESOURCES
    assert set(to_config(kind)["init_args"]) == names


def test_what_no_yaml_file_can_hold_is_refused():
    with pytest.raises(TypeError, match=r"is no setting: it cannot be written to a YAML file"):
        to_config({"a": [object()]})
