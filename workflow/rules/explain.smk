# Where the network looked: heat maps, scored on the phantom's masks where there are any.
EXPLAIN_FIGURES = [
    "gallery_bleeds",
    "gallery_clear",
    "gallery_subtypes",
    "gallery_worst",
    "localisation",
    "randomisation",
]


rule explain:
    input:
        modules=modules(
            "labels.py",
            *STORE_MODULES,
            "model/*.py",
            "head.py",
            "sides.py",
            "window.py",
            "metrics/*.py",
            "evaluate/scored.py",
            "evaluate/calibrate.py",
            "evaluate/logistic.py",
            "evaluate/marks.py",
            "evaluate/operating.py",
            "evaluate/position.py",
            "explain/*.py",
            "figures/*.py",
        ),
        catalog=path_of(rules.ingest_catalog.output.catalog),
        shards=SHARD_IMAGES,
        splits=path_of(rules.split.output),
        model=path_of(rules.train.output.model),
        predictions=path_of(rules.evaluate_predict.output),
        operating=path_of(rules.evaluate.output.operating),
        masks=path_of(rules.phantom.output.table) if P.is_phantom else [],
    output:
        localisation="reports/localisation.json",
        regions="data/regions.parquet",
        volumes="data/volumes.parquet",
        figures=report(
            expand("reports/figures/{name}.png", name=EXPLAIN_FIGURES),
            caption="../captions/explain.rst",
            category="Explanation",
        ),
    log:
        "logs/explain.log",
    benchmark:
        "logs/benchmarks/explain.tsv"
    conda:
        "../../environment.yml"
    threads: ALL_CORES
    resources:
        mem_mb=4000,
    params:
        explain=section("explain"),
        seed=P.seed,
    message:
        "Drawing where the network looked"
    script:
        "../scripts/explain.py"
