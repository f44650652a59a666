"""Make the golden files again."""

from tests.golden import plan

plan.FOLDER.mkdir(exist_ok=True)
for preset in plan.PRESETS:
    (plan.FOLDER / f"{preset}.txt").write_text("\n".join(plan.lines(preset)) + "\n", encoding="utf-8")
