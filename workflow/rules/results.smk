localrules:
    table,
    figure,
    readings,
    reproduction,
    publish,
    assemble_report,


rule table:
    input:
        of_wildcards(table_inputs),
    output:
        csv=report(
            f"{RESULTS}/tables/table{{number}}.csv",
            category="Tables",
            caption="../report/table.rst",
            labels={"table": "Table {number}", "file": "data"},
        ),
        tried=f"{RESULTS}/tables/table{{number}}_tried.csv",
        text=f"{RESULTS}/tables/table{{number}}.md",
        png=report(
            f"{RESULTS}/tables/table{{number}}.png",
            category="Tables",
            caption="../report/table.rst",
            labels={"table": "Table {number}", "file": "picture"},
        ),
        further=further(f"{RESULTS}/tables/table{{number}}", TABLE_FORMATS),
    log:
        f"{RESULTS}/logs/tables/table{{number}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/tables/table{{number}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=settings(PLAN.table),
        formats=format_options(TABLE_FORMATS),
        code=code_version("results.tables"),
    message:
        "Table {wildcards.number}"
    shell:
        "python -m repsearch table {input:q} --settings {params.settings:q} --out {output.csv:q} {params.formats} --log {log:q}"


if table3_inputs():

    rule table3:
        input:
            table3_inputs(),
        output:
            csv=report(
                f"{RESULTS}/tables/table3.csv",
                category="Tables",
                caption="../report/table3.rst",
                labels={"table": "Table 3", "file": "data"},
            ),
            text=f"{RESULTS}/tables/table3.md",
            png=report(
                f"{RESULTS}/tables/table3.png",
                category="Tables",
                caption="../report/table3.rst",
                labels={"table": "Table 3", "file": "picture"},
            ),
            further=further(f"{RESULTS}/tables/table3", TABLE_FORMATS),
        log:
            f"{RESULTS}/logs/tables/table3.log",
        benchmark:
            f"{RESULTS}/benchmarks/tables/table3.tsv"
        localrule: True  # above, Snakemake would name it where there is none
        conda:
            "../../environment.yml"
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            formats=format_options(TABLE_FORMATS),
            code=code_version("results.table3"),
        message:
            "Table 3"
        shell:
            "python -m repsearch table3 {input:q} --out {output.csv:q} {params.formats} --log {log:q}"


rule figure:
    input:
        drawn=of_wildcards(figure_inputs),
        manifests=of_wildcards(probe_manifests),
    output:
        csv=report(
            f"{RESULTS}/figures/{{figure}}.csv",
            category="Figures",
            caption="../report/figure.rst",
            labels={"figure": "{figure}", "file": "data"},
        ),
        caption=f"{RESULTS}/figures/{{figure}}.md",
        png=report(
            f"{RESULTS}/figures/{{figure}}.png",
            category="Figures",
            caption="../report/figure.rst",
            labels={"figure": "{figure}", "file": "picture"},
        ),
        further=further(f"{RESULTS}/figures/{{figure}}", FIGURE_FORMATS),
    log:
        f"{RESULTS}/logs/figures/{{figure}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/figures/{{figure}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=settings(PLAN.figure),
        formats=format_options(FIGURE_FORMATS),
        code=of_wildcards(figure_code),
    message:
        "Draw {wildcards.figure}"
    shell:
        "python -m repsearch figure {input.drawn:q} --settings {params.settings:q}"
        " --out {output.csv:q} {params.formats} --log {log:q}"


rule readings:
    input:
        runs=readings_runs(),
        targets=readings_targets(),
    output:
        csv=report(
            f"{RESULTS}/tables/readings.csv",
            category="Tables",
            caption="../report/readings.rst",
            labels={"table": "Readings", "file": "data"},
        ),
        text=f"{RESULTS}/tables/readings.md",
        png=report(
            f"{RESULTS}/tables/readings.png",
            category="Tables",
            caption="../report/readings.rst",
            labels={"table": "Readings", "file": "picture"},
        ),
        further=further(f"{RESULTS}/tables/readings", TABLE_FORMATS),
    log:
        f"{RESULTS}/logs/tables/readings.log",
    benchmark:
        f"{RESULTS}/benchmarks/tables/readings.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=to_json(PLAN.readings()),
        formats=format_options(TABLE_FORMATS),
        code=code_version("results.readings"),
    message:
        "The readings study"
    shell:
        "python -m repsearch readings {input.runs:q} {input.targets:q} --settings {params.settings:q}"
        " --out {output.csv:q} {params.formats} --log {log:q}"


rule reproduction:
    input:
        all_csvs(),
    output:
        report(
            f"{RESULTS}/reproduction.md",
            category="Claims",
            caption="../report/claims.rst",
            labels={"page": "The paper's claims"},
        ),
    log:
        f"{RESULTS}/logs/reproduction.log",
    benchmark:
        f"{RESULTS}/benchmarks/reproduction.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=REPRODUCTION,
        results=subpath(output[0], parent=True),
        code=of_wildcards(reproduction_code),
    message:
        "The paper's claims"
    shell:
        "python -m repsearch reproduction {params.results:q} --settings {params.settings:q} --out {output:q} --log {log:q}"


rule publish:
    # Keeps the results in the repository: docs/reproduction/SCALE and, made from all scales there, docs/reproduction.md.
    input:
        all_csvs(),
        page=f"{RESULTS}/reproduction.md",
    log:
        f"{RESULTS}/logs/publish.log",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=REPRODUCTION,
        results=subpath(input.page, parent=True),
        out="docs/reproduction",
    message:
        "Publish"
    shell:
        "python -m repsearch publish {params.results:q} --settings {params.settings:q} --out {params.out:q} --log {log:q}"


rule assemble_report:
    input:
        all_results(),
    output:
        report(
            f"{RESULTS}/report.html",
            category="Report",
            caption="../report/page.rst",
            labels={"page": "Everything on one page"},
        ),
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=REPRODUCTION,
        code=report_code(),
    message:
        "Report"
    shell:
        "python -m repsearch report {input:q} --settings {params.settings:q} --out {output:q} --log {log:q}"
