# The embedded data: synthetic head CT in the RSNA layout. Empty where ingest.raw names a folder.
if P.is_phantom:

    rule phantom:
        input:
            modules("labels.py", "phantom/*.py", "phantom/*.npz"),
        output:
            labels="data/raw/stage_2_train.csv",
            table="data/raw/phantom.parquet",
        log:
            "logs/phantom.log",
        benchmark:
            "logs/benchmarks/phantom.tsv"
        conda:
            "../../environment.yml"
        threads: ALL_CORES
        resources:
            mem_mb=2000,
        params:
            phantom=section("phantom"),
            seed=P.seed,
        message:
            "Making the synthetic head CT"
        script:
            "../scripts/phantom.py"

else:

    rule phantom:
        message:
            "ingest.raw names a folder: no phantom is made"
