# Training, once a fold and seed; each is recorded in MLflow, whose database is never a product.
RUNS = [
    f"fold{fold}_seed{seed}"
    for fold in range(P.split.folds)
    for seed in range(P.seed, P.seed + P.train.seeds)
]
TRAIN_MODULES = [
    "labels.py",
    *STORE_MODULES,
    "split.py",
    "provenance.py",
    "model/*.py",
    "weights/*.py",
    "inference.py",
    "train/*.py",
]


wildcard_constraints:
    fold=r"\d+",
    seed=r"\d+",


rule train_run:
    input:
        modules=modules(*TRAIN_MODULES),
        weights=weights_files(P.train),
        catalog=path_of(rules.ingest_catalog.output.catalog),
        shards=SHARD_IMAGES,
        splits=path_of(rules.split.output),
    output:
        model="models/runs/fold{fold}_seed{seed}/model.safetensors",
        # of the last and the best epoch the one that train.select leaves
        other="models/runs/fold{fold}_seed{seed}/other.safetensors",
        history="models/runs/fold{fold}_seed{seed}/history.parquet",
    log:
        "logs/train_run/fold{fold}_seed{seed}.log",
    benchmark:
        "logs/benchmarks/train_run/fold{fold}_seed{seed}.tsv"
    conda:
        "../../environment.yml"
    # All cores: two jobs that compute at once make each other up to ten times slower.
    threads: ALL_CORES
    resources:
        mem_mb=8000,
    params:
        fold=lambda wildcards: int(wildcards.fold),
        seed=lambda wildcards: int(wildcards.seed),
        train=section("train"),
        view=P.ingest.view.model_dump(mode="json"),
        # a phantom that was made elsewhere is one all the same
        synthetic=P.is_phantom or (RAW / "phantom.parquet").is_file(),
        # no output: Snakemake would delete it when the job is killed
        checkpoint="models/checkpoints/fold{fold}_seed{seed}.pt",
        record=True,
    message:
        "Training {params.train[architecture]}: fold {wildcards.fold}, seed {wildcards.seed}"
    script:
        "../scripts/train_run.py"


rule train:
    input:
        modules=modules("model/*.py", "train/ensemble.py"),
        models=expand("models/runs/{run}/model.safetensors", run=RUNS),
        histories=expand("models/runs/{run}/history.parquet", run=RUNS),
    output:
        model="models/model.safetensors",
        history="models/history.parquet",
    log:
        "logs/train.log",
    benchmark:
        "logs/benchmarks/train.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
    message:
        "Joining the trained networks"
    script:
        "../scripts/train.py"
