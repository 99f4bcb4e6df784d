"""A command as one of several processes: who joins, who speaks, who writes."""

from __future__ import annotations

from jaxgmm._status import UsageError
from jaxgmm.cli.output import Console
from jaxgmm.cli.parser import Settings
from jaxgmm.scale import processes


def join(settings: Settings, console: Console) -> None:
    """Join the other processes where that is asked for; all but the first say nothing but warnings and errors."""
    if not (settings["distributed"] or settings["coordinator"]):
        return
    if settings["seed"] is None and settings["init"] != "orthant" and not settings.get("init_from"):
        raise UsageError("E106", "several processes must draw the same random numbers", "give --seed")
    members = processes.join(settings["coordinator"], settings["num_processes"], settings["process_id"])
    console.note(f"process {members.index} of {members.count}")
    if not members.leads:
        console.quiet, console.json = True, False


def writes() -> bool:
    """Whether this process is the one that writes files."""
    return processes.group().leads
