localrules:
    prepare_dataset,  # it downloads: a cluster's compute nodes often can't


rule prepare_dataset:
    output:
        dataset=update(f"{DATASET}.npz"),
        manifest=update(f"{DATASET}.json"),
    log:
        f"{RESULTS}/logs/data/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/data/{{dataset}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=settings(prepare),
        data=data_folder,
        code=code(PLAN.prepare),
    message:
        "Prepare {wildcards.dataset}"
    shell:
        "python -m repsearch prepare --settings {params.settings:q} --data {params.data:q}"
        " --out {output.dataset:q} --log {log:q}"


rule initialise_network:
    input:
        dataset=f"{DATASET}.npz",
        manifest=f"{DATASET}.json",
    output:
        network=update(f"{NETWORK}.pt"),
        manifest=update(f"{NETWORK}.json"),
    log:
        f"{RESULTS}/logs/network/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/network/{{dataset}}.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=16000,
        runtime=30,
    params:
        settings=settings(PLAN.network),
        code=code(PLAN.network),
    message:
        "Initialise the search network of {wildcards.dataset}"
    shell:
        "python -m repsearch network --settings {params.settings:q} --dataset {input.dataset:q}"
        " --out {output.network:q} --log {log:q} --threads {threads}"
