from snakemake.utils import min_version

min_version("9.8")


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/search.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/results.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",
        f"{RESULTS}/reproduction.md",
        all_results(),
        of_wildcards(all_shards),  # how many there are may have to be read from the user's files
        all_runs(),
    message:
        "All results are made"


check_made()
