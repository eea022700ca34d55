"""A stopwatch of our own for searches under budgets of a device."""

from autodistil.profiling.fingerprint import this_device
from autodistil.profiling.latency_table import LatencyEntry, LatencyTable


class FakeStopwatch:
    """Milliseconds and MB that are known; students that were trained are `slower` than their stand-ins."""

    def __init__(self, slower=1.0, profiled=False):
        self.slower, self.profiled, self.calls = slower, profiled, []

    def __call__(self, sources, setting, memory):
        finalists = self.profiled or bool(self.calls)
        self.calls.append([source.name for source in sources])
        for source in sources:
            assert source.load().config.hidden_size == source.config.hidden_size
        factor = self.slower if finalists else 1.0
        entries = tuple(entry_of(source.config, setting, factor, memory) for source in sources)
        return table_of(this_device(), setting, entries)


def entry_of(student, setting, factor=1.0, memory=True):
    ms = factor * (0.2 + 0.1 * student.num_layers + 1e-5 * student.encoder_weights)
    peak = 30 + 1e-5 * student.encoder_weights if memory else None
    return LatencyEntry(
        student,
        setting.batch,
        setting.seq_len,
        ms,
        0.99 * ms,
        1.01 * ms,
        30,
        False,
        peak,
        1e-6 * student.encoder_weights,
    )


def table_of(device, setting, entries):
    return LatencyTable(device, setting.runtime, setting.threads, "bert", 30522, {}, 1.0, entries)
