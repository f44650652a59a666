localrules:
    table,
    figure,
    assemble_report,


def figure_inputs(wildcards):
    """What a figure is drawn from: probes (2, 3) or runs (4 to 7)."""
    number = int(wildcards.number)
    if number == 2:
        path = f"{RESULTS}/probes/fitness/block{{layer}}-population{{population}}.csv"
        return expand(path, layer=range(len(BLOCKS)), population=fitness_populations())
    if number == 3:
        return [f"{RESULTS}/probes/diversity.csv"]
    return summaries(scaling_runs() if number == 4 else trajectory_runs())


def fitness_populations():
    base = RECIPES[CONFIG.datasets[CONFIG.figure2.dataset].recipe].population
    return sorted({*CONFIG.figure2.populations, base})


def figure_settings(wildcards):
    """The arguments of the figure's function in repsearch.figures, beside its inputs."""
    number = int(wildcards.number)
    if number == 2:
        base = RECIPES[CONFIG.datasets[CONFIG.figure2.dataset].recipe].population
        chosen = CONFIG.figure2
        return as_json(
            {
                "populations": chosen.populations,
                "generations": chosen.generations,
                "base_population": base,
                "label": CONFIG.datasets[chosen.dataset].label,
            }
        )
    if number == 3:
        return as_json({"label": CONFIG.datasets[CONFIG.figure3.dataset].label})
    if number == 4:
        return as_json({"base": CONFIG.datasets[CONFIG.figure4.dataset].recipe})
    return as_json({})


rule table:
    input:
        lambda wildcards: summaries(table_runs(wildcards.number)),
    output:
        csv=report(f"{RESULTS}/tables/table{{number}}.csv", category="Tables"),
        depths=f"{RESULTS}/tables/table{{number}}_all_depths.csv",
        text=f"{RESULTS}/tables/table{{number}}.md",
        png=report(f"{RESULTS}/tables/table{{number}}.png", category="Tables"),
    log:
        f"{RESULTS}/logs/tables/table{{number}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/tables/table{{number}}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_version("tables"),
    shell:
        "{PYTHON:q} -m repsearch table {wildcards.number} {input:q} --out {output.csv:q} --log {log:q}"


rule figure:
    input:
        figure_inputs,
    output:
        csv=report(f"{RESULTS}/figures/figure{{number}}.csv", category="Figures"),
        caption=f"{RESULTS}/figures/figure{{number}}.md",
        png=report(f"{RESULTS}/figures/figure{{number}}.png", category="Figures"),
    log:
        f"{RESULTS}/logs/figures/figure{{number}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures/figure{{number}}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=figure_settings,
        code=code_version("figures"),
    shell:
        "{PYTHON:q} -m repsearch figure {wildcards.number} {input:q} --settings {params.settings:q}"
        " --out {output.csv:q} --log {log:q}"


rule assemble_report:
    input:
        every_result(),
    output:
        f"{RESULTS}/report.md",
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_version("report"),
    shell:
        "{PYTHON:q} -m repsearch report {RESULTS:q} --out {output:q} --log {log:q}"
