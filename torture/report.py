"""What was seen, for a person: a line for each scenario, and what went wrong below it."""

from __future__ import annotations

from collections.abc import Sequence

from torture.scenario import Verdict


def lines_of(verdict: Verdict) -> list[str]:
    figures = verdict.figures
    if verdict.skipped:
        return [f"skipped  {verdict.scenario}: {verdict.skipped}"]
    lines = [f"{'FAILED' if verdict.failures else 'held':8} {verdict.scenario} ({verdict.took_s:.0f} s)"]
    if "villain" in figures:
        lines.append("    villain: " + ", ".join(f"{many:,} {what}" for what, many in figures["villain"].items()))
    for phase, seen in figures.get("honest", {}).items():
        lines.append(
            f"    {phase:7} {seen['produces']} produces, median {seen['median_ms']} ms, longest {seen['longest_ms']} "
            f"ms; new clients {seen['stranger_ms']} ms; consumer behind {seen['behind_ms']} ms"
        )
    for name, node in figures.get("nodes", {}).items():
        calm, most, after = node["mib"]
        files = "/".join(str(count) for count in node["files"])
        lines.append(
            f"    {name}: {calm}/{most}/{after} MiB and {files} descriptors in the calm, at most, afterwards; "
            f"{figures['log_lines'][name]} lines"
        )
    if "stop_s" in figures:
        lines.append(f"    served again after {figures['served_again_s']} s; SIGTERM to exit {figures['stop_s']} s")
    return lines + [f"    !! {text}" for text in verdict.failures]


def summary(verdicts: Sequence[Verdict]) -> str:
    failed = [verdict.scenario for verdict in verdicts if verdict.failures]
    skipped = [verdict.scenario for verdict in verdicts if verdict.skipped]
    parts = [f"{len(verdicts) - len(failed) - len(skipped)} of {len(verdicts)} scenarios held"]
    if failed:
        parts.append(f"failed: {', '.join(failed)}")
    if skipped:
        parts.append(f"skipped: {', '.join(skipped)}")
    return "; ".join(parts) + f"; {sum(verdict.took_s for verdict in verdicts):.0f} s"
