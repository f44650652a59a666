rule train:
    input:
        unpack(of_wildcards(train_inputs)),
        dataset=f"{DATASET}.npz",
        manifest=f"{DATASET}.json",
    output:
        summary=update(f"{RUN}/summary.json"),
        epochs=update(f"{RUN}/epochs.csv"),
        weights=update(f"{RUN}/weights.pt"),
    log:
        f"{RESULTS}/logs/runs/{{dataset}}/{{augmentation}}/{{variant}}/{{recipe}}/depth{{depth}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/runs/{{dataset}}/{{augmentation}}/{{variant}}/{{recipe}}/depth{{depth}}/seed{{seed}}.tsv"
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        gpu=GPU,
        device=DEVICE,  # not a param: results are the same up to rounding
        mem_mb=32000,
        runtime=240,
    params:
        settings=settings(PLAN.train),
        targets=target_options,
        folder=subpath(output.summary, parent=True),
        code=code(PLAN.train),
    message:
        "Train {wildcards.variant} on {wildcards.dataset}, {wildcards.augmentation}, recipe {wildcards.recipe},"
        " depth {wildcards.depth}, seed {wildcards.seed}"
    shell:
        "python -m repsearch train --settings {params.settings:q} --dataset {input.dataset:q} {params.targets}"
        " --out {params.folder:q} --log {log:q} --device {resources.device} --threads {threads}"
