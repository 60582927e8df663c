"""Models from the Hugging Face hub, with a stand-in for its client: nothing here reaches the network."""

from __future__ import annotations

import hashlib
import shutil
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from regulens import models
from regulens.errors import MissingExtraError, ModelError
from regulens.models import hub
from regulens.testing.checkpoints import write_geneformer, write_scgpt

GENES = [f"ENSG{i:011d}" for i in range(12)]
SYMBOLS = [f"G{i}" for i in range(12)]


class RepositoryNotFoundError(Exception):
    pass


class GatedRepoError(RepositoryNotFoundError):
    pass


class FakeHub(types.ModuleType):
    """As much of `huggingface_hub` as regulens uses, reading a local folder."""

    def __init__(self, repository: Path):
        super().__init__("huggingface_hub")
        self.repository, self.fetched, self.asked = repository, [], []
        self.error: Exception | None = None
        self.tamper = self.cut_after = None
        self.HfApi = lambda: SimpleNamespace(model_info=self.model_info)

    def model_info(self, repo_id, *, revision=None, files_metadata=False):
        self.asked.append((repo_id, revision))
        assert files_metadata
        if self.error:
            raise self.error
        siblings = []
        for path in sorted(p for p in self.repository.rglob("*") if p.is_file()):
            content = path.read_bytes()
            big = path.suffix in (".safetensors", ".bin", ".pt")
            git = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            siblings.append(
                SimpleNamespace(
                    rfilename=path.relative_to(self.repository).as_posix(),
                    size=len(content),
                    blob_id=git,
                    lfs=SimpleNamespace(sha256=hashlib.sha256(content).hexdigest()) if big else None,
                )
            )
        return SimpleNamespace(sha="c0ffee" + "0" * 34, siblings=siblings)

    def hf_hub_download(self, repo_id, filename, *, revision, local_dir):
        if self.cut_after is not None and len(self.fetched) >= self.cut_after:
            raise ConnectionError("the line was cut")
        self.fetched.append(filename)
        to = Path(local_dir) / filename
        to.parent.mkdir(parents=True, exist_ok=True)
        content = (self.repository / filename).read_bytes()
        to.write_bytes(content[:-1] + b"?" if filename == self.tamper else content)
        (Path(local_dir) / ".cache").mkdir(exist_ok=True)
        return str(to)


@pytest.fixture
def remote(tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    write_scgpt(repository / "whole human", vocab=SYMBOLS)
    (repository / "whole human" / "train.py").write_text("raise SystemExit")
    (repository / "README.md").write_text("a model")
    fake = FakeHub(repository)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.setenv("REGULENS_CACHE", str(tmp_path / "cache"))
    return fake


SPEC = "scgpt:hf://org/some.model@v1/whole human"


def test_a_model_is_downloaded_once_then_read_offline(remote):
    adapter = models.load(SPEC)
    assert adapter.card.name == "whole human"
    assert adapter.card.spec == SPEC
    assert any("commit c0ffee" in note for note in adapter.card.notes)
    assert remote.asked == [("org/some.model", "v1")]
    assert all(name.startswith("whole human/") and not name.endswith(".py") for name in remote.fetched)
    remote.error = ConnectionError("offline")
    assert models.load(SPEC, name="again").card.sha256 == adapter.card.sha256
    assert len(remote.asked) == 1
    assert not list(hub.cache_folder().rglob(".cache"))


def test_a_cut_download_resumes_with_what_is_missing(remote):
    remote.cut_after = 1
    with pytest.raises(ModelError, match=r"reach the Hugging Face hub .*it resumes"):
        models.load(SPEC)
    first = list(remote.fetched)
    remote.cut_after = None
    models.load(SPEC)
    assert len(remote.fetched) == len(set(remote.fetched))
    assert remote.fetched[:1] == first


def test_a_file_lost_from_the_cache_is_fetched_again_at_the_same_commit(remote):
    models.load(SPEC)
    (lost,) = hub.cache_folder().rglob("vocab.json")
    lost.unlink()
    remote.fetched.clear()
    models.load(SPEC)
    assert remote.fetched == ["whole human/vocab.json"]
    assert remote.asked[-1] == ("org/some.model", "c0ffee" + "0" * 34)


@pytest.mark.parametrize("name", ["args.json", "weights"])
def test_a_file_that_differs_from_the_published_one_is_deleted_and_refused(remote, name):
    weights = next(p.name for p in (remote.repository / "whole human").iterdir() if p.suffix in (".pt", ".safetensors"))
    remote.tamper = f"whole human/{weights if name == 'weights' else name}"
    with pytest.raises(ModelError, match="as the hub describes it"):
        models.load(SPEC)
    assert not (next(hub.cache_folder().rglob("whole human")) / Path(remote.tamper).name).exists()
    remote.tamper = None
    models.load(SPEC)


def test_dictionaries_elsewhere_in_the_repository_come_along(remote):
    written = write_geneformer(remote.repository / "Geneformer-V1", vocab=GENES, dictionaries="pkl")
    (written / "model.safetensors").with_name("pytorch_model.bin").write_bytes(b"the same weights again")
    (remote.repository / "geneformer").mkdir()
    for path in written.glob("*dictionar*"):
        shutil.move(path, remote.repository / "geneformer" / path.name)
    adapter = models.load("geneformer:hf://org/name/Geneformer-V1")
    assert adapter.card.vocabulary_size >= len(GENES)
    assert not any("whole human" in n or n.endswith(".bin") or n == "README.md" for n in remote.fetched)


def test_one_file_can_be_named(remote):
    folder, commit = hub.fetch("hf://org/name/whole human/vocab.json")
    assert [p.name for p in folder.iterdir()] == ["vocab.json"]
    assert commit.startswith("c0ffee")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RepositoryNotFoundError(), "no such repository, or a private one"),
        (GatedRepoError(), "access to it has to be asked for"),
        (ConnectionError("no route"), "is not in the cache yet, got ConnectionError. Connect"),
        (OSError(28, "No space left on device"), "full disk"),
    ],
)
def test_problems_of_the_hub_are_one_sentence(remote, error, said):
    remote.error = error
    with pytest.raises(ModelError, match=said) as caught:
        models.load(SPEC)
    assert "\n" not in str(caught.value)


def test_too_small_a_disk_is_noticed_before_anything_is_downloaded(remote, monkeypatch):
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    with pytest.raises(ModelError, match="GB free"):
        models.load(SPEC)
    assert remote.fetched == []


def test_an_empty_folder_names_the_folders_there_are(remote):
    with pytest.raises(ModelError, match="Folders there: whole human"):
        models.load("scgpt:hf://org/name/whole-human")


def test_without_the_extra_the_message_says_how_to_get_it(remote, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"regulens\[hub\]"):
        models.load(SPEC)


def test_a_plain_folder_never_asks_the_hub(remote):
    models.load(str(remote.repository / "whole human"))
    assert remote.asked == []


@pytest.mark.parametrize("place", ["hf://name", "hf://org/name/../x", "hf://org/name/.", "hf://", "hf://org/na me"])
def test_a_place_that_cannot_be_is_refused(place):
    with pytest.raises(ModelError, match="Expected hf://org/name"):
        hub.parse_place(place)


def test_the_family_has_to_be_named(remote):
    with pytest.raises(ModelError, match="Expected the family before a place on the hub"):
        models.load("hf://org/name")
