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


rule learned_network:
    # A network that was learned becomes the one that is searched in the next cycle (§6).
    input:
        unpack(of_wildcards(learned_run)),
    output:
        network=update(f"{LEARNED}.pt"),
        manifest=update(f"{LEARNED}.json"),
    log:
        f"{RESULTS}/logs/network/{{dataset}}/{{recipe}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/network/{{dataset}}/{{recipe}}.tsv"
    wildcard_constraints:
        recipe="|".join(map(re.escape, PLAN.resolved.cycles)) or "none",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        settings=settings(PLAN.learned_network),
        code=code(PLAN.learned_network),
    message:
        "The network that {wildcards.recipe} searches on {wildcards.dataset}"
    shell:
        "python -m repsearch learned {input.summary:q} --settings {params.settings:q} --out {output.network:q} --log {log:q}"


rule evaluate_ensemble:
    input:
        unpack(of_wildcards(ensemble_members)),
        dataset=f"{DATASET}.npz",
        manifest=f"{DATASET}.json",
    output:
        csv=update(f"{ENSEMBLE}.csv"),
        manifest=update(f"{ENSEMBLE}.json"),
    log:
        f"{RESULTS}/logs/ensembles/{{dataset}}/{{kind}}/repeat{{repeat}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/ensembles/{{dataset}}/{{kind}}/repeat{{repeat}}.tsv"
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        gpu=GPU,
        device=DEVICE,  # not a param: results are the same up to rounding
        mem_mb=16000,
        runtime=30,
    params:
        settings=settings(PLAN.ensemble),
        code=code(PLAN.ensemble),
    message:
        "Evaluate ensemble {wildcards.repeat} of {wildcards.kind} on {wildcards.dataset}"
    shell:
        "python -m repsearch ensemble {input.members:q} --settings {params.settings:q} --dataset {input.dataset:q}"
        " --out {output.csv:q} --log {log:q} --device {resources.device} --threads {threads}"
