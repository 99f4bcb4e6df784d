"""Where streamed rows come from: every kind of source, what is refused, and what a survey finds."""

import os
import threading
from functools import partial

import numpy as np
import pytest

from jaxgmm import DataError, UsageError, _files, fit, scan_table
from jaxgmm._ahead import ahead
from jaxgmm._checks import precision_context
from jaxgmm.data import decoded, survey as surveys
from jaxgmm.data.batches import Indexed, Iterated, Joined, batches
from jaxgmm.data.rows import prepare_rows
from jaxgmm.data.scan import refuse_own_output
from jaxgmm.data.survey import survey
from jaxgmm.scale import choose, stream as streams
from tests.helpers import D, K, N, start
from tests.streams import refused, rows_of


@pytest.fixture
def no_limits(monkeypatch):
    """As much memory as one likes."""
    monkeypatch.setattr(choose, "free_device_memory", lambda: None)


def parquet(path, table, **options):
    import pyarrow.parquet

    pyarrow.parquet.write_table(table, path, **options)


def make_source(kind, x, folder):
    """The rows as a source of that kind."""
    if kind == "memory map":
        np.save(folder / "x.npy", x)
        return np.load(folder / "x.npy", mmap_mode="r")
    if kind == "list":
        return [x[:30], x[30:31], x[31:]]
    if kind == "hdf5":
        h5py = pytest.importorskip("h5py")
        return h5py.File(folder / "x.h5", "w").create_dataset("x", data=x, chunks=(64, D))
    names = [f"c{i}" for i in range(D)]
    if kind in ("npy", "by columns"):
        np.save(folder / "x.npy", np.asfortranarray(x) if kind == "by columns" else x)
        return scan_table(folder / "x.npy")
    if kind == "folder":
        for i, part in enumerate(np.array_split(x, 3)):
            np.save(folder / f"part-{i}.npy", part)
        return scan_table(folder)
    if kind == "pattern":
        for i, part in enumerate(np.array_split(x, 3)):
            np.savetxt(folder / f"{i}.csv", part, "%.17g", delimiter=",", header=",".join(names), comments="")
        return scan_table(str(folder / "*.csv"))
    pyarrow = pytest.importorskip("pyarrow")
    if kind == "lists":
        table = pyarrow.table({"x": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(x.ravel()), D)})
    else:
        table = pyarrow.table(dict(zip(names, x.T, strict=True)) | {"word": ["a"] * len(x)})
    if kind == "feather":
        from pyarrow import feather

        feather.write_feather(table, folder / "x.feather", chunksize=70)
        return scan_table(folder / "x.feather", drop="word")
    parquet(folder / "x.parquet", table, row_group_size=70)
    return scan_table(folder / "x.parquet", drop=None if kind == "lists" else "word", cache=kind != "undecoded")


KINDS = ["memory map", "list", "hdf5", "npy", "by columns", "folder", "pattern", "parquet", "lists", "undecoded"]


@pytest.mark.parametrize("kind", [*KINDS, "feather"])
@pytest.mark.usefixtures("no_limits")
def test_every_kind_of_source_gives_the_same_fit(small, kind, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGMM_CACHE_DIR", str(tmp_path / "cache"))
    source = make_source(kind, small.x, tmp_path)
    options = {"init": start("full"), "max_iter": 5}
    here = fit(small.x, K, **options)
    for more in ({"batch_size": 64}, {}):
        there = fit(source, K, **options, **more)
        assert there.log_likelihood == pytest.approx(here.log_likelihood, rel=1e-12)
        assert there.n_samples == N


def test_what_was_decoded_is_kept_once(small, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGMM_CACHE_DIR", str(tmp_path / "cache"))
    source = make_source("parquet", small.x, tmp_path)
    kept = sorted((tmp_path / "cache" / "tables").iterdir())
    assert len(kept) == 1
    np.testing.assert_array_equal(np.load(kept[0]), small.x)
    np.testing.assert_array_equal(rows_of(source, 64), small.x)
    before = kept[0].stat().st_ino
    scan_table(tmp_path / "x.parquet", drop="word")
    assert [path.stat().st_ino for path in (tmp_path / "cache" / "tables").iterdir()] == [before]
    # Another content is another file.
    make_source("parquet", small.x + 1.0, tmp_path)
    assert len(list((tmp_path / "cache" / "tables").iterdir())) == 2
    monkeypatch.setenv("JAXGMM_CACHE_DIR", "off")
    assert type(make_source("parquet", small.x, tmp_path)).__name__ == "Decoded"


def write_text(path, x, names=""):
    np.savetxt(path, x, "%.17g", ",", header=names, comments="")


def test_what_is_opened_again_is_not_changed_for_those_who_read_it(small, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGMM_CACHE_DIR", str(tmp_path / "cache"))
    write_text(tmp_path / "x.csv", small.x)
    scan_table(tmp_path / "x.csv")
    (kept,) = (tmp_path / "cache" / "tables").iterdir()
    os.utime(kept, (1e9, 1e9))
    reader = scan_table(tmp_path / "x.csv")
    before = kept.stat()
    # A use is noted, so that the file is not removed as unused.
    assert (before.st_mtime, before.st_atime > 1e9) == (1e9, True)
    scan_table(tmp_path / "x.csv")
    np.testing.assert_array_equal(rows_of(reader, 64), small.x)


@pytest.mark.parametrize("links", [True, False])
def test_the_first_of_two_who_decode_at_once_is_not_replaced(small, tmp_path, monkeypatch, links):
    monkeypatch.setenv("JAXGMM_CACHE_DIR", str(tmp_path / "cache"))
    write_text(tmp_path / "x.csv", small.x)
    write, readers = decoded.write_npy, []

    def while_another_does(path, table):
        if not readers:
            readers.append(None)
            readers[0] = scan_table(tmp_path / "x.csv")
        return write(path, table)

    def link(*_, **__):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(decoded, "write_npy", while_another_does)
    if not links:
        monkeypatch.setattr(os, "link", link)
        monkeypatch.setattr(_files, "_open", partial(open, mode="x+b"))
    readers.append(scan_table(tmp_path / "x.csv"))
    for reader in readers:
        np.testing.assert_array_equal(rows_of(reader, 64), small.x)
    assert len(list((tmp_path / "cache" / "tables").iterdir())) == 1


def test_a_file_that_changes_while_it_is_decoded_is_noticed(small, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGMM_CACHE_DIR", str(tmp_path / "cache"))
    path, write = tmp_path / "x.csv", decoded.write_npy
    write_text(path, small.x)

    def growing(target, table):
        write(target, table)
        write_text(path, np.r_[small.x, small.x])

    monkeypatch.setattr(decoded, "write_npy", growing)
    assert "x.csv" in refused("E252", lambda: scan_table(path))
    assert not list((tmp_path / "cache" / "tables").iterdir())


def test_files_without_names_go_with_those_that_have_some(small, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGMM_CACHE_DIR", str(tmp_path / "cache"))
    np.save(tmp_path / "a.npy", small.x[:50])
    write_text(tmp_path / "b.csv", small.x[50:90], "p,q,r")
    write_text(tmp_path / "c.csv", small.x[90:])
    for cache in (True, False):
        found = scan_table(tmp_path, columns=[2, 0], cache=cache)
        assert found.columns == ("r", "p")
        np.testing.assert_array_equal(rows_of(found, 64), small.x[:, [2, 0]])
    # Names that are there are compared, also those that look like numbers.
    write_text(tmp_path / "c.csv", small.x[90:], "x0,x1,x2")
    assert "c.csv" in refused("E251", lambda: scan_table(tmp_path))
    np.save(tmp_path / "a.npy", small.x[:, :2])
    assert "2 columns" in refused("E251", lambda: scan_table([tmp_path / "a.npy", tmp_path / "b.csv"]))


def test_a_list_may_name_patterns_and_folders(small, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGMM_CACHE_DIR", str(tmp_path / "cache"))
    for name, part in zip(("f", "g"), (small.x[:90], small.x[90:]), strict=True):
        (tmp_path / name).mkdir()
        for i, rows in enumerate(np.array_split(part, 2)):
            np.save(tmp_path / name / f"{i}.npy", rows)
    found = scan_table([str(tmp_path / "f" / "*.npy"), tmp_path / "g"])
    np.testing.assert_array_equal(rows_of(found, 64), small.x)
    assert scan_table([str(tmp_path / "f" / "1*")]).n_samples == 45


def test_columns_and_weights_are_chosen_by_name(small, tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    monkeypatch.setenv("JAXGMM_CACHE_DIR", str(tmp_path / "cache"))
    weight = small.counts.astype(float)
    parquet(tmp_path / "x.parquet", pyarrow.table({"w": weight, "b": small.x[:, 1], "a": small.x[:, 0]}))
    np.savetxt(tmp_path / "x.csv", np.c_[weight, small.x[:, 1::-1]], "%.17g", ",", header="w,b,a", comments="")
    np.save(tmp_path / "x.npy", np.c_[weight, small.x[:, 1::-1]])
    for name, chosen, weights in (("x.parquet", ["a", "b"], "w"), ("x.csv", ["a", "b"], "w"), ("x.npy", [2, 1], 0)):
        for cache in (True, False):
            source = scan_table(tmp_path / name, columns=chosen, weight_column=weights, cache=cache)
            found = list(batches(source, 64))
            np.testing.assert_array_equal(np.concatenate([batch.x for batch in found]), small.x[:, :2])
            np.testing.assert_array_equal(np.concatenate([batch.weight for batch in found]), weight)
    assert source.n_features == 2


@pytest.mark.parametrize("size", [1, 3, 64, 1000])
def test_batches_do_not_depend_on_how_a_source_is_cut(small, size):
    whole = Indexed(small.x, weight=small.counts.astype(float))
    cut = Joined(
        [Indexed(small.x[i:j], weight=small.counts[i:j].astype(float)) for i, j in ((0, 7), (7, 8), (8, N))], "x"
    )
    for one, other in zip(batches(whole, size), batches(cut, size), strict=True):
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.weight, other.weight)
        assert len(one.x) <= size


def test_a_thread_reads_ahead_and_stops():
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    reader = ahead(items)
    assert [next(reader) for _ in range(3)] == [0, 1, 2]
    reader.close()
    assert len(made) <= 6

    def failing():
        yield 1
        raise DataError("E203", "a row is bad", "drop it")

    with pytest.raises(DataError, match="a row is bad"):
        list(ahead(failing))


def test_one_thread_after_the_other_is_the_same_one():
    """A new thread for every pass would take memory that the C library never gives back."""

    def reader():
        yield threading.get_ident()
        yield threading.get_ident()

    def failing():
        yield threading.get_ident()
        raise DataError("E203", "a row is bad", "drop it")

    (first,) = set(ahead(reader))
    one, other = ahead(reader), ahead(reader)
    assert next(one) == first != next(other)
    other.close()
    one.close()
    with pytest.raises(DataError):
        list(ahead(failing))
    assert set(ahead(reader)) == {first}


# The first pass


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_a_survey_finds_what_rows_in_memory_have(small, offset, monkeypatch):
    x, weight = small.x + offset, small.counts.astype(float)
    monkeypatch.setattr(surveys, "CHUNK", 16)
    found = survey(Indexed(x, weight=weight))
    with precision_context(np.dtype(np.float64)):
        rows = prepare_rows(x, weight)
        covariance = rows.covariance
    ulp = np.finfo(float).eps
    np.testing.assert_allclose(found.mean, rows.offset, rtol=4 * ulp)
    np.testing.assert_allclose(found.covariance, covariance * rows.scale**2, rtol=1e-13, atol=1e-13)
    assert np.max(found.reach) == pytest.approx(rows.reach, abs=4 * ulp * (1 + offset))
    assert (found.n_samples, found.n_used) == (N, np.count_nonzero(weight))
    np.testing.assert_array_equal(found.sample, x)
    np.testing.assert_array_equal(found.sample_weight, weight)


def test_a_survey_is_the_same_however_the_rows_come(small, monkeypatch):
    monkeypatch.setattr(surveys, "CHUNK", 16)
    monkeypatch.setattr(surveys, "SAMPLE_ROWS", 40)
    one, other = survey(Indexed(small.x), 5), survey(Iterated([small.x[:33], small.x[33:]]), 5)
    for name in ("mean", "covariance", "reach", "sample", "sample_weight"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert len(one.sample) == 40
    assert one.sample_weight.sum() == pytest.approx(N)
    assert not np.array_equal(one.sample, survey(Indexed(small.x), 6).sample)


def test_a_digest_tells_rows_in_another_order_apart():
    """Also those that are in no sample, and numbers with few bits."""
    rng = np.random.default_rng(0)
    for x in (rng.normal(size=(70_000, 2)), rng.integers(0, 3, (70_000, 2)).astype(np.float32)):
        first = survey(Indexed(x))
        unsampled = np.flatnonzero(~np.isin(x[:, 0], first.sample[:, 0])) if len(np.unique(x)) > 3 else np.arange(9)
        i = unsampled[0]
        j = next(j for j in unsampled if x[j, 0] != x[i, 0])
        rows = np.arange(len(x))
        rows[[i, j]] = j, i
        for changed in (x[rows], np.c_[x[rows, 0], x[:, 1]]):
            assert survey(Indexed(changed)).checksum != first.checksum
    turned = x[::-1, ::-1]
    assert len({survey(Indexed(rows)).checksum for rows in (x, turned, x[::-1], x[:, ::-1])}) == 4
    weight = rng.permutation([1.0, 2.0] * 35_000)
    assert survey(Indexed(x, weight=weight)).checksum != survey(Indexed(x, weight=weight[::-1])).checksum
    cut = survey(Iterated([x[:1], x[1:60_001], x[60_001:]]))
    assert cut.checksum == survey(Indexed(x)).checksum


def test_a_constant_column_has_no_variance(monkeypatch):
    x = np.random.default_rng(0).normal(size=(1000, 2))
    x[:, 1] = 0.1
    found = survey(Indexed(x))
    assert (found.mean[1], found.reach[1]) == (0.1, 0.0)
    assert not found.covariance[1].any()


def test_samples_follow_the_weights(monkeypatch):
    """A row of ten times the weight is drawn about ten times as often."""
    monkeypatch.setattr(surveys, "SAMPLE_ROWS", 20)
    weight = np.where(np.arange(1000) % 2, 10.0, 1.0)
    weight[::7] = 0.0
    drawn = np.concatenate(
        [survey(Indexed(np.arange(1000.0)[:, None], weight=weight), s).sample[:, 0] for s in range(99)]
    )
    counted = np.bincount(drawn.astype(int), minlength=1000)
    assert not counted[::7].any()
    ratio = counted[weight == 10].sum() / counted[weight == 1].sum()
    assert 8.0 < ratio < 12.0


# What cannot be used


@pytest.mark.usefixtures("no_limits")
def test_nan_deep_inside_is_named_by_file_and_row(small, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGMM_CACHE_DIR", str(tmp_path / "cache"))
    for kind, place in (
        ("folder", "part-2.npy, row 33, column 1"),
        ("parquet", "x.parquet, row group 2, row 167, column 1 ('c1')"),
        ("undecoded", "x.parquet, row group 2, row 167, column 1 ('c1')"),
        ("list", "x, row 167, column 1"),
    ):
        x = small.x.copy()
        x[167, 1] = np.nan
        folder = tmp_path / kind
        folder.mkdir()
        source = make_source(kind, x, folder)
        assert place in refused("E203", lambda source=source: fit(source, K, key=0, batch_size=50))


def test_data_that_change_during_the_fit_are_noticed(small, tmp_path, monkeypatch):
    path = tmp_path / "x.npy"

    def vanish():
        path.unlink()

    def shrink():
        path.write_bytes(path.read_bytes()[:2000])

    def rewrite():
        np.save(path, small.x[::-1] * 2.0)

    collect = streams.Stream.collect
    for change in (vanish, shrink, rewrite):
        np.save(path, small.x)
        source, passes = scan_table(path), []

        def passing(self, factors, *, kernel, change=change, passes=passes):
            passes.append(1)
            if len(passes) == 3:
                change()
            return collect(self, factors, kernel=kernel)

        monkeypatch.setattr(streams.Stream, "collect", passing)
        assert "x.npy" in refused("E252", lambda source=source: fit(source, K, key=0, batch_size=50))


def test_a_source_that_gives_other_rows_is_noticed(small):
    class Shrinking:
        length = N

        def __iter__(self):
            self.length -= 1
            yield small.x[: self.length]

    assert "199" not in refused("E252", lambda: fit(Shrinking(), K, key=0, batch_size=50))


def test_unlike_parts_are_refused(small, tmp_path):
    np.save(tmp_path / "a.npy", small.x)
    np.save(tmp_path / "b.npy", small.x[:, :2])
    assert "b.npy has 2 columns" in refused("E251", lambda: scan_table(tmp_path))
    assert "2 columns" in refused("E251", lambda: fit([small.x, small.x[:, :2]], K, key=0))
    np.save(tmp_path / "b.npy", small.x[:0])
    assert "b.npy is empty" in refused("E208", lambda: scan_table(tmp_path))
    (tmp_path / "b.npy").unlink()
    (tmp_path / "c.csv").touch()
    assert "c.csv is empty" in refused("E404", lambda: scan_table(tmp_path))


def test_once_only_rows_and_missing_files_are_refused(small, tmp_path):
    assert "generator" in refused("E250", lambda: fit((small.x for _ in range(2)), K, key=0))
    assert "*.npy" in refused("E401", lambda: scan_table(tmp_path / "*.npy"))
    assert str(tmp_path) in refused("E402", lambda: scan_table(tmp_path))
    refused("E140", lambda: scan_table([]))
    refused("E155", lambda: fit(Indexed(small.x, weight=np.ones(N)), K, key=0, sample_weight=np.ones(N)))
    refused("E108", lambda: fit(small.x, K, key=0, batch_size=0))


def test_damaged_parquet_is_refused(small, tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    monkeypatch.setenv("JAXGMM_CACHE_DIR", "off")
    path = tmp_path / "x.parquet"
    parquet(path, pyarrow.table({"a": [1.0, None, 3.0], "s": ["x", "y", "z"]}))
    assert "row 1: 'a' is missing" in refused("E422", lambda: rows_of(scan_table(path, drop="s"), 2))
    assert "'s' does not hold numbers" in refused("E412", lambda: scan_table(path))
    whole = path.read_bytes()
    for length in (0, 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "x.parquet" in refused("E407", lambda: scan_table(path, drop="s"))


def test_feather_and_parquet_that_cannot_be_read(small, tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather

    monkeypatch.setenv("JAXGMM_CACHE_DIR", "off")
    column = pyarrow.array(small.x[:, 0])
    twice = pyarrow.Table.from_arrays([column, column], names=["a", "a"])
    feather.write_feather(twice, tmp_path / "x.feather")
    parquet(tmp_path / "x.parquet", twice)
    for name in ("x.feather", "x.parquet"):
        assert "several columns" in refused("E412", lambda name=name: scan_table(tmp_path / name))
    feather.write_feather(pyarrow.table({"a": small.x.ravel()}), tmp_path / "y.feather", compression="lz4")
    whole = bytearray((tmp_path / "y.feather").read_bytes())
    whole[len(whole) // 4 : len(whole) // 2] = bytes(len(whole) // 2 - len(whole) // 4)
    (tmp_path / "y.feather").write_bytes(whole)
    with pytest.raises(DataError):
        rows_of(scan_table(tmp_path / "y.feather"), 64)


def test_columns_of_one_name_are_told_apart_by_their_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGMM_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "x.csv").write_text("a,b,a\n" + "".join(f"{i},{i + 100},{i + 1000}\n" for i in range(5)))
    for number in (0, 2, 1):
        found = rows_of(scan_table(tmp_path / "x.csv", columns=[number]), 9)[:, 0]
        np.testing.assert_array_equal(found, np.arange(5) + [0, 100, 1000][number])


@pytest.mark.usefixtures("no_limits")
def test_places_are_named_in_undecoded_folders_and_in_memory(small, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGMM_CACHE_DIR", str(tmp_path / "cache"))
    x = small.x.copy()
    x[107, 1] = np.nan
    for name, part in (("a.csv", x[:100]), ("b.csv", x[100:])):
        np.savetxt(tmp_path / name, part, "%.17g", ",", header="p,q,r", comments="")
    for cache in (False, True):
        source = scan_table(tmp_path, cache=cache)
        for more in ({}, {"batch_size": 64}):
            found = refused("E203", lambda source=source, more=more: fit(source, K, key=0, **more))
            assert "b.csv, row 7, column 1 ('q')" in found
    weighted = Indexed(small.x, weight=np.where(np.arange(N) == 120, -1.0, 1.0))
    assert "row 120" in refused("E221", lambda: fit(weighted, K, key=0, batch_size=64))


def test_series_that_are_used_up_or_empty_are_refused(small):
    class Used:
        def __init__(self):
            self.parts = iter([small.x, small.x])

        def __iter__(self):
            return self.parts

    refused("E250", lambda: fit(Used(), K, key=0, batch_size=64))
    refused("E208", lambda: fit([small.x[:, :0]], K, key=0, batch_size=64))


def test_pyarrow_is_asked_for_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    assert "pyarrow" in refused("E409", lambda: scan_table(tmp_path / "x.parquet"))


# What is chosen, and what is kept


def test_what_a_pattern_does_not_match_may_be_written(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    refuse_own_output(str(tmp_path / "*.npy"), str(tmp_path / "out" / "labels.npy"))
    for pattern, output in (("*.npy", "labels.npy"), ("**/*.npy", "out/labels.npy")):
        with pytest.raises(UsageError, match="E121"):
            refuse_own_output(str(tmp_path / pattern), str(tmp_path / output))
