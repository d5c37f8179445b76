# The pages that reviewers read, and the model card.
rule report:
    input:
        modules=modules(
            "labels.py",
            "split.py",
            "model/*.py",
            "provenance.py",
            "figures/*.py",
            "familiar/count.py",
            "params/train.py",
            "study/partitions.py",
            "report/*.py",
            "templates/*.*",
            "templates/checklists/*",
        ),
        catalog=path_of(rules.ingest_catalog.output.catalog),
        flow=path_of(rules.ingest_catalog.output.flow),
        splits=path_of(rules.split.output),
        study=path_of(rules.split_study.output),
        model=path_of(rules.train.output.model),
        history=path_of(rules.train.output.history),
        evaluation=path_of(rules.evaluate.output.evaluation),
        robustness=path_of(rules.evaluate_robustness.output.scores),
        familiarity=path_of(rules.evaluate_familiar.output.counts),
        comparison=path_of(rules.compare.output),
        localisation=path_of(rules.explain.output.localisation),
        figures=[
            *map(str, rules.evaluate.output.figures),
            path_of(rules.evaluate_robustness.output.figure),
            *map(str, rules.explain.output.figures),
        ],
    output:
        page=report(
            "reports/index.html", caption="../captions/report.rst", category="Report"
        ),
        checklists="reports/checklists.html",
        provenance="reports/provenance.html",
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
        # No product of a rule: what `hemtrace external` found makes the pages anew.
        external=[
            digest_of(path)
            for path in sorted(Path("external").glob("*/external.json"))
        ],
    message:
        "Writing reports/index.html"
    script:
        "../scripts/report.py"
