"""Run every test marked `fault`, slow ones included, and print the outcomes of the faults and inputs (make faults)."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        tally = Path(folder) / "tally.jsonl"
        tally.touch()
        command = [sys.executable, "-m", "pytest", "-v", "-s", "-m", "fault", *sys.argv[1:]]
        status = subprocess.run(command, cwd=ROOT, env={**os.environ, "REPSEARCH_TALLY": str(tally)}).returncode
        records = [json.loads(line) for line in tally.read_text(encoding="utf-8").splitlines()]
    injected: Counter[str] = Counter(record["fault"] for record in records if "fault" in record)
    survived: Counter[str] = Counter(record["fault"] for record in records if record.get("survived"))
    inputs = {
        name: sum(record.get(name, 0) for record in records) for name in ("tried", "accepted", "refused", "crashed")
    }
    print("\n| fault | injected | survived | lost |\n|---|---|---|---|")
    for name, count in sorted(injected.items()):
        print(f"| {name} | {count} | {survived[name]} | {count - survived[name]} |")
    lost = injected.total() - survived.total()
    print(f"\nfaults: {injected.total()} injected, {survived.total()} survived, {lost} lost")
    print("inputs: " + ", ".join(f"{count} {name}" for name, count in inputs.items()))
    return status or int(lost > 0 or inputs["crashed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
