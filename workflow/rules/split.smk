# Patients -> train, val, test; a leak stops the pipeline here.
rule split:
    input:
        modules=modules("split.py", "labels.py"),
        catalog=path_of(rules.ingest_catalog.output.catalog),
    output:
        "data/splits.parquet",
    log:
        "logs/split.log",
    benchmark:
        "logs/benchmarks/split.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        split=section("split"),
        seed=P.seed,
    message:
        "Splitting the patients"
    script:
        "../scripts/split.py"
