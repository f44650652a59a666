def target_options(wildcards, input):
    """The stage's options for a run's targets; none for a run that has no recipe."""
    if wildcards.recipe == "none":
        return ""
    network = input.network.removesuffix(".json") + ".pt"
    return " ".join(
        [
            f"--network {network}",
            *(f"--targets {manifest}" for manifest in input.manifests),
        ]
    )


rule train:
    input:
        unpack(run_inputs),
    output:
        summary=update(f"{RUN}/summary.json"),
        epochs=update(f"{RUN}/epochs.csv"),
        weights=update(f"{RUN}/weights.pt"),
    log:
        f"{RESULTS}/logs/runs/{{dataset}}/{{augmentation}}/{{variant}}/{{recipe}}/depth{{depth}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/runs/{{dataset}}/{{augmentation}}/{{variant}}/{{recipe}}/depth{{depth}}/seed{{seed}}.tsv"
    threads: THREADS
    resources:
        gpu=GPU,
        mem_mb=32000,
        runtime=240,
    params:
        settings=run_settings,
        targets=target_options,
        folder=subpath(output.summary, parent=True),
        code=code_version("stage_train"),
    shell:
        "{PYTHON:q} -m repsearch train --settings {params.settings:q} --dataset {input.dataset:q} {params.targets}"
        " --out {params.folder:q} --log {log:q} --device {CONFIG.device} --threads {threads}"
