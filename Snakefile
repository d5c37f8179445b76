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


# A lost product of which all later ones were made is made again first, and alone: the rest then sees
# whether its bytes are the same. Why: docs/architecture.md, "What is lost is made again".
LOST = []
if workflow.is_main_process:
    LOST = find_lost(
        [
            rules.phantom.output,
            [*rules.ingest_labels.output, *rules.ingest_list.output],
            [
                path
                for pattern in rules.ingest_shard.output
                for path in expand(pattern, shard=SHARDS)
            ],
            rules.ingest_catalog.output,
            rules.split.output,
            rules.split_study.output,
            rules.train.output,
            rules.evaluate_predict.output,
            rules.compare.output,
            [rules.evaluate.output.evaluation, rules.evaluate.output.operating],
            [rules.evaluate_robustness.output.scores],
            [rules.evaluate_familiar.output.counts],
            [rules.explain.output.localisation],
        ]
    )
    # What was just made and does not stay is left to Snakemake, and to what it says.
    if " ".join(LOST) == os.environ.get(MADE_AGAIN):
        LOST = []
    if LOST:
        print(
            f"hemtrace: made anew first, and then the rest is looked at: {', '.join(LOST)}",
            file=sys.stderr,
        )


rule all:
    default_target: True
    input:
        LOST
        or [
            *rules.report.output,
            *rules.ingest_page.output,
            *rules.evaluate_familiar.output,
        ],


onstart:
    FAILURE.unlink(missing_ok=True)
    check_trainings()


onsuccess:
    settings = workflow.dag_settings
    targets = sorted(map(str, {*settings.targets, *settings.until}))
    if targets:
        print(f"hemtrace: done: {', '.join(targets)}.")
    elif LOST:
        print(f"hemtrace: made again: {', '.join(LOST)}. Going on with the rest.")
        go_on(LOST)
    else:
        print("hemtrace: done. Read reports/index.html.")


onerror:
    print(explain_failure(log))
