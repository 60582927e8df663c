"""What does a saved scvi-tools model store about two genes? Decoder loadings and latent profiles, without scvi-tools.

Sources: Lopez et al. 2018, Nature Methods 15:1053 (scVI); Svensson et al. 2020, Bioinformatics 36:3418 (loadings of
the linear decoder); scvi-tools (Gayoso et al. 2022). There is no attention. The decoder turns a latent position z into
expected shares of the genes::

    h = relu(norm(W [h, covariates] + b)), layer by layer, from h = z;    share = softmax(L h + c)

Row g of L, over the last hidden state, is the **loading** of gene g. Its **latent profile** is the gradient of its
logit by z, averaged over positions drawn from the prior: how the gene answers to each latent direction. Columns of
covariates are never part of either. Genes whose rows point the same way rise and fall together in the model.

The file is a pickle; it is read by `regulens.models.safe_pickle`, which runs nothing from it.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from regulens.errors import AlignmentError, ModelError, examples
from regulens.models.loading import Family, check_tensors, count_layers, read_tensors
from regulens.models.safe_pickle import read_torch
from regulens.models.score_model import AbstractScoreModel
from regulens.provenance import sha256_file
from regulens.rng import stream
from regulens.types.attention import ModelCard
from regulens.types.edges import EdgeScores
from regulens.types.genes import GeneVocabulary

#: Scores in the order in which they are handed out; the first is the one an audit judges.
SCORES = ("decoder_cosine", "decoder_correlation", "latent_cosine", "latent_distance")

#: Positions drawn from the prior for the latent profiles, and the root of that draw: part of the method.
DRAWS, SEED = 256, 0

#: BatchNorm epsilon of the library's fully connected layers (not torch's default); LayerNorm has torch's.
BATCH_NORM_EPS, LAYER_NORM_EPS = 1e-3, 1e-5

#: Where the decoders of the library's models keep their hidden layers and the map to genes.
TRUNKS = ("decoder.px_decoder.fc_layers.", "decoder.fc_layers.")
OUTPUTS = ("decoder.px_scale_decoder.0", "decoder.px_scale_decoder.fc_layers.Layer 0.0", "px_decoder.0", "px_decoder")
LINEAR = "decoder.factor_regressor.fc_layers.Layer 0"
LATENT = ("z_encoder.mean_encoder.weight", "encoder.z_mean_encoder.weight")

#: Entries of the state dict that hold no tensors and are left alone.
NOT_TENSORS = ("pyro_param_store",)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoder:
    """The part of a saved model that leads from the latent space to genes.

    Parameters
    ----------
    layers
        Per hidden layer: weight ``(out, in + covariates)``, bias or None, batch normalisation (weight, bias, running
        mean, running variance) or None.
    output, constant
        Map from the last hidden state (for some models followed by z), then covariates, to the genes' logits, shape
        ``(gene, in)``; and its bias or None.
    n_latent
        Width of z.
    blocks
        Numbers of categories of the covariates, which follow the state as one-hot codes in this order.
    layer_norm, simplex
        Whether hidden layers are layer-normalised (without parameters); whether z is a softmax of the prior's draw.
    """

    layers: tuple[tuple[torch.Tensor, torch.Tensor | None, tuple[torch.Tensor, ...] | None], ...]
    output: torch.Tensor
    constant: torch.Tensor | None
    n_latent: int
    blocks: tuple[int, ...] = ()
    layer_norm: bool = False
    simplex: bool = False

    @property
    def skips(self) -> bool:
        """Whether the output also reads z itself."""
        hidden = self.layers[-1][0].shape[0] if self.layers else 0
        return hidden > 0 and self.output.shape[1] >= hidden + self.n_latent

    @property
    def loadings(self) -> torch.Tensor:
        """Rows of the output over what it reads of the cell, covariates left out; shape ``(gene, width)``."""
        hidden = self.layers[-1][0].shape[0] if self.layers else 0
        return self.output[:, : hidden + (self.n_latent if self.skips or not hidden else 0)]

    def features(self, z: torch.Tensor) -> torch.Tensor:
        """What the output reads of a latent position, ``(latent,)`` → ``(width,)``; covariates at equal shares.

        One-hot covariates are replaced by ``1/n`` in every of their n categories; what else enters beside z
        (continuous covariates, embeddings) is zero.
        """
        z = torch.softmax(z, -1) if self.simplex else z
        h = z
        for weight, bias, norm in self.layers:
            h = F.linear(self._with_covariates(h, weight.shape[1]), weight, bias)
            if norm is not None:
                scale, shift, mean, variance = norm
                h = (h - mean) / torch.sqrt(variance + BATCH_NORM_EPS) * scale + shift
            if self.layer_norm:
                h = F.layer_norm(h, h.shape[-1:], eps=LAYER_NORM_EPS)
            h = F.relu(h)
        return torch.cat([h, z]) if self.skips else h

    def logits(self, z: torch.Tensor) -> torch.Tensor:
        """Logits of the genes' shares at a latent position, ``(latent,)`` → ``(gene,)``."""
        return F.linear(self._with_covariates(self.features(z), self.output.shape[1]), self.output, self.constant)

    def profiles(self) -> torch.Tensor:
        """Latent profile of every gene: mean gradient of its logit by z over the prior, shape ``(gene, latent)``."""
        draws = torch.from_numpy(stream(SEED, "scvi/latent").standard_normal((DRAWS, self.n_latent)))
        slopes = torch.func.vmap(torch.func.jacfwd(self.features))(draws)  # logits are linear in the features
        return self.loadings @ slopes.mean(dim=0)

    def _with_covariates(self, h: torch.Tensor, width: int) -> torch.Tensor:
        more = width - h.shape[-1]
        if not more:
            return h
        shares = torch.cat([torch.full((n,), 1.0 / n, dtype=h.dtype) for n in self.blocks] or [h[:0]])
        if len(shares) > more:
            shares = torch.full((more,), 1.0 / more, dtype=h.dtype)
        return torch.cat([h, torch.zeros(more - len(shares), dtype=h.dtype), shares])


class ScVIModel(AbstractScoreModel):
    """A saved scvi-tools model, read for what its decoder stores about genes.

    Parameters
    ----------
    decoder, card
        As built by `load`.
    names
        Genes in the order of the decoder's rows, as the model was trained on them (symbols or Ensembl ids).
    """

    floor = -1.0  # of a cosine

    def __init__(self, decoder: Decoder, card: ModelCard, *, names: tuple[str, ...]) -> None:
        self.decoder, self.card, self.names = decoder, card, names
        self._profiles: np.ndarray | None = None

    @property
    def primary(self) -> str:
        """Cosine of decoder loadings."""
        return SCORES[0]

    @property
    def module(self) -> Decoder:
        """The decoder."""
        return self.decoder

    def gene_tokens(self, genes: GeneVocabulary) -> np.ndarray:
        """Rows by symbol, else by Ensembl id; version numbers behind the model's Ensembl ids are ignored."""
        row = {n: i for i, n in reversed(list(enumerate(self.names)))}
        for i, name in enumerate(self.names):
            if name.startswith("ENS") and "." in name:
                row.setdefault(name.partition(".")[0], i)
        found = (row.get(s, row.get(e, -1) if e else -1) if s else -1 for s, e in zip(genes.symbols, genes.ensembl))
        return np.fromiter(found, dtype=np.int64, count=len(genes))

    def gene_embeddings(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Genes as the model names them, and their decoder loadings."""
        return self.names, self.decoder.loadings.numpy().astype(np.float32)

    def latent_profiles(self) -> np.ndarray:
        """Latent profile of every gene, float64, shape ``(gene, latent)``; computed once."""
        if self._profiles is None:
            self._profiles = self.decoder.profiles().numpy()
        return self._profiles

    def edge_scores(self, genes: GeneVocabulary, regulators: Sequence[str]) -> EdgeScores:
        """Four symmetric scores of regulators × genes.

        Returns
        -------
        ``decoder_cosine``: cosine of two loadings; ``decoder_correlation``: their Pearson correlation;
        ``latent_cosine``: cosine of two latent profiles (all three in [−1, 1]); ``latent_distance``: minus the
        Euclidean distance of two latent profiles, in logits per unit of z, at most 0. Unobserved where a gene is
        unknown or has nothing to compare (a zero or constant row), and on self-pairs.

        Raises
        ------
        AlignmentError
            When a regulator is not among the genes.
        """
        own = genes.index(regulators)
        if (own < 0).any():
            lost = [r for r, i in zip(regulators, own) if i < 0]
            message = f"Expected every regulator among the genes, missing {examples(lost)}. Add them to the genes."
            raise AlignmentError(message)
        row = self.gene_tokens(genes)
        loadings = self.decoder.loadings.double().numpy()[row]
        profiles = self.latent_profiles()[row]
        centred = loadings - loadings.mean(axis=1, keepdims=True)
        known = row >= 0
        for vectors in (loadings, centred, profiles):
            size = np.linalg.norm(vectors, axis=1)
            known &= size > 1e-12 * max(float(np.abs(vectors).max(initial=0.0)), 1e-300)
        square = (profiles**2).sum(axis=1)
        apart = square[own][:, None] + square[None, :] - 2.0 * profiles[own] @ profiles.T
        values = np.stack(
            [
                _cosine(loadings, own),
                _cosine(centred, own),
                _cosine(profiles, own),
                -np.sqrt(np.maximum(apart, 0.0)),
            ]
        )
        observed = known[own][:, None] & known[None, :]
        observed[np.arange(len(own)), own] = False
        return EdgeScores(
            values=np.where(observed, values, 0.0), observed=observed, names=SCORES, genes=tuple(genes.symbols),
            regulators=tuple(regulators), scorer="scvi", provenance={"model": self.card.name},
        )  # fmt: skip


def _cosine(vectors: np.ndarray, own: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, size, out=np.zeros_like(vectors), where=size > 0)
    return np.clip(unit[own] @ unit.T, -1.0, 1.0)


def _dig(value: Any, *keys: str) -> Any:
    """Value under nested keys, or None; settings differ between versions and may be absent altogether."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _settings(attributes: Any) -> dict[str, Any]:
    """What the model was made with: arguments, named ones and those handed on."""
    given = _dig(attributes, "init_params_")
    found: dict[str, Any] = {}
    for place in (_dig(given, "kwargs", "model_kwargs"), _dig(given, "kwargs", "module_kwargs"), _dig(given, "kwargs"),
                  _dig(given, "non_kwargs")):  # fmt: skip
        if isinstance(place, Mapping):
            found |= {str(k): v for k, v in place.items()}
    return found


def _blocks(attributes: Any, settings: Mapping[str, Any], kind: str) -> tuple[int, ...]:
    """Numbers of categories of the decoder's one-hot covariates; a single category is not coded."""
    fields = _dig(attributes, "registry_", "field_registries")
    sizes: list[Any] = []
    if kind == "CondSCVI":
        sizes.append(_dig(fields, "labels", "summary_stats", "n_labels"))
    elif settings.get("batch_representation") != "embedding":
        sizes.append(_dig(fields, "batch", "summary_stats", "n_batch"))
    more = _dig(fields, "extra_categorical_covs", "state_registry", "n_cats_per_key")
    sizes += list(more) if isinstance(more, list | tuple) else []
    return tuple(int(n) for n in sizes if isinstance(n, int | np.integer) and n > 1)


def _gene_names(found: Any, attributes: Any, rows: int, source: str) -> tuple[str, ...]:
    """Names of the decoder's genes; of a model of several modalities, those of the one that is counted as genes."""
    if isinstance(found, Mapping):
        key = _dig(attributes, "registry_", "field_registries", "X", "data_registry", "mod_key")
        if key not in found:
            message = f"Expected to know which modality of {source} holds the genes ({examples(list(found))}), got none"
            raise ModelError(f"{message} named. Save the model with a newer version of scvi-tools.")
        found = found[key]
    names = tuple(str(n) for n in np.asarray(found).ravel()) if isinstance(found, np.ndarray | list | tuple) else ()
    if len(names) != rows or len(set(names)) != rows:
        message = (
            f"Expected the names of the {rows} genes that the decoder has rows for in {source}, got {len(names)} "
            f"({len(set(names))} different). Save the model again with its var_names."
        )
        raise ModelError(message)
    return names


def _decoder(tensors: dict[str, torch.Tensor], attributes: Any, kind: str, source: str) -> Decoder:
    """Find, check and put together the decoder's tensors, in float64."""
    settings = _settings(attributes)
    latent = next((tensors[k].shape[0] for k in LATENT if k in tensors), settings.get("n_latent"))
    blocks = _blocks(attributes, settings, kind)
    simplex = settings.get("latent_distribution") == "ln"
    layer_norm = kind == "CondSCVI" or settings.get("use_layer_norm") in ("decoder", "both")
    linear = f"{LINEAR}.0.weight"
    output = linear if linear in tensors else next((f"{k}.weight" for k in OUTPUTS if f"{k}.weight" in tensors), "")
    trunk = "" if output == linear else next((t for t in TRUNKS if any(k.startswith(t) for k in tensors)), "")
    if not output or (output != linear and not trunk) or not isinstance(latent, int) or tensors[output].ndim != 2:
        message = (
            f"Expected the decoder of scVI, LDVAE, scANVI, totalVI or CondSCVI in {source}, got a "
            f"{kind or 'model of unknown class'} without it. Its gene loadings are not defined; use another model."
        )
        raise ModelError(message)

    genes = tensors[output].shape[0]
    expected: dict[str, tuple[int, ...]] = {output: (genes, tensors[output].shape[1])}
    if (bias := output.replace(".weight", ".bias")) in tensors:
        expected[bias] = (genes,)
    width, layers = int(latent), []
    for i in range(count_layers([k.replace("Layer ", "", 1) for k in tensors], trunk) if trunk else 0):
        place = f"{trunk}Layer {i}"
        weight = tensors.get(f"{place}.0.weight")
        shape = tuple(weight.shape) if weight is not None and weight.ndim == 2 and weight.shape[1] >= width else ()
        expected[f"{place}.0.weight"] = shape or (0, width)
        width = shape[0] if shape else 0
        if f"{place}.0.bias" in tensors:
            expected[f"{place}.0.bias"] = (width,)
        if any(k.startswith(f"{place}.1.") for k in tensors):
            expected |= {f"{place}.1.{k}": (width,) for k in ("weight", "bias", "running_mean", "running_var")}
        layers.append(place)
    if output == linear and f"{LINEAR}.1.running_var" in tensors:
        expected |= {f"{LINEAR}.1.{k}": (genes,) for k in ("weight", "bias", "running_mean", "running_var")}
    if tensors[output].shape[1] < width:
        expected[output] = (genes, width)
    check_tensors(
        {k: v for k, v in tensors.items() if k in expected}, expected, ignore=(), source=source, family="scVI"
    )

    def get(name: str) -> torch.Tensor:
        return tensors[name].double()

    def norm(place: str) -> tuple[torch.Tensor, ...] | None:
        names = [f"{place}.1.{k}" for k in ("weight", "bias", "running_mean", "running_var")]
        return tuple(get(k) for k in names) if names[-1] in expected else None

    matrix, constant = get(output), get(bias) if bias in expected else None
    if output == linear and (scaling := norm(LINEAR)) is not None:
        # Normalisation after the linear map belongs to the loadings, as in the published definition.
        scale, shift, mean, variance = scaling
        factor = scale / torch.sqrt(variance + BATCH_NORM_EPS)
        constant = (0.0 if constant is None else constant) * factor - mean * factor + shift
        matrix = matrix * factor[:, None]
    hidden = tuple(
        (get(f"{p}.0.weight"), get(f"{p}.0.bias") if f"{p}.0.bias" in expected else None, norm(p)) for p in layers
    )
    return Decoder(
        layers=hidden, output=matrix, constant=constant, n_latent=int(latent), blocks=blocks, layer_norm=layer_norm,
        simplex=simplex,
    )  # fmt: skip


def _files(folder: Path) -> tuple[Path, Path | None]:
    """Weights, and the list of genes where it is a file of its own (before scvi-tools 0.15)."""
    found = sorted(folder.glob("*model.pt"))
    if len(found) == 1:
        return found[0], None
    old = sorted(folder.glob("*model_params.pt"))
    if not found and len(old) == 1:
        return old[0], old[0].with_name(old[0].name.replace("model_params.pt", "var_names.csv"))
    message = (
        f"Expected one saved scvi-tools model in {folder} (model.pt, or model_params.pt with var_names.csv), got "
        f"{examples([p.name for p in found + old]) if found or old else 'none'}. Give the folder of one model."
    )
    raise ModelError(message)


def _read(folder: Path) -> tuple[Path, dict[str, torch.Tensor], Any, Any]:
    """Path, tensors, gene names and attributes of a saved model, of the newer or the older layout."""
    path, beside = _files(folder)
    if beside is not None:
        if not beside.is_file():
            message = f"Expected the list of genes at {beside}, found no such file. Put it beside {path.name}."
            raise ModelError(message)
        with beside.open(newline="", encoding="utf-8") as handle:
            names = [line[0] for line in csv.reader(handle) if line]
        return path, read_tensors(path), names, {}
    saved = read_torch(path, what="saved scvi-tools model")
    state = _dig(saved, "model_state_dict")
    if not isinstance(state, Mapping) or "var_names" not in saved:
        message = f"Expected model_state_dict and var_names in {path.name}, got {type(saved).__name__} without them."
        raise ModelError(f"{message} This is no model saved by scvi-tools.")
    odd = [k for k, v in state.items() if not isinstance(v, torch.Tensor) and k not in NOT_TENSORS]
    if odd:
        message = f"Expected tensors in the state dict of {path.name}, got something else under {examples(odd)}."
        raise ModelError(f"{message} Save the model again.")
    tensors = {str(k): v.detach() for k, v in state.items() if isinstance(v, torch.Tensor)}
    broken = [k for k, v in tensors.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if broken:
        message = f"Expected finite weights in {path.name}, got NaN or infinity in {examples(broken)}. Do not use it."
        raise ModelError(message)
    return path, tensors, saved["var_names"], saved.get("attr_dict")


def load(folder: Path, *, name: str, spec: str) -> ScVIModel:
    """Load a folder written by ``model.save`` of scvi-tools; neither that library nor the training data is needed.

    Raises
    ------
    ModelError
        When the file is damaged, refers to code, or holds a model whose decoder is another one.
    """
    path, tensors, names, attributes = _read(folder)
    kind = str(_dig(attributes, "registry_", "model_name") or "")
    version = str(_dig(attributes, "registry_", "scvi_version") or "")
    decoder = _decoder(tensors, attributes, kind, path.name)
    genes = _gene_names(names, attributes, decoder.output.shape[0], path.name)
    ensembl = sum(g.startswith("ENS") for g in genes) > len(genes) / 2
    notes = [
        f"no attention: gene pairs are scored by decoder loadings and latent profiles of {kind or 'the saved model'}"
        + (f" ({version})" if version else ""),
        "scores are symmetric: the same for regulator to target and for target to regulator",
        f"latent profiles average {DRAWS} positions of the prior; one-hot covariates at equal shares, others at zero",
        "loadings are exact; checked on models of the library's own tests, not on published weights",
    ]
    if not kind:
        notes.append("older layout without a class: a decoder with layer normalisation would not be noticed")
    if _dig(attributes, "is_trained_") is False:
        notes.append("the file says that this model was never trained")
    card = ModelCard(
        name=name, family="scvi", spec=spec, n_layers=0, n_heads=0, width=int(decoder.loadings.shape[1]),
        vocabulary_size=len(genes), max_length=len(genes),
        n_parameters=sum(v.numel() for v in tensors.values() if v.is_floating_point()), sha256=sha256_file(path),
        namespace="Ensembl gene id" if ensembl else "gene symbol", tokenisation="none: the model has no tokens",
        normalisation="none: no cells enter the scores", activation="relu", notes=tuple(notes),
    )  # fmt: skip
    return ScVIModel(decoder, card, names=genes)


def detect(folder: Path) -> bool:
    """Whether the folder holds a file as scvi-tools saves it; looks at the names inside, runs nothing."""
    try:
        path, beside = _files(folder)
        if beside is not None:
            return beside.is_file()
        with zipfile.ZipFile(path) as archive:
            inside = next(n for n in archive.namelist() if n.endswith("data.pkl"))
            content = archive.read(inside)
    except (ModelError, OSError, zipfile.BadZipFile, StopIteration):
        return False
    return all(word in content for word in (b"model_state_dict", b"var_names", b"attr_dict"))


FAMILY = Family(
    name="scvi",
    title="scVI",
    files="model.pt as saved by scvi-tools, or model_params.pt and var_names.csv",
    detect=detect,
    load=load,
)
