# DICOM and label CSV -> list of files -> windowed shards -> catalog.
RAW = Path(P.ingest.raw or "data/raw").expanduser()
SHARDS = [f"{number:04d}" for number in range(P.ingest.shards)]
INGEST_MODULES = ["dicom.py", "window.py", "shards.py", "ingest.py", "labels.py"]


rule ingest_list:
    input:
        modules=modules(*INGEST_MODULES),
        # The CSV stands for the folder: 752,803 files as inputs would be too many to watch.
        labels=str(RAW / P.ingest.labels),
    output:
        "data/files.parquet",
    log:
        "logs/ingest_list.log",
    benchmark:
        "logs/benchmarks/ingest_list.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        images=lambda wildcards: str(RAW / P.ingest.images),
        shards=P.ingest.shards,
        slice_bytes=len(P.ingest.windows) * P.ingest.size**2,
    message:
        "Listing the files of {params.images}"
    script:
        "../scripts/ingest_list.py"


rule ingest_shard:
    input:
        modules=modules(*INGEST_MODULES),
        files=rules.ingest_list.output,
    output:
        images="data/shards/{shard}.npy",
        rows="data/shards/{shard}.parquet",
    log:
        "logs/ingest_shard/{shard}.log",
    benchmark:
        "logs/benchmarks/ingest_shard/{shard}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        images=lambda wildcards: str(RAW / P.ingest.images),
        windows=section("ingest")["windows"],
        size=P.ingest.size,
    message:
        "Reading and windowing shard {wildcards.shard}"
    script:
        "../scripts/ingest_shard.py"


rule ingest:
    input:
        modules=modules(*INGEST_MODULES),
        labels=rules.ingest_list.input.labels,
        rows=expand(rules.ingest_shard.output.rows, shard=SHARDS),
    output:
        catalog="data/catalog.parquet",
        flow="data/ingest.json",
    log:
        "logs/ingest.log",
    benchmark:
        "logs/benchmarks/ingest.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
    message:
        "Joining slices and labels in the catalog"
    script:
        "../scripts/ingest.py"
