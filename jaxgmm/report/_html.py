"""One HTML file that says all that is known of a model: tables, words and pictures, without scripts or links."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from typing import Any

import numpy as np

from jaxgmm import compare
from jaxgmm._checks import check_data
from jaxgmm._provenance import fingerprint
from jaxgmm._status import Status, cause, cure
from jaxgmm.model import Model
from jaxgmm.report import _facts
from jaxgmm.report._again import again, use_in_python, use_in_shell
from jaxgmm.report._pictures import pictures
from jaxgmm.report._text import _is_share, _short, _size, clip

# Classes and components up to which their table of counts is shown.
_MAX_CLASSES = 20

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2126; --soft: #5b6670; --line: #d9dee3; --back: #ffffff; --box: #f4f6f8;
  --good: #1a7f4b; --doubt: #b45309; --mark: #e8f1fb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #a3adb7; --line: #39424b; --back: #14181c;
  --box: #1e242a; --good: #4cc38a; --doubt: #f0a94a; --mark: #1c3350; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem 1rem 3rem; max-width: 60rem; color: var(--ink); background: var(--back);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 1rem 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p, li, dd, figcaption, h1 { overflow-wrap: anywhere; }
.verdict { margin: .8rem 0; padding: .7rem 1rem; background: var(--box); border-left: .3rem solid var(--soft); }
.verdict.good { border-color: var(--good); }
.verdict.doubtful { border-color: var(--doubt); }
.soft, caption, figcaption { color: var(--soft); font-size: .875rem; }
/* Where a table is cut off, a shadow says that it goes on. */
.scroll { overflow-x: auto; margin: .5rem 0; background: linear-gradient(to right, var(--back) 1.5rem, transparent),
  linear-gradient(to left, var(--back) 1.5rem, transparent) right, linear-gradient(to right, #0004, transparent),
  linear-gradient(to left, #0004, transparent) right; background-repeat: no-repeat;
  background-size: 3rem 100%, 3rem 100%, .7rem 100%, .7rem 100%; background-attachment: local, local, scroll, scroll; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap;
  vertical-align: top; }
th:first-child, td:first-child { padding-left: .3rem; }
thead th { color: var(--soft); font-weight: 600; }
th[scope=row], .text, thead th:first-child, .worded th:last-child, caption { text-align: left; }
caption { padding: .8rem .3rem .2rem; }
th[scope=row] { font-weight: 400; }
.facts { width: 100%; }
.facts th, .facts td { width: 50%; text-align: left; white-space: normal; overflow-wrap: anywhere; }
.facts th { color: var(--soft); }
.origin th { width: 30%; }
.origin td { width: 70%; }
td.wrap { min-width: 12rem; white-space: normal; }
tr.winner { background: var(--mark); }
tr.winner th[scope=row], td.chosen { font-weight: 600; }
td small { display: block; color: var(--soft); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: .8rem 1rem;
  background: var(--box); font-size: .85rem; line-height: 1.45;
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.pictures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); }
figure { margin: 0; }
figure.wide { grid-column: 1 / -1; max-width: 44rem; }
figure img { display: block; width: 100%; height: auto; padding: .4rem; background: #ffffff;
  border: 1px solid var(--line); }
figcaption { margin-top: .3rem; }
footer { margin-top: 2.5rem; padding-top: .6rem; border-top: 1px solid var(--line); }
@media (max-width: 40rem) { th, td { padding: .3rem .45rem; } table { font-size: .85rem; }
  td.wrap { min-width: 8rem; } }
@media print { body { max-width: none; } section { break-inside: avoid; } }
"""


def html_page(model: Model, x: Any = None, *, path: str | None = None, labels: Any = None) -> str:
    """All that is known of a model as one HTML page, which needs nothing beside it and opens offline.

    The page has no script and no link; whatever comes from the model file is escaped. The same model, data and
    packages give the same text. Full numbers stand in the ``value`` of ``<data>``; facts are named by ``data-fact`` as
    in `summary_dict`. Pictures need matplotlib; without it the page says how to get them.

    model: the mixture and how it came about. x: (N, D) rows in data units, to be drawn and scored, or None. path: of
    the model file, for the commands on the page. labels: (N) known classes of the rows of x, to compare with, or None.

    Returns the text of the page. Raises `DataError` E210 for another number of columns than the mixture has.

    >>> mixture = jaxgmm.make_params([1.0], [[0.0, 0.0]], [[4.0, 1.0]], "diag")
    >>> page = html_page(Model.from_params(mixture))
    >>> page.splitlines()[0], "<h1>Gaussian mixture of 1 component, diag covariance, 2 columns</h1>" in page
    ('<!DOCTYPE html>', True)
    """
    rows = None if x is None else check_data(x, n_features=model.n_features)
    state, words = _facts.verdict(model)
    title = escape(_facts.heading(model))
    sections = [
        _section("Summary", _summary(model)),
        _section("Components", _components(model, rows)),
        _section("These data", "" if rows is None else _data(model, rows, labels)),
        _section("Criteria", _criteria(model)),
        _section("Pictures", _pictures_of(model, rows)),
        _section("Starts", _starts(model)),
        _section("Diagnoses", _diagnoses(model)),
        _section("How to do it again", _again(model, path or "model.npz")),
    ]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            # Even what slipped through the escaping could neither run nor call out.
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{title}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            f"<header><h1>{title}</h1>",
            f'<p class="verdict {state}">{escape(words)}</p></header>',
            "<main>",
            *filter(None, sections),
            "</main>",
            f'<footer class="soft">Made by jaxgmm of the model <code data-fact="digest">{model.digest}</code>. '
            "The digest names the parameters to the last bit: two models with the same one are the same.</footer>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _section(title: str, content: str) -> str:
    name = title.lower().replace(" ", "-")
    return f'<section id="{name}">\n<h2>{title}</h2>\n{content}\n</section>' if content else ""


def _number(value: Any, text: Callable[[float], str] = _facts.decimal) -> str:
    """A number as people read it, with all its digits in the ``value``; a dash for None."""
    if value is None:
        return "–"
    shown = str(value) if isinstance(value, int) else text(float(value))
    return f'<data value="{value!r}">{escape(shown)}</data>'


def _cell(content: str, kind: str = "", fact: str = "") -> str:
    marks = (f' class="{kind}"' if kind else "") + (f' data-fact="{escape(fact)}"' if fact else "")
    return f"<td{marks}>{content}</td>"


def _row(head: str, cells: Iterable[str], kind: str = "") -> str:
    marks = f' class="{kind}"' if kind else ""
    return f'<tr{marks}><th scope="row">{head}</th>{"".join(cells)}</tr>'


def _table(head: Iterable[str], rows: Iterable[str], kind: str = "", caption: str = "") -> str:
    """A table that scrolls by itself where the window is narrow; cells are HTML."""
    titles = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    top = f"<thead><tr>{titles}</tr></thead>" if titles else ""
    marks = f' class="{kind}"' if kind else ""
    said = f"<caption>{caption}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0"><table{marks}>{said}{top}<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def _note(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>' if text else ""


def _value(value: Any) -> str:
    return escape(value) if isinstance(value, str) else _number(value)


def _summary(model: Model) -> str:
    facts = _facts.summary(model)
    return _table([], [_row(name, [_cell(_value(value), fact=fact)]) for fact, name, value in facts], "facts")


def _components(model: Model, rows: np.ndarray | None) -> str:
    found = _facts.components(model)
    counts = None if rows is None else np.bincount(np.asarray(model.predict(rows)), minlength=model.n_components)
    head = ["component", "weight"] + ["size"] * (found.sizes is not None) + ["rows here"] * (counts is not None)
    lines = []
    for k in found.shown:
        cells = [_cell(_number(found.weights[k].item(), lambda v: f"{v:.4f}"), fact="weight")]
        if found.sizes is not None:
            cells.append(_cell(_number(found.sizes[k].item(), _size), fact="size"))
        if counts is not None:
            cells.append(_cell(_number(counts[k].item()), fact="rows"))
        for mean, deviation in zip(found.means[k].tolist(), found.deviations[k].tolist(), strict=True):
            cells.append(_cell(f"{_number(mean, _short)} <small>± {_number(deviation, _short)}</small>"))
        lines.append(_row(str(k), cells))
    said = "Mean and, after ±, standard deviation of each column, in the units of the data."
    if counts is not None:
        said += " Rows here: those of the given data that most probably belong to the component."
    return _table([*head, *map(escape, found.columns)], lines) + _note(found.rest) + _note(said)


def _data(model: Model, rows: np.ndarray, labels: Any) -> str:
    """What the mixture says of the given rows, and how it agrees with their known classes."""
    uncertain = float(np.mean(np.asarray(model.uncertainty(rows)) > _facts.UNCERTAIN))
    stored = _facts.known(model).get("fingerprint")
    same = "" if stored is None else ("yes" if fingerprint(rows) == stored else "no")
    facts = [
        ("data_rows", "rows", _number(len(rows))),
        ("data_same", "the rows that were fitted", same),
        ("data_score", "mean log-likelihood per row", _number(model.score(rows))),
        (
            "data_uncertain",
            f"uncertain rows: 1 − largest responsibility above {_facts.UNCERTAIN:g}",
            _number(uncertain, _percent),
        ),
    ]
    classes = ""
    if labels is not None:
        found = np.asarray(model.predict(rows))
        accuracy = compare.accuracy_up_to_relabelling(labels, found)
        facts.append(
            ("data_accuracy", "agreement with the known classes, up to relabelling", _number(accuracy, _percent))
        )
        facts.append(("data_ari", "adjusted Rand index", _number(compare.adjusted_rand_index(labels, found))))
        classes = _classes(np.asarray(labels), found)
    return (
        _table([], [_row(name, [_cell(value, fact=fact)]) for fact, name, value in facts if value], "facts") + classes
    )


def _classes(labels: np.ndarray, found: np.ndarray) -> str:
    names, components = np.unique(labels), np.unique(found)
    if max(len(names), len(components)) > _MAX_CLASSES:
        return ""
    lines = [
        _row(
            escape(clip(str(name), 40)),
            [_cell(_number(int(np.sum((labels == name) & (found == k))))) for k in components],
        )
        for name in names
    ]
    return _table(["class", *(f"component {k}" for k in components)], lines, caption="Rows by class and component")


def _criteria(model: Model) -> str:
    meta = _facts.known(model)
    ways = {"log_likelihood": "larger", "n_parameters": "–"}
    own = [
        _row(_facts.label(name), [_cell(_number(meta[name]), fact=name), _cell(ways.get(name, "smaller"), "text")])
        for name in _facts.NUMBERS
        if name in meta
    ]
    found = _facts.candidates(model)
    parts = [_table(["of this model", "value", "better is"], own, "worded")] if own else []
    if found is None:
        return "".join(parts) or _note("Nothing is known of the likelihood of the fitted rows.")
    way = "larger" if found.larger_is_better else "smaller"
    order = [found.criterion, *(name for name in found.numbers if name != found.criterion)]
    names = ["df" if name == "n_parameters" else _facts.label(name) for name in order]
    head = ["covariance", "K", *names, "iterations", "reached", "stop"]
    lines = []
    for i, row in enumerate(found.rows):
        best, share = i == found.best, row.get("best_share")
        cells = [
            _cell(_number(row["n_components"]), fact="n_components"),
            *(_cell(_any(row.get(n)), "chosen" if n == found.criterion else "", n) for n in order),
            _cell(_any(row.get("n_iter")), fact="n_iter"),
            _cell(_number(share, _percent) if _is_share(share) else "–", fact="best_share"),
            _cell(escape(row["status"].lower()), "text"),
        ]
        lines.append(_row(_starred(row["covariance_type"], best), cells, "winner" if best else ""))
    said = f"Chosen by {_facts.label(found.criterion)}, of which {way} is better; ★ marks the best. {found.edge}"
    key = "df: free parameters. Reached: the share of the starts that ended at the best optimum of their row."
    table = _table(map(escape, head), lines, "worded")
    return "".join(
        [*parts, "<h3>Candidates</h3>", f"<p>{escape(said.strip())}</p>", table, _note(found.rest), _note(key)]
    )


def _starred(name: Any, best: bool) -> str:
    return "★ " * best + escape(str(name))


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _any(value: Any) -> str:
    return _value(value) if not isinstance(value, bool) else str(value)


def _starts(model: Model) -> str:
    shown, rest = _facts.starts(model)
    if not shown:
        return _note("Nothing is known of the starts.")
    lines = [
        _row(
            _starred(s.number, s.best),
            [
                _cell("–" if s.n_iter is None else _number(s.n_iter), fact="n_iter"),
                _cell(_number(s.log_likelihood), fact="log_likelihood"),
                _cell(escape(_facts.in_words(s.stop)), "text wrap"),
            ],
            "winner" if s.best else "",
        )
        for s in shown
    ]
    stops = dict.fromkeys(s.stop for s in shown if s.stop in Status.__members__ and s.stop != Status.CONVERGED.name)
    advice = [f"<li>{escape(cause(Status[stop]))}: {escape(cure(Status[stop]))}</li>" for stop in stops]
    table = _table(["start", "iterations", "log-likelihood", "how it ended"], lines, "worded")
    said = escape(_facts.starts_in_words(_facts.known(model)))
    return f"<p>{said}</p>{table}{_note(rest)}" + (f"<p>What helps:</p><ul>{''.join(advice)}</ul>" if advice else "")


def _diagnoses(model: Model) -> str:
    found = _facts.known(model).get("diagnoses")
    if found is None:
        return ""
    items = "".join(f"<li>{escape(diagnosis['text'])}</li>" for diagnosis in found)
    return f"<ul>{items}</ul>" if found else "<p>None: no component lost its rows or rests on the floor.</p>"


def _again(model: Model, path: str) -> str:
    found = again(model)
    lines = [_row(escape(name), [_cell(escape(value))]) for name, value in _facts.origin(model)]
    parts = [_table([], lines, "facts origin")]
    blocks = [("The fit again, in the shell", found.shell), ("The fit again, in Python", found.python)]
    parts += [f"<h3>{title}</h3>{_code(text)}" for title, text in blocks if text]
    parts += map(_note, found.remarks)
    blocks = [("The model in the shell", use_in_shell(path)), ("The model in Python", use_in_python(path))]
    return "".join([*parts, *(f"<h3>{title}</h3>{_code(text)}" for title, text in blocks)])


def _code(text: str) -> str:
    return f"<pre><code>{escape(text)}</code></pre>"


def _pictures_of(model: Model, rows: np.ndarray | None) -> str:
    found = pictures(model, rows)
    if found is None:
        return _note("Pictures need matplotlib, which was not installed here: pip install 'jaxgmm[plot]'.")
    figures = []
    for picture in found:
        image = (
            f'<img src="data:{picture.kind};base64,{picture.base64}" alt="{escape(picture.alt)}" '
            f'width="{picture.width}" height="{picture.height}">'
            if picture.base64
            else ""
        )
        kind = ' class="wide"' if picture.wide else ""
        figures.append(f"<figure{kind}>{image}<figcaption>{escape(picture.caption)}</figcaption></figure>")
    return f'<div class="pictures">{"".join(figures)}</div>'
