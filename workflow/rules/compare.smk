# Other systems on the same slices and the same split; nothing is trained where compare.systems is [].
SYSTEMS = {
    system.name: COMPARED[system.name].model_dump(mode="json")
    for system in P.compare.systems
}


wildcard_constraints:
    system=r"[A-Za-z0-9][A-Za-z0-9-]*",


use rule train_run as compare_train with:
    input:
        modules=modules(*TRAIN_MODULES),
        weights=lambda wildcards: weights_files(COMPARED[wildcards.system]),
        catalog=path_of(rules.ingest_catalog.output.catalog),
        shards=SHARD_IMAGES,
        splits=path_of(rules.split.output),
    output:
        model="models/compare/{system}/model.safetensors",
        other="models/compare/{system}/other.safetensors",
        history="models/compare/{system}/history.parquet",
    log:
        "logs/compare_train/{system}.log",
    benchmark:
        "logs/benchmarks/compare_train/{system}.tsv"
    params:
        fold=0,
        seed=P.seed,
        train=lambda wildcards: SYSTEMS[wildcards.system],
        view=P.ingest.view.model_dump(mode="json"),
        synthetic=P.is_phantom or (RAW / "phantom.parquet").is_file(),
        checkpoint="models/checkpoints/{system}.pt",
        record=True,
    message:
        "Training {wildcards.system} to compare it"


rule compare_predict:
    input:
        modules=modules(*PREDICT_MODULES, "compare/*.py"),
        catalog=path_of(rules.ingest_catalog.output.catalog),
        shards=SHARD_IMAGES,
        splits=path_of(rules.split.output),
        model=rules.compare_train.output.model,
    output:
        predictions="data/compare/{system}.parquet",
        description="data/compare/{system}.json",
    log:
        "logs/compare_predict/{system}.log",
    benchmark:
        "logs/benchmarks/compare_predict/{system}.tsv"
    conda:
        "../../environment.yml"
    threads: ALL_CORES
    resources:
        mem_mb=4000,
    message:
        "Predicting the test patients by {wildcards.system}"
    script:
        "../scripts/compare_predict.py"


rule compare:
    input:
        modules=modules("labels.py", "metrics/*.py", "evaluate/*.py", "compare/*.py"),
        presets=sorted(map(str, Path("presets").glob("*.yaml"))),
        own=path_of(rules.evaluate_predict.output),
        model=path_of(rules.train.output.model),
        predictions=expand("data/compare/{system}.parquet", system=SYSTEMS),
        descriptions=expand("data/compare/{system}.json", system=SYSTEMS),
    output:
        "reports/comparison.json",
    log:
        "logs/compare.log",
    benchmark:
        "logs/benchmarks/compare.tsv"
    conda:
        "../../environment.yml"
    threads: ALL_CORES  # it measures how fast the network is
    resources:
        mem_mb=4000,
    params:
        systems=list(SYSTEMS),
        evaluate=section("evaluate"),
        seed=P.seed,
    message:
        "Comparing the systems"
    script:
        "../scripts/compare.py"
