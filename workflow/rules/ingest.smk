# DICOM and label CSV -> labels, list of files -> windowed shards -> catalog -> the page on it.
SHARDS = [f"{number:04d}" for number in range(P.ingest.shards)]
READ_MODULES = [
    "labels.py",
    "memory.py",
    "dicom/*.py",
    "head.py",
    "window.py",
    "shards/*.py",
]
CATALOG_MODULES = [*READ_MODULES, "ingest/*.py"]


# A rule of its own: a mended CSV must not decode all files again.
rule ingest_labels:
    input:
        modules=modules("labels.py", "ingest/labels_csv.py"),
        csv=str(RAW / P.ingest.labels) if P.ingest.labels else [],
    output:
        "data/labels.parquet",
    log:
        "logs/ingest_labels.log",
    benchmark:
        "logs/benchmarks/ingest_labels.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=3000,
    params:
        csv_digest=CSV_DIGEST,  # its time may lie
    message:
        "Checking the label CSV"
    script:
        "../scripts/ingest_labels.py"


rule ingest_list:
    input:
        modules=modules("dicom/source.py", "ingest/listing.py"),
        # The phantom's folder is no product, its label CSV is. Another folder's time is a parameter:
        # as an input, each of the folders below would be written down, and its name may be a person's.
        folder=str(RAW / P.ingest.labels) if P.is_phantom else ancient(str(IMAGES)),
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
        images=lambda wildcards: str(IMAGES),
        shards=P.ingest.shards,
        slice_bytes=P.ingest.slice_bytes,
        changed_ns=CHANGED_NS,
    message:
        "Listing the files of {params.images}"
    script:
        "../scripts/ingest_list.py"


rule ingest_shard:
    input:
        modules=modules(*READ_MODULES),
        files=rules.ingest_list.output[0],
    output:
        images=f"data/shards/{{shard}}.{P.ingest.image_suffix}",
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
        images=lambda wildcards: str(IMAGES),
        image_suffix=P.ingest.image_suffix,
        view=P.ingest.view.model_dump(mode="json"),
        salt_file=P.ingest.salt_file,
        read_seconds=P.ingest.read_seconds,
        read_memory_gb=P.ingest.read_memory_gb,
    message:
        "Reading and windowing shard {wildcards.shard}"
    script:
        "../scripts/ingest_shard.py"


# For what reads them. Their times count for nothing: the catalog, which is always read with them,
# has the digest of every picture.
SHARD_IMAGES = ancient(expand(rules.ingest_shard.output.images, shard=SHARDS))


rule ingest_catalog:
    input:
        modules=modules(*CATALOG_MODULES),
        files=rules.ingest_list.output[0],
        labels=rules.ingest_labels.output[0],
        rows=expand(rules.ingest_shard.output.rows, shard=SHARDS),
    output:
        catalog="data/catalog.parquet",
        flow="data/ingest.json",
    log:
        "logs/ingest_catalog.log",
    benchmark:
        "logs/benchmarks/ingest_catalog.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        series=P.ingest.series,
        labelled=P.ingest.labels is not None,
    message:
        "Joining slices and labels in the catalog"
    script:
        "../scripts/ingest_catalog.py"


rule ingest_page:
    input:
        modules=modules(
            *READ_MODULES,
            "figures/*.py",
            "report/cells.py",
            "report/render.py",
            "report/ingestion.py",
            "templates/ingestion*",
            "templates/parts*",
            "templates/report.css",
        ),
        catalog=rules.ingest_catalog.output.catalog,
        flow=rules.ingest_catalog.output.flow,
    output:
        report(
            "reports/ingestion.html",
            caption="../captions/ingestion.rst",
            category="Report",
        ),
    log:
        "logs/ingest_page.log",
    benchmark:
        "logs/benchmarks/ingest_page.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        images=lambda wildcards: str(IMAGES),
        salt_file=P.ingest.salt_file,
        read_seconds=P.ingest.read_seconds,
        read_memory_gb=P.ingest.read_memory_gb,
        synthetic=P.is_phantom or (RAW / "phantom.parquet").is_file(),
        # no path: the page goes to others
        made_with=P.ingest.model_dump(
            mode="json", exclude={"raw", "images", "labels", "salt_file"}
        ),
    message:
        "Writing reports/ingestion.html"
    script:
        "../scripts/ingest_page.py"


# The whole stage by one name: what is lost of it is made again, whatever was made from it.
rule ingest:
    input:
        rules.ingest_labels.output,
        rules.ingest_list.output,
        expand(rules.ingest_shard.output.images, shard=SHARDS),
        expand(rules.ingest_shard.output.rows, shard=SHARDS),
        rules.ingest_catalog.output,
        rules.ingest_page.output,
    message:
        "All of ingestion is made"
