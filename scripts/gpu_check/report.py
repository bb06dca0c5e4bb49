"""What the steps found, as a table that is written again after each of them, so that a run that is cut off leaves what
it has."""
import dataclasses
import os


@dataclasses.dataclass
class Result:
    state: str  # "passed", "FAILED", "skipped"
    seconds: float
    figures: list  # (what was measured, what it is held against), as text
    why: str = ""  # it failed or was skipped


class Report:
    def __init__(self, folder):
        self.path = os.path.join(folder, "table.md")
        self.results = []

    def add(self, name, result):
        self.results.append((name, result))
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(self.table())

    def failed(self):
        return any(result.state == "FAILED" for _, result in self.results)

    def table(self):
        rows = [("step", "result", "seconds", "figure", "limit")]
        for name, result in self.results:
            head = (name, result.state, f"{result.seconds:.0f}")
            figures = ([(result.why, "")] if result.why else []) + list(result.figures)
            for figure, limit in figures or [("", "")]:
                rows.append((*head, figure, limit))
                head = ("", "", "")
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
        lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
        return "\n".join(lines) + "\n"
