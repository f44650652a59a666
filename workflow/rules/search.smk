rule take_statistics:
    input:
        unpack(of_wildcards(network_files)),
        dataset=f"{DATASET}.npz",
        manifest=f"{DATASET}.json",
    output:
        statistics=update(f"{STATISTICS}.npz"),
        manifest=update(f"{STATISTICS}.json"),
    log:
        f"{RESULTS}/logs/statistics/{{dataset}}/{{recipe}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/statistics/{{dataset}}/{{recipe}}.tsv"
    conda:
        "../../environment.yml"
    threads: THREADS
    resources:
        gpu=GPU,
        device=DEVICE,  # not params: results are the same up to rounding
        path=CONFIG.search_path,
        mem_mb=32000,
        runtime=120,
    params:
        settings=settings(PLAN.statistics),
        code=code(PLAN.statistics, BACKEND),
    message:
        "BatchNorm statistics of {wildcards.dataset}, recipe {wildcards.recipe}"
    shell:
        "python -m repsearch statistics --settings {params.settings:q} --dataset {input.dataset:q}"
        " --network {input.network:q} --out {output.statistics:q}"
        " --log {log:q} --device {resources.device} --path {resources.path} --threads {threads}"


rule search_shard:
    input:
        unpack(of_wildcards(statistics_files)),
        unpack(of_wildcards(network_files)),
        dataset=f"{DATASET}.npz",
        manifest=f"{DATASET}.json",
    output:
        store=update(f"{SHARD}.zarr.zip"),
        manifest=update(f"{SHARD}.json"),
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
        settings=settings(PLAN.search),
        statistics=statistics_option,
        code=code(PLAN.search, BACKEND),
    message:
        "Search {wildcards.dataset}, recipe {wildcards.recipe}, shard {wildcards.shard}"
    shell:
        "python -m repsearch search --settings {params.settings:q} --dataset {input.dataset:q}"
        " --network {input.network:q} {params.statistics} --out {output.store:q} --log {log:q} --device {resources.device} --path {resources.path} --threads {threads}"


rule probe_fitness:
    input:
        **probe_inputs(CONFIG.figure2.dataset),
    output:
        csv=update(f"{FITNESS}.csv"),
        manifest=update(f"{FITNESS}.json"),
    log:
        f"{RESULTS}/logs/probes/fitness-population{{population}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/probes/fitness-population{{population}}.tsv"
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
        command="fitness",
        statistics="",
        settings=settings(PLAN.fitness),
        code=code(PLAN.fitness, BACKEND),
    message:
        "Probe of fitness (figure 2): population {wildcards.population}"
    shell:
        "python -m repsearch {params.command} --settings {params.settings:q} --dataset {input.dataset:q}"
        " --network {input.network:q} {params.statistics} --out {output.csv:q}"
        " --log {log:q} --device {resources.device} --path {resources.path} --threads {threads}"


use rule probe_fitness as probe_diversity with:
    input:
        **probe_inputs(CONFIG.figure3.dataset),
        **statistics_files(CONFIG.figure3.dataset, CONFIG.datasets[CONFIG.figure3.dataset].recipe),
    output:
        csv=update(f"{DIVERSITY}.csv"),
        manifest=update(f"{DIVERSITY}.json"),
    log:
        f"{RESULTS}/logs/probes/diversity.log",
    benchmark:
        f"{RESULTS}/benchmarks/probes/diversity.tsv"
    params:
        command="diversity",
        statistics=statistics_option,
        settings=settings(PLAN.diversity),
        code=code(PLAN.diversity, BACKEND),
    message:
        "Probe of diversity (figure 3)"


use rule probe_fitness as probe_gallery with:
    input:
        **probe_inputs(PLAN.gallery_dataset),
        **statistics_files(PLAN.gallery_dataset, CONFIG.datasets[PLAN.gallery_dataset].recipe),
    output:
        csv=update(f"{GALLERY}.csv"),
        manifest=update(f"{GALLERY}.json"),
    log:
        f"{RESULTS}/logs/probes/gallery.log",
    benchmark:
        f"{RESULTS}/benchmarks/probes/gallery.tsv"
    params:
        command="gallery",
        statistics=statistics_option,
        settings=settings(PLAN.gallery),
        code=code(PLAN.gallery, BACKEND),
    message:
        "What the search makes of a few images (the report's gallery)"


rule describe_targets:
    input:
        manifests=of_wildcards(manifests),
        stores=of_wildcards(unchanged_stores),
    output:
        f"{TARGETS}/facts.json",
    log:
        f"{RESULTS}/logs/targets/{{dataset}}/{{recipe}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/targets/{{dataset}}/{{recipe}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=16000,
        runtime=30,
    params:
        settings=settings(PLAN.describe),
        code=code(PLAN.describe),
    message:
        "Describe the targets of {wildcards.dataset}, recipe {wildcards.recipe}"
    shell:
        "python -m repsearch describe {input.manifests:q} --settings {params.settings:q} --out {output:q} --log {log:q}"
