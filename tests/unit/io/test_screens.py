"""Screens: conventions recognised and said, labels read, scales told apart, losses counted, refusals in a line."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from regulens.analyses.screen_checks import check_screen
from regulens.errors import InputError, ParameterError, RegulensError, ScaleError, SchemaError
from regulens.io.gene_ids import GeneMap
from regulens.io.screen_labels import CONTROL, GENE, NO_LABEL, OTHER_CONTROL, SEVERAL, UNKNOWN, LabelReader
from regulens.io.screens import read_screen
from regulens.rng import stream
from regulens.stats.screen_effects import effects_of
from regulens.types.screens import ResponseLabels

GENES = ["STAT1", "JAK2", "IRF1", "MYC", "SPI1", "ACTB", "MARCH8", "TP53"]
TARGETS = ("STAT1", "JAK2", "MYC", "CD86")


def screen(control="control", *, column="perturbation", n=20, form="{}", seed=1, **obs):
    """An AnnData of counts with four perturbed genes and controls."""
    labels = np.repeat([control, *(form.format(t) for t in TARGETS)], n)
    rng = stream(seed, "test/screens")
    x = rng.poisson(2.0, (len(labels), len(GENES))).astype(np.float32)
    x[:, 5] += 1
    x[:, 7] = 1  # so that library sizes can be had back from logarithms
    frame = pd.DataFrame({column: pd.Categorical(labels), **{k: np.resize(v, len(labels)) for k, v in obs.items()}})
    frame.index = [f"c{i}" for i in range(len(labels))]
    return ad.AnnData(sp.csr_matrix(x), obs=frame, var=pd.DataFrame(index=GENES))


def relabel(data, column, values):
    data.obs[column] = values
    return data


def said_of_unmeasured(found):
    """What a run says of perturbed genes that are not measured, as a note and as a flag: once."""
    _, _, _, flags = check_screen(effects_of(found), found, modality=None)
    return [words for words in (*found.notes, *flags) if "perturbed genes are not" in words]


@pytest.mark.parametrize(
    ("control", "column", "form"),
    [
        ("control", "perturbation", "{}"),  # scPerturb
        ("non-targeting", "gene", "{}"),  # Replogle
        ("ctrl", "condition", "{}+ctrl"),  # GEARS
        ("ctrl", "condition", "ctrl+{}"),
        ("NT", "target", "{}"),
        ("NTC", "Target_Gene", "{}"),
        ("NegCtrl0_NegCtrl0", "perturbation", "{}_NegCtrl0"),  # Norman
        ("safe-targeting", "gene_target", "{}"),
        ("INTERGENIC393453", "perturbation", "{}"),  # Dixit
        ("AAVS1", "target", "{}"),
    ],
)
def test_conventions_are_recognised_and_said(control, column, form):
    found = read_screen(screen(control, column=column, form=form), name="s")
    assert found.perturbations == tuple(sorted(TARGETS))
    assert found.obs["control"].sum() == 20 and (found.obs.loc[found.obs["control"], "perturbation"] == "").all()
    notes = " ".join(found.notes)
    assert f"obs['{column}'] was recognised as the perturbation" in notes
    assert f"'{control}' (20 cells)" in notes
    (unmeasured,) = said_of_unmeasured(found)
    assert unmeasured.startswith("1 of 4 perturbed genes are not measured") and unmeasured.endswith(": CD86")
    assert found.dropped == {} and found.modality is None


def test_roles_of_scperturb_come_along():
    data = screen(
        guide_id=["a", "b"], replicate=["r1", "r2", "r3"], cell_line="K562", perturbation_type="CRISPRi", nperts=1
    )
    data.obs["nperts"] = (data.obs["perturbation"] != "control").astype(int)
    found = read_screen(data, name="s")
    assert list(found.obs.columns) == ["perturbation", "control", "guide", "replicate", "cell_line"]
    assert found.modality == "crispri" and set(found.obs["cell_line"]) == {"K562"}
    notes = " ".join(found.notes)
    assert "obs['guide_id'] was recognised as the guide" in notes and "by the conventions of scPerturb" in notes
    declared = read_screen(data, name="s", modality="knockout")
    assert declared.modality == "knockout" and any("although the file says crispri" in n for n in declared.notes)
    assert read_screen(relabel(data, "perturbation_type", "CRISPR"), name="s").modality is None


def test_named_columns_and_labels_win():
    data = screen("wildtype", column="ko")
    found = read_screen(data, name="s", perturbation="ko", control="wildtype")
    assert found.perturbations == tuple(sorted(TARGETS))
    assert not any("recognised" in n and "perturbation" in n for n in found.notes)
    two = screen()
    two.obs["perturbation"] = two.obs["perturbation"].astype(str)
    two.obs.iloc[:5, 0] = "mock"
    found = read_screen(two, name="s", perturbation="perturbation", control=["control", "mock"])
    assert found.obs["control"].sum() == 20
    found = read_screen(two, name="s", control="mock")  # the other control label is left out and counted
    assert found.obs["control"].sum() == 5 and found.dropped == {OTHER_CONTROL: 15}


def test_labels_mean_what_tools_mean_by_them():
    reader = LabelReader(GeneMap.bundled(), ["lnc-of-mine"])
    labels = {
        "STAT1": (GENE, "STAT1"), "SEPT9": (GENE, "SEPTIN9"), "STAT1+ctrl": (GENE, "STAT1"), "lnc-of-mine":
        (GENE, "lnc-of-mine"), "STAT1_JAK2": (SEVERAL, ""), "STAT1+JAK2": (SEVERAL, ""), "STAT1|JAK2|MYC":
        (SEVERAL, ""), "STAT1_STAT1": (GENE, "STAT1"), "non-targeting": (CONTROL, ""), "NTg7": (CONTROL, ""),
        "nan": (NO_LABEL, ""), "unassigned": (NO_LABEL, ""), "CTRL": (OTHER_CONTROL, ""), "AAVS1": (OTHER_CONTROL, ""),
        "blob": (UNKNOWN, ""), "ENSG00000141510.18": (GENE, "TP53"), "NKX2-1": (GENE, "NKX2-1"),
        "HLA-A": (GENE, "HLA-A"), "STAT1_P1": (UNKNOWN, ""),
    }  # fmt: skip
    found = reader.read(list(labels))
    assert {v: (found.kind[v], found.gene.get(v, "")) for v in labels} == labels


@pytest.mark.parametrize(
    ("form", "words"),
    [("{}g1", "gene, then g"), ("{}_sg2", "gene, then g"), ("{}_1", "a separator"), ("{}-2", "a separator")],
)
def test_names_of_guides_become_genes_where_they_are_the_rule(form, words):
    found = read_screen(screen("NTg1", column="guide", form=form), name="s", perturbation="guide")
    assert found.perturbations == tuple(sorted(TARGETS))
    assert any("were read as guides" in n and words in n for n in found.notes)
    assert form.format("STAT1") in set(found.obs["guide"])
    # a few names of that form among names of genes are not stripped, but counted
    data = screen()
    data.obs["perturbation"] = data.obs["perturbation"].astype(str).replace("JAK2", form.format("JAK2"))
    found = read_screen(data, name="s")
    assert "JAK2" not in found.perturbations and found.dropped == {UNKNOWN: 20}
    assert any(form.format("JAK2") in n for n in found.notes)


def test_nothing_is_lost_without_a_count():
    data = screen(nperts=1)
    label = data.obs["perturbation"].astype(str).to_numpy()
    label[0], label[20], label[21], label[22], label[23], label[40] = (
        "nan", "STAT1_JAK2", "blob", np.nan, "safe-targeting", "JAK2",
    )  # fmt: skip
    number = (label != "control").astype(int)
    number[41], number[42] = 2, 0
    data.obs["perturbation"], data.obs["nperts"] = label, number
    data.X[60:62] = 0
    found = read_screen(data, name="s", control="control")
    assert found.cells.n_cells + sum(found.dropped.values()) == data.n_obs
    assert found.dropped == {
        "zero counts": 2, NO_LABEL: 2, SEVERAL: 2, UNKNOWN: 1, OTHER_CONTROL: 1, "a gene named, but nperts is 0": 1,
    }  # fmt: skip
    assert sum("labels left out" in n for n in found.notes) == 3  # a gap has no label to name


def test_the_input_is_not_changed_and_a_file_gives_the_same(tmp_path):
    data = screen()
    before, x = data.obs.copy(), data.X.copy()
    found = read_screen(data, name="s")
    pd.testing.assert_frame_equal(data.obs, before)
    assert (x != data.X).nnz == 0
    data.write_h5ad(tmp_path / "s.h5ad")
    data.write_zarr(tmp_path / "s.zarr")
    for backed in (False, True):
        for name in ("s.h5ad", "s.zarr"):
            again = read_screen(tmp_path / name, name="s", backed=backed)
            assert again.cells.backed is backed and again.digest == found.digest
            assert name in again.cells.source
            assert effects_of(again).digest == effects_of(found).digest


def log1p_cp10k(x):
    x = np.asarray(x.todense()) if sp.issparse(x) else x
    return np.log1p(x / x.sum(1, keepdims=True) * 1e4)


def mixed(tmp_path=None, layer=None):
    """K562 as log1p(CP10k), RPE1 as counts, as in a widely used file."""
    data = screen(cell_line=["K562", "RPE1"])
    x = np.asarray(data.X.todense(), dtype=np.float64)
    log = (data.obs["cell_line"] == "K562").to_numpy()
    x[log] = log1p_cp10k(x[log])
    if layer:
        data.layers[layer] = sp.csr_matrix(x)
        data.X = sp.csr_matrix(log1p_cp10k(data.X))
    else:
        data.X = sp.csr_matrix(x)
    return data, log


@pytest.mark.parametrize("options", [{}, {"log1p_cp10k": True}, {"counts": "X"}])
def test_a_scale_that_differs_between_lines_is_refused_and_says_which(options, tmp_path):
    data, _ = mixed()
    words = r"one scale in X of .*, got counts for 'RPE1' \(50 cells.*\) and values that are no counts for 'K562' \(50"
    with pytest.raises(ScaleError, match=words) as caught:
        read_screen(data, name="s", **options)
    assert "obs['cell_line']" in str(caught.value) and "Write one file each" in str(caught.value)
    data.write_h5ad(tmp_path / "m.h5ad")
    for backed in (True, False):
        with pytest.raises(ScaleError, match=words):
            read_screen(tmp_path / "m.h5ad", name="s", backed=backed, **options)
    # any column of origin tells it, and without one it is said so
    data.obs["batch"] = data.obs.pop("cell_line")
    with pytest.raises(ScaleError, match=r"obs\['batch'\]"):
        read_screen(data, name="s", **options)
    del data.obs["batch"]
    with pytest.raises(ScaleError, match=r"in 50 cells and others in 50, with no column that tells them apart"):
        read_screen(data, name="s", **options)
    with pytest.raises(ScaleError, match="layers\\['umi'\\]"):
        read_screen(mixed(layer="umi")[0], name="s", counts="umi")


def test_one_scale_that_is_not_counts_is_refused_as_for_all_cells():
    data = screen(cell_line=["K562", "RPE1"])
    counts = data.copy()
    data.X = sp.csr_matrix(log1p_cp10k(data.X))
    with pytest.raises(ScaleError, match="--log1p-cp10k") as caught:
        read_screen(data, name="s")
    assert "one scale" not in str(caught.value)
    recovered = read_screen(data, name="s", log1p_cp10k=True)
    assert (recovered.cells.counts != read_screen(counts, name="s").cells.counts).nnz == 0


def test_one_line_of_a_mixed_file_can_be_read(tmp_path):
    data, log = mixed()
    found = read_screen(data, name="s", only="RPE1")
    assert found.cells.n_cells == 50 and set(found.obs["cell_line"]) == {"RPE1"}
    assert found.dropped == {"another cell line": 50}
    data.write_h5ad(tmp_path / "m.h5ad")
    again = read_screen(tmp_path / "m.h5ad", name="s", only="RPE1")
    assert again.digest == found.digest and again.cells.source.startswith("m.h5ad")
    other = read_screen(data, name="s", only="K562", log1p_cp10k=True)
    assert other.cells.n_cells == int(log.sum())
    whole = screen(cell_line=["K562", "RPE1"])
    whole.write_h5ad(tmp_path / "w.h5ad")
    staying = read_screen(tmp_path / "w.h5ad", name="s", only="RPE1", backed=True)
    assert staying.cells.backed and staying.digest == read_screen(whole, name="s", only="RPE1").digest
    assert staying.dropped == {"another cell line": 50}


def test_library_sizes_of_scperturb_are_pointed_at():
    data = screen()
    data.obs["ncounts"] = np.asarray(data.X.sum(1)).ravel() * 4
    assert any("obs['ncounts'] is 4 times" in n for n in read_screen(data, name="s").notes)
    named = read_screen(data, name="s", total_counts="ncounts")
    assert not any("ncounts" in n for n in named.notes)
    assert np.array_equal(named.cells.total_counts, data.obs["ncounts"])


def test_a_second_treatment_and_other_kinds_of_perturbation_are_said():
    data = screen(
        perturbation_2=["Control", "IFNg"], perturbation_type=["CRISPR", "CRISPR", "drug", "CRISPR", "CRISPR"]
    )
    found = read_screen(data, name="s")
    assert any("perturbation_2" in n for n in found.notes)
    assert found.dropped == {"perturbed otherwise than by CRISPR": 16}
    with pytest.raises(InputError, match=r"Expected genes perturbed by CRISPR .* got the kinds of perturbation drug"):
        read_screen(relabel(data, "perturbation_type", "drug"), name="s")


def test_columns_that_agree_are_one_and_columns_that_differ_are_asked_about():
    data = screen(column="target")
    data.obs["gene"] = data.obs["target"].astype(str).replace("control", "non-targeting")
    assert any("(gene say the same)" in n for n in read_screen(data, name="s").notes)
    data.obs["gene"] = np.where(data.obs["gene"] == "STAT1", "IRF1", data.obs["gene"])
    with pytest.raises(SchemaError, match=r"got 'target' and 'gene', which differ in 20 of 100 cells. Name one"):
        read_screen(data, name="s")
    assert "IRF1" in read_screen(data, name="s", perturbation="gene").perturbations
    # a treatment is no screen, and says nothing against the column that is one
    data = screen(column="target", condition=["control", "IFNG"])
    assert read_screen(data, name="s").perturbations == tuple(sorted(TARGETS))


def twice(data):
    """A column of obs that is there twice, as pandas allows."""
    data.obs = pd.concat([data.obs, data.obs], axis=1)
    return data


BAD = [
    (lambda: screen(column="blub"), {}, SchemaError, r"Expected a column of perturbed genes .* got columns blub"),
    (lambda: screen(), {"perturbation": "perturbatoin"}, SchemaError, r"Did you mean 'perturbation'\?"),
    (
        lambda: screen(),
        {"control": "contrl"},
        InputError,
        r"got labels that look like controls: control.* Did you mean",
    ),
    (lambda: screen("wildtype"), {"perturbation": "perturbation"}, InputError, r"Expected control cells .* got labels"),
    (
        lambda: screen("wildtype"),
        {},
        InputError,
        r"Expected control cells in obs\['perturbation'\] .* Name the control",
    ),
    (lambda: screen("wildtype", form="x{}"), {}, SchemaError, "none of which holds two genes or more beside a control"),
    (
        lambda: screen(form="blob{}"),
        {"perturbation": "perturbation"},
        InputError,
        r"Expected perturbed genes .* blobCD86",
    ),
    (lambda: screen(), {"guide": "guides"}, SchemaError, "Expected a column 'guides' in obs for the role guide"),
    (lambda: screen(), {"replicate": "rep"}, SchemaError, "the role replicate"),
    (lambda: screen(), {"only": "K562"}, SchemaError, r"Name it \(cell_line\)"),
    (lambda: screen(cell_line="K562"), {"only": "K652"}, SchemaError, r"Did you mean 'K562'\? Name one"),
    (lambda: screen(), {"modality": "CRISPRi"}, ParameterError, r"Did you mean 'crispri'\? Name what"),
    (lambda: screen(), {"gene_column": "symbol"}, SchemaError, "Expected a column 'symbol' in var for gene ids"),
    (lambda: twice(screen()), {}, SchemaError, "names of their own, got perturbation twice"),
    (lambda: screen()[:0], {}, SchemaError, "Expected a column of perturbed genes"),
    (lambda: screen().T, {}, SchemaError, "got no columns, none of which"),
    (lambda: screen(form="{}_IRF1"), {"perturbation": "perturbation"}, InputError, "80 cells: several genes perturbed"),
    (lambda: 3, {}, InputError, "Expected a path, an AnnData or a table of effects, got int. Wrap"),
    (lambda: "nowhere.h5ad", {}, InputError, "no such file.* Check the path"),
    (lambda: "nowhere.tsv", {}, InputError, "no such file.* Check the path"),
]


@pytest.mark.parametrize(("make", "options", "error", "words"), BAD)
def test_what_is_wrong_is_said_in_one_sentence_of_three_parts(make, options, error, words):
    with pytest.raises(error, match=words) as caught:
        read_screen(make(), name="s", **options)
    message = str(caught.value)
    assert message.startswith("Expected") and ", got" in message and message.rstrip(".").count(".") >= 1
    assert isinstance(caught.value, RegulensError) and "\n" not in message


def test_controls_of_two_kinds_are_asked_about():
    data = screen("non-targeting")
    data.obs["perturbation"] = data.obs["perturbation"].astype(str)
    data.obs.iloc[:7, 0] = "control"
    with pytest.raises(InputError, match=r"'non-targeting' \(13 cells\), 'control' \(7 cells\).* Name one \(control\)"):
        read_screen(data, name="s")
    assert read_screen(data, name="s", control="non-targeting").dropped == {OTHER_CONTROL: 7}


def test_degenerate_screens_are_read_and_compared_without_a_crash():
    one_each = screen(n=1)
    found = effects_of(read_screen(one_each, name="s"))
    assert np.isnan(found.p).all() and np.isfinite(found.effect).all() and found.n_controls == 1
    data = screen(perturbation_type=np.nan, nperts="many", replicate=np.arange(100) * 1.5)
    found = read_screen(data, name="s")
    assert found.modality is None and "replicate" not in found.obs and found.dropped == {}
    data.obs["perturbation"] = data.obs["perturbation"].cat.add_categories(["blob"])
    assert read_screen(data, name="s").perturbations == tuple(sorted(TARGETS))


def test_controls_without_counts_are_no_controls():
    data = screen()
    data.X[:20] = 0
    with pytest.raises(InputError, match="without a usable cell"):
        read_screen(data, name="s")


def test_papalexi_reads_as_it_is_described(shared_data):
    source = shared_data / "papalexi_thp1_perturbseq" / "papalexi_thp1_lowmoi_counts.h5ad"
    found = read_screen(source, name="papalexi", modality="knockout")
    assert found.cells.n_cells == 20729 and int(found.obs["control"].sum()) == 2386 and found.dropped == {}
    assert len(found.perturbations) == 25 and "MARCHF8" in found.perturbations
    assert found.obs["replicate"].value_counts().to_dict() == {"rep_1": 9428, "rep_2": 6001, "rep_3": 5300}
    (unmeasured,) = said_of_unmeasured(found)
    assert unmeasured.startswith("16 of 25 perturbed genes are not measured")
    labels = [
        ResponseLabels.build(effects_of(found, **how)) for how in ({"borrow": False}, {}, {"test": "mann_whitney"})
    ]
    silent = labels[0].effects.p != labels[1].effects.p
    assert int(silent.sum()) == 85 and (labels[0].effects.p[silent] < labels[1].effects.p[silent]).all()
    assert [int((label.q < 0.05).sum()) for label in labels] == [653, 551, 578]
    assert [int(label.positive.sum()) for label in labels] == [112, 104, 101]
    by_guide = read_screen(source, name="papalexi", perturbation="guide")
    assert effects_of(by_guide).digest == effects_of(found).digest


def test_control_cells_of_papalexi_against_each_other_show_what_p_is_worth(shared_data):
    source = shared_data / "papalexi_thp1_perturbseq" / "papalexi_thp1_lowmoi_counts.h5ad"
    found = read_screen(source, name="papalexi")
    rng, controls = stream(1, "test/placebo"), np.flatnonzero(found.obs["control"])
    placebos = [rng.choice(controls, 50, replace=False) for _ in range(20)]
    called = {}
    for name, how in {"letter": {"borrow": False}, "borrowed": {}, "ranks": {"test": "mann_whitney"}}.items():
        q, p = [], []
        for cells in placebos:
            groups = np.full(found.cells.n_cells, "", dtype=object)
            groups[cells] = "placebo"
            labels = ResponseLabels.build(effects_of(found, groups=groups, **how))
            q.append(int((labels.q < 0.05).sum()))
            p.append(float((labels.effects.p < 0.05).mean()))
        called[name] = (np.mean(q), np.mean(p))
    assert called["letter"][0] > 20 and called["letter"][1] > 0.15
    assert called["borrowed"][0] < 3 and called["borrowed"][1] < 0.06
    assert called["ranks"][0] < 1 and called["ranks"][1] < 0.06
