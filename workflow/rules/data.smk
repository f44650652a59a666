localrules:
    prepare_dataset,  # it downloads: a cluster's compute nodes often can't


rule prepare_dataset:
    output:
        dataset=update(f"{DATASET}.npz"),
        facts=update(f"{DATASET}.json"),
    log:
        f"{RESULTS}/logs/data/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/data/{{dataset}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=dataset_settings,
        data=lambda wildcards: CONFIG.data,  # a string would have its braces filled in
        code=code_version("data.prepared"),
    message:
        "Prepare {wildcards.dataset}"
    shell:
        "python -m repsearch prepare --settings {params.settings:q} --data {params.data:q}"
        " --out {output.dataset:q} --log {log:q}"


rule initialise_network:
    input:
        dataset=f"{DATASET}.npz",
        facts=f"{DATASET}.json",
    output:
        network=update(f"{NETWORK}.pt"),
        facts=update(f"{NETWORK}.json"),
    log:
        f"{RESULTS}/logs/network/{{dataset}}/{{calibration}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/network/{{dataset}}/{{calibration}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=16000,
        runtime=30,
    params:
        settings=network_settings,
        code=code_version("stages.network"),
    message:
        "Initialise the search network of {wildcards.dataset}, statistics from {wildcards.calibration}"
    shell:
        "python -m repsearch network --settings {params.settings:q} --dataset {input.dataset:q}"
        " --out {output.network:q} --log {log:q} --threads {threads}"
