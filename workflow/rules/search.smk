rule search_shard:
    input:
        dataset=f"{DATASET}.npz",
        facts=f"{DATASET}.json",
        network=f"{NETWORK}.pt",
        network_facts=f"{NETWORK}.json",
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
        code=code_version("stage_search"),
    message:
        "Search {wildcards.dataset}, recipe {wildcards.recipe}, shard {wildcards.shard}"
    shell:
        "python -m repsearch search --settings {params.settings:q} --dataset {input.dataset:q}"
        " --network {input.network:q} --out {output.store:q} --manifest {output.manifest:q}"
        " --log {log:q} --device {resources.device} --path {resources.path} --threads {threads}"


rule probe_fitness:
    input:
        dataset=f"{DATASET}.npz".format(dataset=CONFIG.figure2.dataset),
        facts=f"{DATASET}.json".format(dataset=CONFIG.figure2.dataset),
        network=f"{NETWORK}.pt".format(dataset=CONFIG.figure2.dataset),
        network_facts=f"{NETWORK}.json".format(dataset=CONFIG.figure2.dataset),
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
        code=code_version("stage_probes"),
    message:
        "Probe of fitness (figure 2): block {wildcards.layer}, population {wildcards.population}"
    shell:
        "python -m repsearch fitness --settings {params.settings:q} --dataset {input.dataset:q}"
        " --network {input.network:q} --out {output.table:q}"
        " --log {log:q} --device {resources.device} --path {resources.path} --threads {threads}"


rule probe_diversity:
    input:
        dataset=f"{DATASET}.npz".format(dataset=CONFIG.figure3.dataset),
        facts=f"{DATASET}.json".format(dataset=CONFIG.figure3.dataset),
        network=f"{NETWORK}.pt".format(dataset=CONFIG.figure3.dataset),
        network_facts=f"{NETWORK}.json".format(dataset=CONFIG.figure3.dataset),
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
        code=code_version("stage_probes"),
    message:
        "Probe of diversity (figure 3)"
    shell:
        "python -m repsearch diversity --settings {params.settings:q} --dataset {input.dataset:q}"
        " --network {input.network:q} --out {output.table:q}"
        " --log {log:q} --device {resources.device} --path {resources.path} --threads {threads}"
