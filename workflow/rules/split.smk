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


rule split_study:
    input:
        modules=modules(
            "labels.py",
            "split.py",
            "dicom/reasons.py",
            *STORE_MODULES,
            "metrics/*.py",
            "study/*.py",
        ),
        catalog=path_of(rules.ingest_catalog.output.catalog),
        shards=SHARD_IMAGES,
        splits=rules.split.output,
    output:
        "reports/study.json",
    log:
        "logs/split_study.log",
    benchmark:
        "logs/benchmarks/split_study.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        windows=[window.name for window in P.ingest.windows],
        synthetic=P.is_phantom or (RAW / "phantom.parquet").is_file(),
    message:
        "Counting patients, slices and labels, and looking for leaks"
    script:
        "../scripts/split_study.py"
