"""Writing: all or nothing, no NaN, one sentence on a full disk."""

import errno
from pathlib import Path

import pandas as pd
import pytest

from regulens.errors import ParameterError, SchemaError, StoreError
from regulens.io.atomic import read_json, replacing, write_bytes, write_json, write_text
from regulens.io.tables import read_table, write_table


def test_a_failed_write_keeps_the_old_content_and_leaves_nothing(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), replacing(path) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a.txt") as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch, code):
    def full(self, content):
        with open(self, "wb") as handle:  # noqa: PTH123  half of it arrives, as on a real disk
            handle.write(content[: len(content) // 2])
        raise OSError(code, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match=r"Expected room to write run\.json, got a full disk .* Free some space"):
        write_json(tmp_path / "run.json", {"a": 1})
    assert not list(tmp_path.iterdir())


def test_a_really_full_device_is_a_store_error(tmp_path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")

    with pytest.raises(StoreError, match="full disk"), replacing(tmp_path / "x"), full.open("w") as handle:
        handle.write("x" * 100_000)
        handle.flush()


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Expected to write a\.txt"):
        write_bytes(tmp_path / "file" / "a.txt", b"x")


def test_json_is_deterministic_and_refuses_what_is_no_number(tmp_path):
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    write_json(one, {"b": 1, "a": [1.5, None]})
    write_json(two, {"a": [1.5, None], "b": 1})
    assert one.read_bytes() == two.read_bytes()
    assert read_json(one) == {"a": [1.5, None], "b": 1}
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ParameterError, match="NaN or infinity"):
            write_json(tmp_path / "bad.json", {"a": bad})
    with pytest.raises(ParameterError, match="plain values"):
        write_json(tmp_path / "bad.json", {"a": object()})
    assert not (tmp_path / "bad.json").exists()


def test_reading_json_that_is_absent_or_damaged(tmp_path):
    with pytest.raises(StoreError, match="no such file"):
        read_json(tmp_path / "run.json")
    (tmp_path / "run.json").write_text('{"a": ')
    with pytest.raises(StoreError, match="damaged"):
        read_json(tmp_path / "run.json")


def test_tables_come_back_and_have_stable_bytes(tmp_path):
    frame = pd.DataFrame({"gene": ["NAN1", "NA", "TP53"], "x": [0.1, float("nan"), 1e-300], "n": [1, 2, 3]})
    paths = write_table(frame, tmp_path / "a.b")
    again = write_table(frame.set_index(frame.index + 7), tmp_path / "c.d")
    assert [p.name for p in paths] == ["a.b.parquet", "a.b.tsv"]
    assert all(p.read_bytes() == q.read_bytes() for p, q in zip(paths, again))
    pd.testing.assert_frame_equal(read_table(tmp_path / "a.b.parquet"), frame)
    text = read_table(tmp_path / "a.b.tsv")
    assert text["gene"].tolist() == ["NAN1", "NA", "TP53"]
    assert text["x"].isna().tolist() == [False, True, False]
    with pytest.raises(SchemaError, match="no such file"):
        read_table(tmp_path / "other")
    with pytest.raises(SchemaError, match="unique column names"):
        write_table(pd.DataFrame([[1, 2]], columns=["a", "a"]), tmp_path / "x")


def test_a_written_table_is_no_other_table(tmp_path):
    """The comparison of bytes above would notice a changed value."""
    a = write_table(pd.DataFrame({"x": [1.0]}), tmp_path / "a")
    b = write_table(pd.DataFrame({"x": [1.0 + 1e-15]}), tmp_path / "b")
    assert all(p.read_bytes() != q.read_bytes() for p, q in zip(a, b))
