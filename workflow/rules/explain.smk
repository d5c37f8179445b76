# Where the network looked: the Grad-CAM gallery, scored on the phantom's masks where there are any.
rule explain:
    input:
        modules=modules(
            "labels.py",
            *STORE_MODULES,
            "model/*.py",
            "head.py",
            "window.py",
            "metrics.py",
            "evaluate/scored.py",
            "explain/*.py",
            "figures/*.py",
        ),
        catalog=path_of(rules.ingest_catalog.output.catalog),
        shards=SHARD_IMAGES,
        splits=path_of(rules.split.output),
        model=path_of(rules.train.output.model),
        predictions=path_of(rules.evaluate_predict.output),
        evaluation=path_of(rules.evaluate.output.evaluation),
        masks=path_of(rules.phantom.output.table) if P.is_phantom else [],
    output:
        localisation="reports/localisation.json",
        gallery_bleeds=report(
            "reports/figures/gallery_bleeds.png",
            caption="../captions/explain.rst",
            category="Explanation",
        ),
        gallery_clear=report(
            "reports/figures/gallery_clear.png",
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
