"""One syntax for models: family, place, options; everything else is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from small_cells import poisson_cells  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from regulens import models  # noqa: E402
from regulens.cli import models as command  # noqa: E402
from regulens.cli.own_model import build_adapter  # noqa: E402
from regulens.errors import ModelError  # noqa: E402
from regulens.models.base import AbstractAdapter  # noqa: E402
from regulens.models.loading import Family  # noqa: E402
from regulens.models.manifest import LICENCES, describe_digest, identify, known_files, published  # noqa: E402
from regulens.models.spec import Option, options_of, parse, read_options  # noqa: E402
from regulens.plan import Plan  # noqa: E402
from regulens.registry import Registry  # noqa: E402
from regulens.run.inputs import input_fingerprints  # noqa: E402
from regulens.run.prepare import model_names  # noqa: E402
from regulens.testing.checkpoint_aido_cell import write_aido_cell  # noqa: E402
from regulens.testing.checkpoint_c2s import write_c2s  # noqa: E402
from regulens.testing.checkpoint_scfoundation import write_scfoundation  # noqa: E402
from regulens.testing.checkpoint_scprint import write_scprint  # noqa: E402
from regulens.testing.checkpoint_scvi import write_scvi  # noqa: E402
from regulens.testing.checkpoint_uce import write_uce  # noqa: E402
from regulens.testing.checkpoints import write_geneformer, write_scgpt  # noqa: E402

SYMBOLS = [f"G{i}" for i in range(40)]
ENSEMBL = [f"ENSG{i:011d}" for i in range(40)]

WRITERS = {
    "scgpt": lambda p: write_scgpt(p, vocab=SYMBOLS),
    "geneformer": lambda p: write_geneformer(p, vocab=ENSEMBL),
    "scfoundation": lambda p: write_scfoundation(p, vocab=SYMBOLS),
    "aido_cell": lambda p: write_aido_cell(p, vocab=SYMBOLS),
    "scprint": lambda p: write_scprint(p, genes=ENSEMBL),
    "c2s": lambda p: write_c2s(p, vocab=SYMBOLS),
    "uce": lambda p: write_uce(p, symbols=SYMBOLS),
    "scvi": lambda p: write_scvi(p, vocab=SYMBOLS),
}


@pytest.mark.parametrize(
    ("text", "family", "place", "options"),
    [
        ("scgpt:a/b", "scgpt", "a/b", {}),
        ("a/b", None, "a/b", {}),
        ("/x/with:colon", None, "/x/with:colon", {}),
        ("a/b?mode=x", None, "a/b", {"mode": "x"}),
        ("uce:~/m?mode=corrected&seed=3", "uce", "~/m", {"mode": "corrected", "seed": "3"}),
        ("uce:/m?genes=/x/y.tsv", "uce", "/m", {"genes": "/x/y.tsv"}),
        ("scgpt:hf://org/name@v1/sub", "scgpt", "hf://org/name@v1/sub", {}),
        ("hf://org/name", None, "hf://org/name", {}),
        ("bundled:scgpt-mini", "bundled", "scgpt-mini", {}),
    ],
)
def test_what_a_specification_means(text, family, place, options):
    found = parse(text)
    assert (found.family, found.place, dict(found.options)) == (family, place, options)


@pytest.mark.parametrize(
    "text", ["uce:m?", "uce:m?mode", "uce:m?mode=", "uce:m?=x", "uce:m?mode=a&mode=b", "uce:m?a=1&"]
)
def test_options_that_are_no_pairs_are_refused(text):
    with pytest.raises(ModelError, match="key=value"):
        parse(text)


DECLARED = {
    "mode": Option("upstream", "padding mask", choices=("upstream", "corrected")),
    "strict": Option(True, "a switch"),
    "length": Option(512, "longest sequence"),
    "share": Option(0.5, "a share"),
}


def test_options_have_the_type_of_their_default():
    found = read_options(parse("uce:m?mode=corrected&strict=no&length=7"), DECLARED, title="UCE")
    assert found == {"mode": "corrected", "strict": False, "length": 7, "share": 0.5}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("mod=corrected", r"option of UCE .*got 'mod'.*Did you mean 'mode'\?"),
        ("mode=corected", r"one of upstream, corrected .*Did you mean 'corrected'\?"),
        ("strict=perhaps", "true or false"),
        ("length=7.5", "a whole number"),
        ("share=half", "a number"),
    ],
)
def test_unknown_keys_and_values_are_refused_with_the_nearest(query, said):
    with pytest.raises(ModelError, match=said):
        read_options(parse(f"uce:m?{query}"), DECLARED, title="UCE")


def test_only_families_with_options_are_given_them(tmp_path, monkeypatch):
    seen = {}

    def load(folder, **given):
        seen.update(given, folder=folder)
        return object()

    common = {"title": "x", "files": "x", "detect": lambda folder: True, "load": load}
    monkeypatch.setattr(models, "FAMILIES", Registry("model family", {}, group="regulens.test"))
    models.FAMILIES._loaded |= {"a": Family(name="a", options=DECLARED, **common), "b": Family(name="b", **common)}
    models.FAMILIES._targets |= {"a": "", "b": ""}
    models.load(f"a:{tmp_path}?length=9")
    assert seen["options"]["length"] == 9
    assert seen["name"] == f"{tmp_path.name}-9"
    seen.clear()
    models.load(f"b:{tmp_path}")
    assert "options" not in seen


def plan(*specs):
    return Plan.from_options(
        cells={"source": "demo:immune"},
        models=[{"spec": s} for s in specs],
        references=[{"source": "bundled:dorothea"}],
    )


def test_names_in_a_study_tell_options_apart(tmp_path):
    names = model_names(plan("uce:m/4l", "uce:m/4l?mode=corrected", "scgpt:hf://org/human@v1", "bundled:scgpt-mini"))
    assert names == ["4l", "4l-corrected", "human", "scgpt-mini"]


def test_weights_named_with_options_are_part_of_the_fingerprint(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "w").write_text("1")
    study = plan(f"uce:{tmp_path}/m?mode=corrected")
    before = input_fingerprints(study)
    (tmp_path / "m" / "w").write_text("2")
    assert input_fingerprints(study) != before


def test_options_are_part_of_the_key_of_a_store():
    assert options_of("uce:m?mode=corrected") != options_of("uce:m")
    assert options_of("uce:m?genes=/a/x.tsv") == options_of("uce:m?genes=/b/x.tsv")
    assert options_of("what is this?") == []


@pytest.mark.parametrize("family", sorted(WRITERS))
def test_every_family_is_recognised_and_by_no_other(tmp_path, family):
    folder = Path(WRITERS[family](tmp_path / "m") or tmp_path / "m")
    folder = folder if folder.is_dir() else folder.parent
    assert [name for name in models.FAMILIES if models.FAMILIES[name].detect(folder)] == [family]
    assert models.detect(folder) == family
    adapter = models.load(str(folder))
    assert adapter.card.family == family
    other = "scgpt" if family != "scgpt" else "geneformer"
    with pytest.raises(ModelError, match="looks like a"):
        models.load(f"{other}:{folder}")


@pytest.mark.parametrize("family", sorted(set(WRITERS) - {"scvi"}))
def test_every_family_passes_the_conformance_suite(tmp_path, family):
    adapter = models.load(f"{family}:{WRITERS[family](tmp_path / 'm')}")
    table = models.check_adapter(adapter, poisson_cells(3))
    assert table["passed"].all(), table[~table["passed"].astype(bool)]


def test_the_suite_shows_how_upstream_pads_in_uce(tmp_path):
    adapter = models.load(f"uce:{WRITERS['uce'](tmp_path / 'm')}?mode=upstream")
    table = models.check_adapter(adapter, poisson_cells(3))
    failed = set(table.loc[~table["passed"].astype(bool), "name"])
    assert failed == {"masked_keys_zero/L00", "masked_keys_zero/L01", "hidden_ignores_padding"}


def test_a_model_without_attention_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(ModelError, match=r"make a regulens\.models\.AbstractAdapter"):
        build_adapter(f"scvi:{WRITERS['scvi'](tmp_path / 'm')}")


def test_there_is_a_writer_and_a_licence_for_every_family():
    own = {name for name in models.FAMILIES if models.FAMILIES.origin(name) == "regulens"}
    assert own == set(LICENCES)
    assert {name for name in own if not models.FAMILIES[name].of_file} == set(WRITERS)


def test_known_files_are_the_real_ones(shared_data):
    folder = shared_data / "model_files"
    for name, count in (("geneformer_v1", 3), ("geneformer_v2", 4), ("scgpt_vocab", 2), ("aido_scfoundation", 1)):
        found = identify(folder / name)
        assert sum(bool(title) for _, title in found) == count
        assert all(title for file, title in found if not file.startswith("config"))


def test_an_unknown_digest_says_so(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x" * 788424)
    assert identify(tmp_path) == [("model.safetensors", "")]
    assert published("0" * 64) == ""
    assert "unknown digest" in describe_digest("0" * 64)
    assert describe_digest(next(iter(known_files()))).count("known digest, Geneformer") == 1


def test_the_base_class_is_public():
    assert models.AbstractAdapter is AbstractAdapter
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        models.nonsense  # noqa: B018


def test_the_list_of_families_shows_their_options():
    result = CliRunner().invoke(command.app, ["list", "--json"])
    options = {row["name"]: row["options"] for row in json.loads(result.stdout)["families"]}
    assert any(text.startswith("?mode=corrected") for text in options["uce"])
    assert options["scgpt"] == []


def test_inspect_says_what_is_known_and_what_the_licence_forbids(tmp_path):
    folder = Path(WRITERS["aido_cell"](tmp_path / "m"))
    result = CliRunner().invoke(command.app, ["inspect", f"aido_cell:{folder}", "--json"])
    found = json.loads(result.stdout)
    assert found["known_as"] == ""
    assert "attention maps" in found["forbids"]
    shown = CliRunner().invoke(command.app, ["inspect", f"aido_cell:{folder}"])
    assert "unknown digest" in shown.stdout
    assert "licence forbids" in shown.stdout


@pytest.mark.parametrize("declared", ["", "mit", "cc-by-nc-nd-4.0"])
def test_inspect_shows_the_licence_that_the_folder_declares(tmp_path, declared):
    folder = Path(WRITERS["c2s"](tmp_path / "m"))
    (folder / "README.md").write_text(f"---\nlicense: {declared}\n---\n" if declared else "no head\n")
    found = json.loads(CliRunner().invoke(command.app, ["inspect", f"c2s:{folder}", "--json"]).stdout)
    if declared:
        assert found["licence"].startswith(declared) and found["forbids"] == ""
        assert ("commercial" in found["licence"]) == ("nc" in declared)
    else:
        assert "CC-BY-NC-ND-4.0" in found["licence"] and "commercial" in found["forbids"]
