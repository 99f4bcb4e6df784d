"""The HTML report and the Markdown card: numbers and structure, whatever the model holds."""

from __future__ import annotations

import base64
import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import jaxgmm
from jaxgmm import Status
from jaxgmm._provenance import fingerprint
from jaxgmm._pytree import replace
from jaxgmm._status import cause
from jaxgmm.em.result import History
from jaxgmm.model import Model
from jaxgmm.report import MAX_COMPONENTS, card, html_page, summary_dict
from jaxgmm.report._facts import MAX_COLUMNS, MAX_STARTS
from tests.test_report import fit, params, sweep

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = '<script>alert("1")</script>|`*_\\ & $\\frac'


class Page(HTMLParser):
    """Tags balanced; their attributes, the rows of tables, and the text outside of the style sheet."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[dict] = []
        self.text = ""
        self.section = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        assert len(found) == len(attrs)
        self.tags.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = found["id"]
        elif tag == "tr":
            self.rows.append({"kind": found.get("class"), "cells": [], "section": self.section})
        elif tag in ("td", "th"):
            self.rows[-1]["cells"].append({"fact": found.get("data-fact"), "text": "", "values": []})
        elif tag == "data":
            self.rows[-1]["cells"][-1]["values"].append(json.loads(found["value"]))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text += data
        if self.rows and {"td", "th"} & set(self.open):
            self.rows[-1]["cells"][-1]["text"] += data

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    def fact(self, name):
        """The one cell of a fact in the summary, the data or the criteria of the model: its number, or its text."""
        found = [
            cell
            for row in self.rows
            if len(row["cells"]) <= 3 and row["section"] != "components"
            for cell in row["cells"]
            if cell["fact"] == name
        ]
        assert found, f"no {name}"
        assert all(cell == found[0] for cell in found)
        return found[0]["values"][0] if found[0]["values"] else found[0]["text"]

    def table(self, section, width=0):
        """The rows of a section's tables with at least `width` cells, without heads."""
        rows = [row for row in self.rows if row["section"] == section and len(row["cells"]) >= width]
        return [row for row in rows if any(cell["values"] or cell["fact"] for cell in row["cells"])]

    def images(self):
        return [attrs for tag, attrs in self.tags if tag == "img"]


def check(text: str) -> Page:
    """A sound page that neither runs nor fetches anything."""
    assert text.startswith("<!DOCTYPE html>\n")
    page = Page(text)
    names = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "a"} & set(names)
    for name in ("html", "head", "title", "body", "main", "h1", "style"):
        assert names.count(name) == 1, name
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") or name in ("href", "srcset", "style") for name in attrs), (tag, attrs)
        assert tag == "img" or "src" not in attrs
    for image in page.images():
        assert image["alt"]
        kind, content = re.fullmatch("data:(image/png|image/svg\\+xml);base64,(.*)", image["src"]).groups()
        content = base64.b64decode(content, validate=True)
        assert content.startswith(b"\x89PNG" if kind == "image/png" else b"<?xml")
        # Of an SVG too: nothing in it comes from elsewhere.
        assert kind == "image/png" or not re.search(rb'href="(?!#)|<script|url\((?!#)', content)
    assert "url(" not in text.replace("url(data:", "")
    views = [attrs for tag, attrs in page.tags if tag == "meta" and attrs.get("name") == "viewport"]
    assert views[0]["content"].startswith("width=device-width")
    tables = sum(tag == "table" for tag in names)
    assert tables == sum(attrs.get("class") == "scroll" for _, attrs in page.tags)
    return page


def tables_of(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text outside of its fences, split into cells; every row has as many as the head."""
    text = re.sub(r"^(`{3,})[^\n]*\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith(" |")
            found[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif found[-1]:
            found.append([])
    for table in filter(None, found):
        assert set(table[1]) == {"---"}
        assert {len(row) for row in table} == {len(table[0])}
    return [table for table in found if table]


def known(n_components=3, n_features=2, **change) -> Model:
    """A model as a sweep by the shell would leave it."""
    candidates = sweep(fit(1, n_features, log_likelihood=-400.0), fit(n_components, n_features, **change), None)
    return Model.from_fit(
        candidates.fits[1], columns=[f"c{d}" for d in range(n_features)], seed=17, fingerprint="ab", sweep=candidates
    )


@pytest.fixture(scope="module")
def real():
    """Rows of 2 columns, the names of their classes, and a standardized fit of them by the library."""
    rng = np.random.default_rng(4)
    labels = np.repeat(["left", "right"], [60, 40])
    x = rng.normal(size=(100, 2)) + np.where(labels == "left", 0.0, 5.0)[:, None]
    x[:, 1] *= 100.0
    z, shift, scale = jaxgmm.data.standardize(x)
    result = jaxgmm.fit(z, 2, key=3, n_restarts=4)
    model = Model.from_fit(
        result, columns=["a", "b"], shift=shift, scale=scale, seed=3, fingerprint=fingerprint(x)
    )  # fmt: skip
    return x, labels, model


@pytest.fixture
def no_pictures(monkeypatch):
    """Pages without pictures, which take most of the time and are the matter of other tests."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_the_page_has_the_numbers_of_the_summary():
    model = known()
    page, facts = check(html_page(model)), summary_dict(model)
    for name in ("n_samples", "n_features", "n_components", "covariance_type", "n_parameters", "log_likelihood"):
        assert page.fact(name) == facts[name], name
    for name in ("score", "n_iter", "aic", "bic", "icl", "digest"):
        assert name == "digest" or page.fact(name) == facts[name], name
    assert page.fact("converged") == "yes"
    assert page.fact("best_share") == "1 of 4 starts"
    for text in (facts["digest"], "seed", "17", "ab", facts["versions"]["jax"], "max_iter = 50", "cpu"):
        assert text in page.text
    assert "Only 1 of 4 starts reached the best optimum" in page.text


def test_components_have_weight_size_mean_and_deviation():
    model = known(3, 2)
    page, facts = check(html_page(model)), summary_dict(model)
    rows = page.table("components")
    assert len(rows) == 3
    for row, wanted in zip(rows, facts["components"], strict=True):
        weight, size, *columns = [cell["values"] for cell in row["cells"][1:]]
        assert weight == [wanted["weight"]]
        assert size == [wanted["size"]]
        assert columns == [list(pair) for pair in zip(wanted["mean"], wanted["std"], strict=True)]


@pytest.mark.parametrize(("n_components", "n_features"), [(1, 1), (40, 1), (2, 50), (40, 3)])
def test_many_components_and_columns_are_counted(n_components, n_features):
    model = known(n_components, n_features)
    page, text = check(html_page(model)), card(model)
    rows, width = page.table("components"), min(n_features, MAX_COLUMNS)
    assert len(rows) == min(n_components, MAX_COMPONENTS)
    assert {len(row["cells"]) for row in rows} == {3 + width}
    shown = [float(row["cells"][1]["values"][0]) for row in rows]
    np.testing.assert_allclose(sorted(shown), np.sort(model.params.weights)[-len(rows) :])
    table = next(table for table in tables_of(text) if table[0][0] == "component")
    assert (len(table), len(table[0])) == (len(rows) + 2, 3 + width)
    for said in (page.text, text):
        assert (f"{n_components - MAX_COMPONENTS} lighter components" in said) == (n_components > MAX_COMPONENTS)
        assert (f"{n_features - MAX_COLUMNS} columns more" in said) == (n_features > MAX_COLUMNS)


def test_the_winner_of_a_sweep_is_marked():
    model = known()
    rows = check(html_page(model)).table("criteria", width=6)
    assert [row["kind"] for row in rows] == [None, "winner", None]
    assert rows[1]["cells"][0]["text"] == "★ diag"
    table = model.meta["sweep"]["table"]
    for row, wanted in zip(rows, table, strict=True):
        found = {cell["fact"]: cell["values"] for cell in row["cells"] if cell["fact"]}
        for name in ("n_components", "log_likelihood", "n_parameters", "aic", "bic", "icl", "n_iter", "best_share"):
            assert found[name] == ([wanted[name]] if name in wanted else []), name
    assert [row["cells"][-1]["text"] for row in rows] == ["converged", "converged", "singular"]
    text = card(model)
    assert "smaller is better" in text
    table = next(table for table in tables_of(text) if table[0][0] == "covariance")
    assert [row[-1] for row in table[2:]] == ["", "chosen", ""]


def test_a_sweep_by_silhouette_prefers_the_larger_value():
    found = sweep(fit(1), fit(2), fit(3), criterion="silhouette", values=[np.nan, 0.52, 0.71])
    model = Model.from_fit(found.best, sweep=found)
    page = check(html_page(model))
    rows = page.table("criteria", width=6)
    assert [row["kind"] for row in rows] == [None, None, "winner"]
    assert [row["cells"][2]["values"] for row in rows] == [[], [0.52], [0.71]]
    for text in (page.text, card(model)):
        assert "larger is better" in text
        assert "The chosen count, 3, is the largest one tried" in text


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("status", Status)
def test_stop_codes_are_told_in_words(status):
    model = Model.from_fit(fit(status=status))
    page = check(html_page(model))
    rows = page.table("starts")
    assert [row["cells"][-1]["text"] for row in rows] == [cause(status)] * 4
    assert [row["kind"] for row in rows] == [None, "winner", None, None]
    boxes = [attrs["class"] for _, attrs in page.tags if str(attrs.get("class")).startswith("verdict")]
    assert boxes == ["verdict good" if status == Status.CONVERGED else "verdict doubtful"]
    for text in (page.text, card(model)):
        assert ("did not converge" in text) == (status != Status.CONVERGED)


@pytest.mark.usefixtures("no_pictures")
def test_starts_have_their_numbers_and_only_some_are_shown():
    likelihoods = -260.0 - np.arange(64.0)
    likelihoods[50], likelihoods[3] = -250.0, -np.inf
    status = np.full(64, Status.CONVERGED)
    status[3] = Status.SINGULAR
    counts = np.arange(64) + 5
    model = Model.from_fit(
        fit(
            n_restarts=64,
            restart_log_likelihoods=likelihoods,
            restart_status=status,
            restart_n_iter=counts,
            best_restart=50,
        )
    )
    page = check(html_page(model))
    rows = page.table("starts")
    assert len(rows) == MAX_STARTS
    assert [row["cells"][0]["text"] for row in rows if row["kind"] == "winner"] == ["★ 50"]
    for row in rows:
        r = int(row["cells"][0]["text"].strip("★ "))
        assert row["cells"][1]["values"] == [counts[r]]
        assert row["cells"][2]["values"] == [likelihoods[r]]
    assert "and 34 more, none of them higher: 33 converged, 1 singular" in page.text


@pytest.mark.usefixtures("no_pictures")
def test_diagnoses_are_listed():
    model = Model.from_fit(fit(diagnoses=()))
    assert "None: no component lost its rows" in check(html_page(model)).text
    said = [f"component {k} <b>has lost</b> all its rows" for k in range(5)]
    sick = replace(model, meta=model.meta | {"diagnoses": [{"text": text} for text in said]})
    page = check(html_page(sick))
    assert all(text in page.text for text in said)
    assert "There are 5 diagnoses" in page.text
    assert "has lost" in card(sick)


def test_a_model_without_a_past():
    model = Model(params=params(2, 3))
    page = check(html_page(model))
    assert "How this mixture came about is not recorded" in page.text
    assert "Nothing is known of the starts" in page.text
    assert "does not say enough to fit the model again" in page.text
    assert len(page.images()) == 1
    assert {row["section"] for row in page.rows} == {"summary", "components", "how-to-do-it-again"}
    text = card(model)
    tables_of(text)
    assert "not recorded" in text
    assert "None" not in text


ODD = [None, True, -1, 3.5, "x", HOSTILE, [], [None], ["a", 1], {}, {"a": [1]}, {"table": [1], "criterion": 5}, 10**400]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_meta_of_the_wrong_kind_breaks_nothing(odd):
    """A file that somebody made by hand may hold anything."""
    model = known()
    with pytest.MonkeyPatch.context() as without:
        without.setitem(sys.modules, "matplotlib", None)
        for name in model.meta:
            changed = Model(params=model.params, meta=model.meta | {name: odd, "command": odd, "source": odd})
            check(html_page(changed))
            tables_of(card(changed))
    everything = Model(params=model.params, meta=dict.fromkeys([*model.meta, "command", "source"], odd))
    check(html_page(everything))
    tables_of(card(everything))


@pytest.mark.usefixtures("no_pictures")
def test_rows_of_a_sweep_of_the_wrong_kind_are_no_sweep():
    model = known()
    for change in ({"bic": [1]}, {"status": 3}, {"n_components": "2"}, {"covariance_type": None}):
        table = [row | change for row in model.meta["sweep"]["table"]]
        changed = Model(params=model.params, meta=model.meta | {"sweep": {"criterion": "bic", "table": table}})
        assert "Candidates" not in check(html_page(changed)).text
    table = [{n: v for n, v in row.items() if n != "bic"} for row in model.meta["sweep"]["table"]]
    changed = Model(params=model.params, meta=model.meta | {"sweep": {"criterion": "bic", "table": table}})
    assert "★ diag" not in check(html_page(changed)).text


def test_hostile_names_stay_text(real):
    x, _, model = real
    meta = model.meta | dict.fromkeys(("source", "seed_note", "init", "kernel", "status", "message"), HOSTILE)
    meta |= {"command": ["fit", HOSTILE, "```\nx"], "versions": {HOSTILE: HOSTILE}, "device": {"kind": HOSTILE}}
    meta |= {"restart_status": [HOSTILE] * 4, "diagnoses": [{"text": HOSTILE}]}
    meta["sweep"] = {
        "criterion": HOSTILE,
        "table": [{"covariance_type": HOSTILE, "n_components": 1, "status": HOSTILE}],
    }
    model = replace(model, columns=(HOSTILE, "$\\no$日本\x1b[31m\nx"), meta=meta)
    text = html_page(model, x, path=f"{HOSTILE}.npz", labels=[HOSTILE] * 100)
    page = check(text)
    assert "<script" not in text
    assert HOSTILE in page.text
    assert "\x1b" not in text
    markdown = card(model, path=f"{HOSTILE}.npz")
    tables = tables_of(markdown)
    assert {len(table[0]) for table in tables} >= {5}
    outside = re.sub(r"^(`{3,})[^\n]*\n.*?^\1$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside
    assert not re.search(r"(?<!\\)[*_|]frac|(?<!\\)`\\", outside)
    assert "````sh" in markdown  # a fence that the three signs inside do not end


def test_what_the_given_data_say(real):
    x, labels, model = real
    page = check(html_page(model, x, labels=labels))
    assert page.fact("data_rows") == 100
    assert page.fact("data_same") == "yes"
    assert page.fact("data_score") == model.score(x)
    assert page.fact("data_uncertain") == np.mean(model.uncertainty(x) > 0.1)
    found = np.asarray(model.predict(x))
    assert page.fact("data_accuracy") == jaxgmm.accuracy_up_to_relabelling(labels, found)
    assert page.fact("data_ari") == jaxgmm.adjusted_rand_index(labels, found)
    counts = [cell["values"][0] for row in page.table("components") for cell in row["cells"] if cell["fact"] == "rows"]
    assert counts == np.bincount(found).tolist()
    classes = {
        row["cells"][0]["text"]: [c["values"][0] for c in row["cells"][1:]] for row in page.table("these-data", 3)
    }
    assert classes == {name: np.bincount(found[labels == name], minlength=2).tolist() for name in ("left", "right")}
    other = check(html_page(model, x[:50]))
    assert other.fact("data_same") == "no"
    assert other.fact("data_rows") == 50
    with pytest.raises(jaxgmm.DataError, match="E210"):
        html_page(model, x[:, :1])


def test_standardized_columns_are_told_in_data_units(real):
    _, _, model = real
    page = check(html_page(model))
    assert "standardized columns" in page.fact("standardized")
    wanted = [[*pair] for pair in zip(model.data_means[0].tolist(), model.data_std[0].tolist(), strict=True)]
    assert [cell["values"] for cell in page.table("components")[0]["cells"][3:]] == wanted
    assert "- standardized for the fit: yes" in card(model)


def test_pictures_of_what_is_known(real):
    x, _, model = real
    bare = Model.from_params(model.params)
    assert len(check(html_page(bare)).images()) == 1
    page = check(html_page(model))
    assert ["history" not in image["alt"] for image in page.images()] == [True, True]
    assert "Log-likelihood of 4 starts" in page.images()[1]["alt"]
    assert all("svg" in image["src"][:30] for image in page.images())
    page = check(html_page(model, x))
    assert ["png" in image["src"][:30] for image in page.images()] == [True, False, True, True]
    swept = check(html_page(known(3, 1)))
    assert "the best has 2 components and diag covariance" in swept.images()[-1]["alt"]


@pytest.mark.parametrize(("n_features", "scale"), [(1, 1e-150), (3, 1e150)])
def test_pictures_at_the_ends_of_the_numbers(n_features, scale):
    model = Model(params=params(2, n_features, scale))
    x = model.data_means[[0, 1] * 15] + np.linspace(-scale, scale, 30)[:, None]
    assert len(check(html_page(model, x)).images()) == 3


def test_one_component_and_one_column_have_pictures_too():
    model = Model.from_params(params(1, 1))
    assert len(check(html_page(model, np.linspace(-2, 2, 9)[:, None])).images()) == 2  # no row is uncertain


def test_a_page_without_matplotlib_says_how_to_get_pictures(monkeypatch, real):
    x, _, model = real
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = check(html_page(model, x))
    assert page.images() == []
    assert "pip install 'jaxgmm[plot]'" in page.text


def test_the_same_model_gives_the_same_bytes(real):
    import matplotlib

    x, labels, model = real
    first = html_page(model, x, labels=labels), card(model)
    before = dict(dict.items(matplotlib.rcParams))  # asking for the backend would choose one
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):  # what a user may have set
        assert (html_page(model, x, labels=labels), card(model)) == first
    assert dict(dict.items(matplotlib.rcParams)) == before


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def test_the_python_lines_give_the_model_again(real, tmp_path, monkeypatch, capsys):
    x, _, model = real
    monkeypatch.chdir(tmp_path)
    np.save("data.npy", x)
    jaxgmm.save("model.npz", model)
    use, again = blocks(card(model), "python")
    scope = {"x": x}
    exec(compile(use, "use", "exec"), scope)
    np.testing.assert_array_equal(scope["labels"], model.predict(x))
    exec(compile(again, "again", "exec"), {})
    assert capsys.readouterr().out == f"{model.digest}\n"
    page = Page(html_page(model)).text
    assert use.strip() in page
    assert again.strip() in page


def test_the_shell_lines_give_the_model_again(real, shell):
    x, _, model = real
    np.save("rows.npy", x)
    jaxgmm.save("model.npz", model)
    use, again = blocks(card(model), "sh")
    shell(*again.replace("DATA", "rows.npy").split()[1:])
    assert jaxgmm.load("again.npz").digest == model.digest
    for line in use.splitlines():
        shell(*line.replace("DATA", "rows.npy").split()[1:])


def test_the_lines_of_a_sweep_are_those_of_its_call(tmp_path, monkeypatch, capsys):
    options = {"tol": 1e-7, "tol_kind": "aitken", "reg_covar": 1e-4, "reg_kind": "absolute", "max_iter": 70}
    found = sweep(fit(1, log_likelihood=-400.0, options=options), fit(2, options=options))
    model = Model.from_fit(found.best, seed=5, sweep=found)
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jaxgmm, "sweep", lambda *a, **k: calls.append((a, k)) or found)
    np.save("data.npy", np.zeros((4, 2)))
    exec(compile(blocks(card(model), "python")[1], "again", "exec"), {})
    assert capsys.readouterr().out == f"{model.digest}\n"
    (((x, counts), named),) = calls
    assert x.shape == (4, 2)
    assert counts == [1, 2]
    given = {"key": 5, "covariance_types": ["diag"], "criterion": "bic", "init": "kmeans", "n_restarts": 4}
    assert named == given | options
    line = blocks(card(model), "sh")[1]
    assert line.startswith("jaxgmm sweep DATA --candidates 1,2 --covariance-type diag --criterion bic --init kmeans")
    assert "--tol 1e-07 --tol-kind aitken --reg-covar 0.0001 --reg-kind absolute --max-iter 70 --seed 5" in line


@pytest.mark.usefixtures("no_pictures")
def test_a_recorded_command_is_shown_with_its_seed():
    model = known()
    for command, wanted in [
        (["fit", "my data.csv", "-n", "3"], "jaxgmm fit 'my data.csv' -n 3 --seed 17"),
        (["/usr/bin/jaxgmm", "fit", "d.csv", "--seed=4"], "jaxgmm fit d.csv --seed=4"),
    ]:
        changed = replace(model, meta=model.meta | {"command": command})
        assert wanted in check(html_page(changed)).text
        assert blocks(card(changed), "sh")[1].strip() == wanted


def test_options_of_a_fit_in_single_precision_are_short():
    options = {"tol": float(np.float32(1e-8)), "tol_kind": "change", "reg_covar": float(np.float32(1e-6))}
    options |= {"reg_kind": "relative", "max_iter": 9, "other": 1e300}
    single = jaxgmm.GMMParams(
        **{name: np.float32(getattr(params(2, 2), name)) for name in ("weights", "means", "covariances")},
        covariance_type="diag",
    )
    text = card(Model.from_fit(fit(params=single, options=options), seed=1))
    assert "tol = 1e-08, tol\\_kind = change, reg\\_covar = 1e-06" in text
    assert "--tol 1e-08" in text
    assert "--dtype float32" in text
    assert np.float32(1e-8) == np.float32(float(re.findall(r"tol=(.*),", text)[0]))


def test_a_start_from_given_parameters_has_no_lines_to_do_it_again():
    model = Model.from_fit(fit(init="given"))
    assert "The fit began at given parameters" in check(html_page(model)).text
    assert len(blocks(card(model), "python")) == 1
    estimator = {"tol": 0.0, "tol_mean": 1e-3, "tol_kind": "change", "reg_covar": 1e-6, "reg_kind": "absolute"}
    model = Model.from_fit(fit(options=estimator | {"max_iter": 100}))
    assert len(blocks(card(model), "python")) == 1


def test_the_card_has_the_numbers_of_the_summary(real):
    _, _, model = real
    text, facts = card(model), summary_dict(model)
    values = {row[0]: row[1] for table in tables_of(text) if len(table[0]) == 2 for row in table[2:]}
    assert float(values["log-likelihood"]) == pytest.approx(facts["log_likelihood"], abs=5e-5)
    assert float(values["BIC (smaller is better)"]) == pytest.approx(facts["bic"], abs=5e-5)
    assert int(values["free parameters"]) == facts["n_parameters"]
    assert values["seed"] == "3"
    table = next(table for table in tables_of(text) if table[0][0] == "component")
    for row, wanted in zip(table[2:], facts["components"], strict=True):
        assert float(row[1]) == pytest.approx(wanted["weight"], abs=5e-5)
        pairs = [[float(v) for v in cell.split(" ± ")] for cell in row[3:]]
        np.testing.assert_allclose(pairs, np.stack([wanted["mean"], wanted["std"]], axis=1), rtol=1e-4)
    heads = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert heads[:5] == ["What it is", "Data", "How it was fitted", "Quality", "Use and limits"]


def test_a_history_of_the_winner_alone():
    model = Model.from_params(params(2, 2))
    curves = np.array([[-5.0, -4.0, -3.5, np.nan]])
    page = check(html_page(replace(model, history=History(log_likelihood=curves, best=0))))
    assert page.images()[1]["alt"] == (
        "Log-likelihood of 1 start; that of the best goes from -5.0000 to -3.5000 in 2 iterations"
    )
