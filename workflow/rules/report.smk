# The page that reviewers read, and the model card.
rule report:
    input:
        modules=modules(
            "labels.py",
            "split.py",
            "model.py",
            "provenance.py",
            "figures/*.py",
            "report/*.py",
            "templates/*",
        ),
        catalog=rules.ingest.output.catalog,
        flow=rules.ingest.output.flow,
        splits=rules.split.output,
        model=rules.train.output.model,
        history=rules.train.output.history,
        evaluation=rules.evaluate.output.evaluation,
        localisation=rules.explain.output.localisation,
        figures=[
            rules.evaluate.output.figures,
            rules.explain.output.gallery_bleeds,
            rules.explain.output.gallery_clear,
        ],
    output:
        page=report(
            "reports/index.html", caption="../captions/report.rst", category="Report"
        ),
        card="reports/model_card.md",
    log:
        "logs/report.log",
    benchmark:
        "logs/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        report=section("report"),
    message:
        "Writing reports/index.html"
    script:
        "../scripts/report.py"
