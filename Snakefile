# The whole pipeline: `snakemake --cores all`. A stage's rules lie in the file of its name.
configfile: "params.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/phantom.smk"
include: "workflow/rules/ingest.smk"
include: "workflow/rules/split.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/explain.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.report.output,
        rules.ingest_page.output,


onstart:
    FAILURE.unlink(missing_ok=True)


onsuccess:
    print("hemtrace: done. Read reports/index.html.")


onerror:
    print(explain_failure(log))
