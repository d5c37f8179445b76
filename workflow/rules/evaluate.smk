# Predictions for val and test, and the figures made from them.
EVALUATE_FIGURES = [
    "training",
    "detection",
    "subtypes",
    "roc",
    "precision_recall",
    "confusion",
    "calibration",
]
PREDICT_MODULES = [
    "labels.py",
    *STORE_MODULES,
    "split.py",
    "model/*.py",
    "inference.py",
    "evaluate/predictions.py",
    "evaluate/scored.py",
]


rule evaluate_run:
    input:
        modules=modules(*PREDICT_MODULES),
        catalog=path_of(rules.ingest_catalog.output.catalog),
        shards=SHARD_IMAGES,
        splits=path_of(rules.split.output),
        model=path_of(rules.train_run.output.model),
    output:
        "data/predictions/fold{fold}_seed{seed}.parquet",
    log:
        "logs/evaluate_run/fold{fold}_seed{seed}.log",
    benchmark:
        "logs/benchmarks/evaluate_run/fold{fold}_seed{seed}.tsv"
    conda:
        "../../environment.yml"
    threads: ALL_CORES
    resources:
        mem_mb=4000,
    params:
        fold=lambda wildcards: int(wildcards.fold),
    message:
        "Predicting the validation and test patients: fold {wildcards.fold}, seed {wildcards.seed}"
    script:
        "../scripts/evaluate_run.py"


rule evaluate_predict:
    input:
        modules=modules("evaluate/combine.py"),
        runs=expand("data/predictions/{run}.parquet", run=RUNS),
    output:
        "data/predictions.parquet",
    log:
        "logs/evaluate_predict.log",
    benchmark:
        "logs/benchmarks/evaluate_predict.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
    message:
        "Joining the predictions of all trainings"
    script:
        "../scripts/evaluate_predict.py"


rule evaluate:
    input:
        modules=modules("labels.py", "metrics.py", "figures/*.py", "evaluate/*.py"),
        predictions=path_of(rules.evaluate_predict.output),
        runs=expand("data/predictions/{run}.parquet", run=RUNS),
        catalog=path_of(rules.ingest_catalog.output.catalog),
        splits=path_of(rules.split.output),
        model=path_of(rules.train.output.model),
        history=path_of(rules.train.output.history),
    output:
        # the headline for `dvc metrics`, and everything
        metrics="reports/metrics.json",
        evaluation="reports/evaluation.json",
        roc="reports/plots/roc.csv",
        training="reports/plots/training.csv",
        figures=report(
            expand("reports/figures/{name}.png", name=EVALUATE_FIGURES),
            caption="../captions/evaluate.rst",
            category="Evaluation",
        ),
    log:
        "logs/evaluate.log",
    benchmark:
        "logs/benchmarks/evaluate.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        evaluate=section("evaluate"),
        seed=P.seed,
    message:
        "Scoring the predictions"
    script:
        "../scripts/evaluate.py"
