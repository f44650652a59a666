rule search_shard:
    input:
        unpack(searched_by),
        dataset=f"{DATASET}.npz",
        facts=f"{DATASET}.json",
    output:
        store=update(f"{TARGETS}.zarr.zip"),
        manifest=update(f"{TARGETS}.json"),
    log:
        f"{RESULTS}/logs/search/{{dataset}}/{{recipe}}/{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/search/{{dataset}}/{{recipe}}/{{shard}}.tsv"
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        gpu=GPU,
        device=DEVICE,  # not params: results are the same up to rounding
        path=CONFIG.search_path,
        mem_mb=16000,
        runtime=240,
    params:
        settings=shard_settings,
        code=code_version("stages.search", BACKEND),
    message:
        "Search {wildcards.dataset}, recipe {wildcards.recipe}, shard {wildcards.shard}"
    shell:
        "python -m repsearch search --settings {params.settings:q} --dataset {input.dataset:q}"
        " --network {input.network:q} --out {output.store:q} --manifest {output.manifest:q}"
        " --log {log:q} --device {resources.device} --path {resources.path} --threads {threads}"


rule probe_fitness:
    input:
        **probed_by(CONFIG.figure2.dataset),
        dataset=f"{DATASET}.npz".format(dataset=CONFIG.figure2.dataset),
        facts=f"{DATASET}.json".format(dataset=CONFIG.figure2.dataset),
    output:
        table=update(f"{RESULTS}/probes/fitness/block{{layer}}-population{{population}}.csv"),
        facts=update(f"{RESULTS}/probes/fitness/block{{layer}}-population{{population}}.json"),
    log:
        f"{RESULTS}/logs/probes/fitness-block{{layer}}-population{{population}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/probes/fitness-block{{layer}}-population{{population}}.tsv"
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        gpu=GPU,
        device=DEVICE,  # not params: results are the same up to rounding
        path=CONFIG.search_path,
        mem_mb=16000,
        runtime=240,
    params:
        settings=fitness_settings,
        code=code_version("stages.probes", BACKEND),
    message:
        "Probe of fitness (figure 2): block {wildcards.layer}, population {wildcards.population}"
    shell:
        "python -m repsearch fitness --settings {params.settings:q} --dataset {input.dataset:q}"
        " --network {input.network:q} --out {output.table:q}"
        " --log {log:q} --device {resources.device} --path {resources.path} --threads {threads}"


rule probe_diversity:
    input:
        **probed_by(CONFIG.figure3.dataset),
        dataset=f"{DATASET}.npz".format(dataset=CONFIG.figure3.dataset),
        facts=f"{DATASET}.json".format(dataset=CONFIG.figure3.dataset),
    output:
        table=update(f"{RESULTS}/probes/diversity.csv"),
        facts=update(f"{RESULTS}/probes/diversity.json"),
    log:
        f"{RESULTS}/logs/probes/diversity.log",
    benchmark:
        f"{RESULTS}/benchmarks/probes/diversity.tsv"
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        gpu=GPU,
        device=DEVICE,  # not params: results are the same up to rounding
        path=CONFIG.search_path,
        mem_mb=16000,
        runtime=240,
    params:
        settings=diversity_settings,
        code=code_version("stages.probes", BACKEND),
    message:
        "Probe of diversity (figure 3)"
    shell:
        "python -m repsearch diversity --settings {params.settings:q} --dataset {input.dataset:q}"
        " --network {input.network:q} --out {output.table:q}"
        " --log {log:q} --device {resources.device} --path {resources.path} --threads {threads}"


rule describe_targets:
    input:
        manifests=lambda wildcards: manifests(wildcards.dataset, wildcards.recipe),
        stores=lambda wildcards: ancient(stores(wildcards.dataset, wildcards.recipe)),
    output:
        f"{RESULTS}/targets/{{dataset}}/{{recipe}}/facts.json",
    log:
        f"{RESULTS}/logs/targets/{{dataset}}/{{recipe}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/targets/{{dataset}}/{{recipe}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=16000,
        runtime=30,
    params:
        settings=lambda wildcards: as_json({"dataset": wildcards.dataset, "recipe": wildcards.recipe}),
        code=code_version("stages.targets"),
    message:
        "Describe the targets of {wildcards.dataset}, recipe {wildcards.recipe}"
    shell:
        "python -m repsearch describe {input.manifests:q} --settings {params.settings:q} --out {output:q} --log {log:q}"
