"""One run of the shell: words to a command, the command to an exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, NoReturn

from jaxgmm._catalogue import CATALOGUE
from jaxgmm._interrupt import Interrupted
from jaxgmm._signals import EXIT_BASE, answered_by
from jaxgmm._status import JaxgmmError, UsageError
from jaxgmm.cli import cache, config, output, parser, rules
from jaxgmm.cli.commands import LAUNCH, RUN
from jaxgmm.cli.output import Console
from jaxgmm.cli.parser import HelpRequested, Settings
from jaxgmm.cli.spec import Command

OK, FAILED, USAGE, INTERRUPTED, PIPE_CLOSED, TERMINATED = 0, 1, 2, 130, 141, 143


def run(words: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing but a bug shows a traceback."""
    return _run(list(words), Console(json="--json" in words))


def run_process(early: Sequence[int]) -> int:
    """`run` for a process of its own, which a signal ends at once wherever nobody heeds it (`_interrupt`).

    Not by an exception: where one falls into a callback, as XLA has one for the garbage collector, it is lost, or the
    process is. early: signals that came before.
    """
    words = sys.argv[1:]
    console = Console(json="--json" in words)

    def end(number: int, _: Any = None) -> NoReturn:
        try:
            _interrupted(console, EXIT_BASE + number)
        finally:
            # Files are complete or have no name yet (`_files`).
            os._exit(EXIT_BASE + number)

    _occupy_closed_streams()
    with answered_by(end):
        for number in early:
            end(number)
        code = _run(words, console)
    if code and _has_peers():
        # A regular exit would wait for the other processes.
        os._exit(code)
    return code


def _has_peers() -> bool:
    processes = sys.modules.get("jaxgmm.scale.processes")
    return processes is not None and bool(processes.group().count > 1)


def _occupy_closed_streams() -> None:
    """Open nothing in the place of standard streams that are closed.

    A file would take it, a model that is written as well, and what compiled code says to the stream end up in there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # takes the lowest number that is free


def _run(words: list[str], console: Console) -> int:
    try:
        return _told(words, console)
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does.
        output.abandon(sys.stdout)
        return PIPE_CLOSED


def _told(words: list[str], console: Console) -> int:
    """The exit code of a command line; what went wrong is told."""
    try:
        return _obey(words, console)
    except Interrupted as error:
        return console.interrupted(error)
    except JaxgmmError as error:
        usual = CATALOGUE[error.code].group.exit_code
        return console.error(error.code, error.found, error.help, getattr(error, "exit_code", usual))
    except KeyboardInterrupt:
        return _interrupted(console, INTERRUPTED)
    except BrokenPipeError:
        raise
    except Exception as error:
        return _unexpected(error, console)


def _interrupted(console: Console, exit_code: int) -> int:
    return console.error("E903", "interrupted", "run the same command again", exit_code)


def _obey(words: list[str], console: Console) -> int:
    try:
        return _done(words, console)
    except HelpRequested as text:
        output.tell(str(text), end="")
        return OK


def _done(words: list[str], console: Console) -> int:
    if not words:
        output.say(parser.overview(), end="")
        return USAGE
    if words[0] in ("-h", "--help", "help"):
        raise HelpRequested(parser.overview())
    if words[0] in ("-V", "--version"):
        from importlib.metadata import version

        raise HelpRequested(f"jaxgmm {version('jaxgmm')}\n")
    if words[0] == LAUNCH.name:
        return _launched(words[1:])
    command, given = _given(words)
    console.json, console.quiet = given.get("json", False), given.get("quiet", False)
    console.strict = given.get("strict", False)
    settings = rules.settle(command, given) | {"words": words}
    with warnings.catch_warnings(), _shown_notes(console):
        _show_warnings(console)
        complaint = cache.keep_programs()
        if complaint:
            console.warn("W101", complaint, "name a directory that you can write, or off")
        return _function(command)(settings, console) or console.close()


def _launched(words: list[str]) -> int:
    """``launch -n N -- COMMAND ...``: what stands behind the two hyphens is no business of this one's parser."""
    from jaxgmm.cli.launch import launch

    cut = words.index("--") if "--" in words else len(words)
    given = parser.parse(LAUNCH, words[:cut])
    if given.get("n_processes") is None:
        raise UsageError("E106", "how many processes?", f"for example: {LAUNCH.examples[0]}")
    return launch(given["n_processes"], words[cut + 1 :])


def _given(words: list[str]) -> tuple[Command, Settings]:
    command, rest = parser.split_command(words)
    if command is RUN:
        return _given_in_file(rest)
    if command.name:
        return command, parser.parse(command, rest)
    return parser.parse_bare(rest)


def _given_in_file(words: list[str]) -> tuple[Command, Settings]:
    place = next((i for i, word in enumerate(words) if word.endswith(".toml")), 0)
    if not words or words[place].startswith("-"):
        parser.parse(RUN, [word for word in words if word in ("-h", "--help")])
        raise UsageError(
            "E106",
            "no configuration file named first",
            f"for example: {RUN.examples[0]}",
        )
    command, in_file = config.load(words[place])
    flags = parser.parse(command, words[:place] + words[place + 1 :])
    return command, config.merge(in_file, flags)


def _function(command: Command) -> Callable[[Settings, Console], int | None]:
    """What runs the command; it returns an exit code where that is not 0."""
    module, _, name = command.home.partition(":")
    function: Callable[[Settings, Console], int | None] = getattr(import_module(f"jaxgmm.cli.{module}"), name)
    return function


def _show_warnings(console: Console) -> None:
    """Warnings of libraries as one line each, not with a line of somebody's source."""

    def show(message: Warning | str, *rest: Any, **more: Any) -> None:
        console.warn("W901", str(message), "this is a warning of a library that jaxgmm uses; results are not affected")

    warnings.showwarning = show
    # A program that cannot be kept, or read again, is compiled: nothing is lost but time.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")


class _Notes(logging.Handler):
    """What the library says aloud, as the shell says it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """A note, or a warning where the record has a code."""
        code = getattr(record, "code", "")
        if code:
            self._console.warn(code, record.getMessage(), getattr(record, "cure", ""))
        else:
            self._console.note(record.getMessage())


@contextlib.contextmanager
def _shown_notes(console: Console) -> Iterator[None]:
    logger, handler = logging.getLogger("jaxgmm"), _Notes(console)
    before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def _unexpected(error: Exception, console: Console) -> int:
    # The device's own words; on a CPU they come under another heading.
    exhausted = any(words in str(error) for words in ("RESOURCE_EXHAUSTED", "Out of memory"))
    if isinstance(error, MemoryError) or exhausted:
        cure = "use fewer restarts, --dtype float32, or a part of the rows"
        return console.error("E902", "out of memory", cure, FAILED)
    missing = _missing_device()
    if missing is not None:
        return console.error(missing.code, missing.found, missing.help, FAILED)
    output.say(traceback.format_exc(), end="")
    cure = "please report it with the lines above in the project's issue tracker"
    return console.error("E901", f"a bug: {type(error).__name__}: {error}", cure, FAILED)


def _missing_device() -> JaxgmmError | None:
    """Why there is nothing to compute on, which every command that computes meets in its own way."""
    if "jax" not in sys.modules:
        return None
    from jaxgmm._provenance import device

    try:
        device()
    except JaxgmmError as error:
        return error
    return None
