# Predictions for val and test, the figures made from them, and the nulls beside them.
EVALUATE_FIGURES = [
    "training",
    "detection",
    "subtypes",
    "roc",
    "precision_recall",
    "confusion",
    "calibration",
    "predictive_values",
    "decision",
    "workload",
    "subgroups",
]
PREDICT_MODULES = [
    "labels.py",
    *STORE_MODULES,
    "split.py",
    "model/*.py",
    "inference.py",
    "evaluate/marks.py",
    "evaluate/position.py",
    "evaluate/predictions.py",
    "evaluate/scored.py",
]
SHUFFLED_TRAIN = SHUFFLED.model_dump(mode="json") if SHUFFLED else {}


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
        modules=modules("evaluate/combine.py", "evaluate/marks.py"),
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


# The leak test: trained and scored like the model, on labels that belong to other patients.
rule evaluate_shuffle:
    input:
        modules=modules("labels.py", "evaluate/shuffle.py"),
        catalog=path_of(rules.ingest_catalog.output.catalog),
        splits=path_of(rules.split.output),
    output:
        catalog="data/shuffled/catalog.parquet",
        splits="data/shuffled/splits.parquet",
    log:
        "logs/evaluate_shuffle.log",
    benchmark:
        "logs/benchmarks/evaluate_shuffle.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        seed=P.seed,
    message:
        "Giving each scan the labels of another"
    script:
        "../scripts/evaluate_shuffle.py"


use rule train_run as evaluate_shuffled_train with:
    input:
        modules=modules(*TRAIN_MODULES),
        weights=weights_files(SHUFFLED) if SHUFFLED else [],
        catalog=rules.evaluate_shuffle.output.catalog,
        shards=SHARD_IMAGES,
        splits=rules.evaluate_shuffle.output.splits,
    output:
        model="models/shuffled/model.safetensors",
        other="models/shuffled/other.safetensors",
        history="models/shuffled/history.parquet",
    log:
        "logs/evaluate_shuffled_train.log",
    benchmark:
        "logs/benchmarks/evaluate_shuffled_train.tsv"
    params:
        fold=0,
        seed=P.seed,
        train=SHUFFLED_TRAIN,
        view=P.ingest.view.model_dump(mode="json"),
        synthetic=P.is_phantom or (RAW / "phantom.parquet").is_file(),
        checkpoint="models/checkpoints/shuffled.pt",
        record=False,
    message:
        "Training on shuffled labels, which must come to nothing"


use rule evaluate_run as evaluate_shuffled_predict with:
    input:
        modules=modules(*PREDICT_MODULES),
        catalog=rules.evaluate_shuffle.output.catalog,
        shards=SHARD_IMAGES,
        splits=rules.evaluate_shuffle.output.splits,
        model=rules.evaluate_shuffled_train.output.model,
    output:
        "data/shuffled/predictions.parquet",
    log:
        "logs/evaluate_shuffled_predict.log",
    benchmark:
        "logs/benchmarks/evaluate_shuffled_predict.tsv"
    params:
        fold=0,
    message:
        "Predicting by what learned from shuffled labels"


rule evaluate:
    input:
        modules=modules(
            "labels.py",
            "metrics/*.py",
            "study/*.py",
            "figures/*.py",
            "evaluate/*.py",
            "head.py",
            "window.py",
        ),
        predictions=path_of(rules.evaluate_predict.output),
        runs=expand("data/predictions/{run}.parquet", run=RUNS),
        shuffled=rules.evaluate_shuffled_predict.output if SHUFFLED else [],
        catalog=path_of(rules.ingest_catalog.output.catalog),
        splits=path_of(rules.split.output),
        model=path_of(rules.train.output.model),
        history=path_of(rules.train.output.history),
        lesions=path_of(rules.phantom.output.table) if P.is_phantom else [],
    output:
        # the headline for `dvc metrics`, and everything
        metrics="reports/metrics.json",
        evaluation="reports/evaluation.json",
        # what was fixed on validation patients, carried with the model
        operating="models/operating.json",
        table="reports/results.csv",
        latex="reports/results.tex",
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
    threads: 2
    resources:
        mem_mb=4000,
    params:
        evaluate=section("evaluate"),
        seed=P.seed,
    message:
        "Scoring the predictions"
    script:
        "../scripts/evaluate.py"


rule evaluate_robustness:
    input:
        modules=modules(
            "labels.py",
            *STORE_MODULES,
            "model/*.py",
            "inference.py",
            "window.py",
            "metrics/*.py",
            "study/*.py",
            "evaluate/*.py",
            "figures/*.py",
        ),
        catalog=path_of(rules.ingest_catalog.output.catalog),
        shards=SHARD_IMAGES,
        splits=path_of(rules.split.output),
        model=path_of(rules.train.output.model),
        operating=rules.evaluate.output.operating,
    output:
        scores="reports/robustness.json",
        figure=report(
            "reports/figures/robustness.png",
            caption="../captions/evaluate.rst",
            category="Evaluation",
        ),
    log:
        "logs/evaluate_robustness.log",
    benchmark:
        "logs/benchmarks/evaluate_robustness.tsv"
    conda:
        "../../environment.yml"
    threads: ALL_CORES
    resources:
        mem_mb=4000,
    params:
        evaluate=section("evaluate"),
        seed=P.seed,
    message:
        "Changing test slices as scanners do, and predicting them anew"
    script:
        "../scripts/evaluate_robustness.py"


# When is a scan unlike what the model was trained on? Carried with the model; and how many of the
# test studies are.
rule evaluate_familiar:
    input:
        modules=modules(
            "labels.py",
            *STORE_MODULES,
            "split.py",
            "model/*.py",
            "explain/heat.py",
            "engine/*.py",
            "familiar/*.py",
        ),
        catalog=path_of(rules.ingest_catalog.output.catalog),
        shards=SHARD_IMAGES,
        splits=path_of(rules.split.output),
        model=path_of(rules.train.output.model),
    output:
        familiar="models/familiar.npz",
        counts="reports/familiarity.json",
    log:
        "logs/evaluate_familiar.log",
    benchmark:
        "logs/benchmarks/evaluate_familiar.tsv"
    conda:
        "../../environment.yml"
    threads: ALL_CORES
    resources:
        mem_mb=4000,
    params:
        share=P.evaluate.familiar,
        seed=P.seed,
    message:
        "Measuring what the training slices are like"
    script:
        "../scripts/evaluate_familiar.py"
