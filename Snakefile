from snakemake.utils import min_version

min_version("9.8")


configfile: "config.yaml"


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
        # What the results follow from is asked for too: a shard or a run that was deleted is made again.
        f"{RESULTS}/report.md",
        f"{RESULTS}/reproduction.md",
        every_result(),
        every_shard,
        every_run(),
    message:
        "All results are made"
