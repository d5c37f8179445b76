# Training; the run is recorded in MLflow as well, whose database is never a product.
rule train:
    input:
        modules=modules(
            "labels.py",
            *STORE_MODULES,
            "split.py",
            "provenance.py",
            "model.py",
            "weights.py",
            "loss.py",
            "augment.py",
            "train.py",
            "inference.py",
        ),
        weights=P.train.weights_file or [],
        catalog=path_of(rules.ingest.output.catalog),
        shards=expand(rules.ingest_shard.output.images, shard=SHARDS),
        splits=path_of(rules.split.output),
    output:
        model="models/model.safetensors",
        history="models/history.parquet",
    log:
        "logs/train.log",
    benchmark:
        "logs/benchmarks/train.tsv"
    conda:
        "../../environment.yml"
    # All cores: two jobs that compute at once make each other up to ten times slower.
    threads: ALL_CORES
    resources:
        mem_mb=8000,
    params:
        train=section("train"),
        view=P.ingest.view.model_dump(mode="json"),
        seed=P.seed,
        # a phantom that was made elsewhere is one all the same
        synthetic=P.is_phantom or (RAW / "phantom.parquet").is_file(),
    message:
        "Training {params.train[architecture]}"
    script:
        "../scripts/train.py"
