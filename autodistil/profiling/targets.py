"""Which device, runtime and table a device budget means: this machine, or a table that is given along."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from autodistil.axes import short
from autodistil.errors import BudgetError, ConfigError, suggest
from autodistil.profiling.budgets import DeviceBudget
from autodistil.profiling.costing import at_setting
from autodistil.profiling.fingerprint import DeviceFingerprint
from autodistil.profiling.setting import DEVICES, RuntimeSetting
from autodistil.profiling.table import LatencyTable, check_device, read_table

Here = Callable[[str], DeviceFingerprint]
"""`cpu` or `cuda` -> the fingerprint of that device of this machine."""


@dataclass(frozen=True)
class Target:
    """A device budget with all that it leaves open filled in."""

    budget: DeviceBudget
    setting: RuntimeSetting
    """`setting.device` is `cpu` or `cuda`."""
    table: LatencyTable | None
    """The one that was given; None: this machine is profiled."""
    here: bool
    """This machine is the device: finalists can be measured."""

    @property
    def key(self) -> str:
        """Name of what is measured for it in the run folder; budgets of one setting share it."""
        s = self.setting
        return f"{s.device}-{s.runtime}-threads{s.threads}-batch{s.batch}-seq{s.seq_len}"


def named_tables(options: Iterable[str]) -> dict[str, Path]:
    """Names and paths as typed, `laptop=table.json`.

    Raises:
        ConfigError: one is no such pair, or a name is taken.
    """
    tables: dict[str, Path] = {}
    for option in options:
        name, equals, path = (part.strip() for part in option.partition("="))
        if not (name and equals and path) or "," in name or name in DEVICES or name in tables:
            raise ConfigError(
                f"latency table: got {short(option)}; allowed: NAME=PATH with a name of its own, such as "
                "laptop=table.json; correct it"
            )
        tables[name] = Path(path).expanduser()
    return tables


def resolve_target(
    budget: DeviceBudget, tables: Mapping[str, Path], seq_len: int, here: Here, force: bool = False
) -> Target:
    """Fill in what a budget leaves open.

    Args:
        budget: the budget.
        tables: names of tables, see `named_tables`.
        seq_len: the run's length.
        here: the devices of this machine.
        force: also take a table of another device.

    Raises:
        BudgetError: it names no device and no table, or a setting that the table has not.
        ProfileError: the table cannot be read, or is of another device and not forced.
    """
    if budget.measured_here:
        return Target(budget, budget.setting(seq_len), None, here=True)
    table = read_table(_path(budget, tables))
    device = here(table.device.kind)
    check_device(table, device, force)
    return Target(budget, _setting(budget, table, seq_len), table, here=table.device.id == device.id)


def _path(budget: DeviceBudget, tables: Mapping[str, Path]) -> Path:
    path = tables.get(budget.device, Path(budget.device).expanduser())
    if budget.device not in tables and not path.is_file():
        names = (*DEVICES, *tables)
        raise BudgetError(
            f"budget {short(budget.text)}: got the device {budget.device!r}{suggest(budget.device, names)}; "
            f"allowed: {', '.join(names)}, or the path of a latency table; "
            f"name one with --latency-table {budget.device}=table.json"
        )
    return path


def _setting(budget: DeviceBudget, table: LatencyTable, seq_len: int) -> RuntimeSetting:
    """The table's runtime and threads; its only length where it has neither the budget's nor the run's."""
    for name, asked, got in (("runtime", budget.runtime, table.runtime), ("threads", budget.threads, table.threads)):
        if asked not in (None, got):
            raise BudgetError(
                f"budget {short(budget.text)}: got {name}={asked}; allowed: {got}, which its latency table was "
                f"measured with; leave {name} out, or give another table"
            )
    lengths = sorted({entry.seq_len for entry in table.entries})
    length = budget.seq_len or (lengths[0] if len(lengths) == 1 else seq_len)
    setting = RuntimeSetting(table.device.kind, table.runtime, table.threads, budget.batch, length)
    if not at_setting(table.entries, setting):
        there = sorted({(entry.batch, entry.seq_len) for entry in table.entries})
        pairs = ", ".join(f"batch={batch},seq={length}" for batch, length in there[:8])
        raise BudgetError(
            f"budget {short(budget.text)}: got batch={budget.batch},seq={length}; allowed: {pairs or 'none'}, which "
            "its latency table has; correct it, or profile with more"
        )
    return setting
